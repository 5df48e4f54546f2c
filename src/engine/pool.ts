import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../clock.ts'
import type { StreamReport, SuccessorReady } from '../core/stream-task.ts'
import type { BackendWatch } from './backend-watch.ts'
import { LeavingThreads } from './leaving-threads.ts'
import type { Observer } from './observer.ts'
import { ReplaceError } from './replace-error.ts'
import type { Stream } from './stream.ts'
import { type CommonTask, type ServedModel, StreamWorker } from './stream-worker.ts'
import type { Threads } from './threads.ts'

export type { CommonTask } from './stream-worker.ts'

const WATCH_INTERVAL_MS = 250
/** A thread that has not ended so long after it was told to sits in a native call; none of ours takes longer than 3 s. */
const LEAVE_TIMEOUT_MS = 5000
const STOP_TIMEOUT_MS = 3000

/** What another model brings. */
export type ReplacedTask = Omit<CommonTask, 'motifCount'>

/** The workers of all streams: starts them, looks after them, has another model take over in all of them, ends them. */
export class WorkerPool {
  readonly #threads: Threads
  readonly #streams: readonly Stream[]
  readonly #workers: readonly StreamWorker[]
  readonly #threadStuck: (leavingMs: number) => void
  readonly #leaving = new LeavingThreads()
  readonly #stop = new AbortController()
  #model: ServedModel
  #replacing = false
  #watch: NodeJS.Timeout | undefined
  #watchedMs = 0
  #pausedUntilMs = 0

  constructor(options: {
    threads: Threads
    streams: readonly Stream[]
    task: CommonTask
    observer: Observer
    backends: BackendWatch
    threadStuck: (leavingMs: number) => void
  }) {
    const { threads, streams, observer } = options
    this.#threads = threads
    this.#threads.on('error', error => observer.poolFailed(error))
    this.#threads.on('message', (report: StreamReport | SuccessorReady) =>
      this.#workers[report.worker]!.reported(report),
    )
    this.#streams = streams
    this.#threadStuck = options.threadStuck
    this.#model = { task: options.task, generation: 0 }
    const common = { ...options, model: this.#model, stop: this.#stop.signal }
    this.#workers = streams.map((stream, worker) => new StreamWorker({ ...common, stream, worker }))
  }

  /**
   * Resolves when every worker has served; for a device that is not there now, that may take for
   * ever. Rejects when one cannot before somebody has changed something.
   */
  async start(): Promise<void> {
    this.#watch = setInterval(() => {
      const nowMs = monotonicMs()
      this.#abortStuckWorkers(nowMs)
      this.#watchLeavingThreads(nowMs)
    }, WATCH_INTERVAL_MS)
    await Promise.all(
      this.#workers.map((worker, index) => {
        const cannotServe = new Promise<never>((_, reject) => void worker.keepServing(reject))
        return Promise.race([this.#streams[index]!.ring.untilServing(), cannotServe])
      }),
    )
  }

  /** From here on nothing that a worker fails with is taken for a mistake of the configuration. */
  started(): void {
    for (const worker of this.#workers) worker.started()
  }

  get generation(): number {
    return this.#model.generation
  }

  /**
   * Opens another model beside the one that serves, in one stream after the other, which leaves the
   * processors to those who serve; then it takes over in all of them in one turn of the event loop.
   * Resolves when what served before has been given back.
   * @throws ReplaceError; then nothing has changed
   */
  async replace(task: ReplacedTask): Promise<void> {
    if (this.#stop.signal.aborted) throw new ReplaceError('draining', 'The workers end')
    if (this.#replacing) throw new ReplaceError('busy', 'Another model is about to take over')
    this.#replacing = true
    try {
      const model = { task: { ...this.#model.task, ...task }, generation: this.generation + 1 }
      await this.#prepare(model)
      this.#model = model
      await Promise.all(this.#workers.map(worker => worker.handOver()))
    } finally {
      this.#replacing = false
    }
  }

  /** Tells every worker to end after its last window; gives up on those that do not. */
  async stop(): Promise<void> {
    this.#stop.abort()
    clearInterval(this.#watch)
    for (const stream of this.#streams) stream.close()
    const ended = Promise.all(this.#workers.map(worker => worker.ended()))
    await Promise.race([ended, sleep(STOP_TIMEOUT_MS)])
    this.#leaving.look(this.#threads.threads, monotonicMs())
    await Promise.race([this.#threads.destroy(), sleep(STOP_TIMEOUT_MS)])
    this.#leaving.look([], monotonicMs())
  }

  /** Threads that were given up and have not ended: a native call cannot be ended before it returns. */
  get threadsLeft(): number {
    return this.#leaving.count
  }

  async #prepare(model: ServedModel): Promise<void> {
    try {
      for (const worker of this.#workers) await worker.prepare(model)
      // The first ones have waited for the last.
      for (const worker of this.#workers) worker.expectSuccessor()
      if (this.#stop.signal.aborted) throw new ReplaceError('draining', 'The workers end')
    } catch (error) {
      await Promise.all(this.#workers.map(worker => worker.dismiss()))
      throw error
    }
  }

  /** The pool has replaced such a thread, but it holds what it held, and process.exit() would wait for it for ever. */
  #watchLeavingThreads(nowMs: number): void {
    this.#leaving.look(this.#threads.threads, nowMs)
    const leavingMs = nowMs - Math.max(this.#leaving.oldestMs, this.#pausedUntilMs)
    if (leavingMs > LEAVE_TIMEOUT_MS) this.#threadStuck(leavingMs)
  }

  #abortStuckWorkers(nowMs: number): void {
    // The whole process was stopped or starved: silence counts from its end, or healthy workers would go.
    if (nowMs - this.#watchedMs > WATCH_INTERVAL_MS * 2) this.#pausedUntilMs = nowMs
    this.#watchedMs = nowMs
    for (const worker of this.#workers) worker.abortStuck(nowMs, this.#pausedUntilMs)
  }
}
