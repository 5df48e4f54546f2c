import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../clock.ts'
import { type BackendFault, LONGEST_BACKOFF_MS, longerBackoffMs } from '../core/backend.ts'
import type { StreamReport, StreamTask, TaskEnd } from '../core/stream-task.ts'
import type { BackendWatch } from './backend-watch.ts'
import { LeavingThreads } from './leaving-threads.ts'
import type { LossCause, Observer, WorkerLoss } from './observer.ts'
import type { Stream } from './stream.ts'
import type { Threads } from './threads.ts'

/** A worker that shows no sign of life for so long is taken to be stuck ... */
const STUCK_AFTER_MS = 2000
/** ... but a slow model may take its time: as long as for so many windows, several batches. */
const PATIENCE_WINDOWS = 64
/** Opening may take as long as its own time-outs; this is for a worker that has none, or does not come to them. */
const OPEN_TIMEOUT_MS = 60_000
const WATCH_INTERVAL_MS = 250
/** A thread that has not ended so long after it was told to sits in a native call; none of ours takes longer than 3 s. */
const LEAVE_TIMEOUT_MS = 5000
/** A worker that serves for less long than this is restarted with growing delay. */
const HEALTHY_AFTER_MS = 10_000
const STOP_TIMEOUT_MS = 3000

/** What every worker gets, see StreamTask. */
export type CommonTask = Pick<
  StreamTask,
  'motifCount' | 'primary' | 'fallback' | 'normalisation' | 'selfCheck'
>

/** Keeps one worker thread serving each stream: one long-lived task each, started again when it ends. */
export class WorkerPool {
  readonly #threads: Threads
  readonly #streams: readonly Stream[]
  readonly #task: CommonTask
  readonly #observer: Observer
  readonly #backends: BackendWatch
  readonly #threadStuck: (leavingMs: number) => void
  readonly #leaving = new LeavingThreads()
  /** The task of each worker, null between two. */
  readonly #running: (RunningTask | null)[]
  readonly #stop = new AbortController()
  #started = false
  #tasks: Promise<void>[] = []
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
    this.#threads = options.threads
    this.#threads.on('error', error => this.#observer.poolFailed(error))
    this.#threads.on('message', (report: StreamReport) => this.#onReport(report))
    this.#streams = options.streams
    this.#task = options.task
    this.#observer = options.observer
    this.#backends = options.backends
    this.#threadStuck = options.threadStuck
    this.#running = options.streams.map(() => null)
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
    await Promise.all(this.#streams.map((stream, worker) => this.#open(stream, worker)))
  }

  /** From here on nothing that a worker fails with is taken for a mistake of the configuration. */
  started(): void {
    this.#started = true
  }

  /** Tells every worker to end after its last window; gives up on those that do not. */
  async stop(): Promise<void> {
    this.#stop.abort()
    clearInterval(this.#watch)
    for (const stream of this.#streams) stream.close()
    await Promise.race([Promise.all(this.#tasks), sleep(STOP_TIMEOUT_MS)])
    this.#leaving.look(this.#threads.threads, monotonicMs())
    await Promise.race([this.#threads.destroy(), sleep(STOP_TIMEOUT_MS)])
    this.#leaving.look([], monotonicMs())
  }

  /** Threads that were given up and have not ended: a native call cannot be ended before it returns. */
  get threadsLeft(): number {
    return this.#leaving.count
  }

  async #open(stream: Stream, worker: number): Promise<void> {
    const cannotServe = new Promise<never>((_, reject) => {
      this.#tasks.push(this.#keepServing(stream, worker, reject))
    })
    await Promise.race([stream.ring.untilServing(), cannotServe])
  }

  get #stopping(): boolean {
    return this.#stop.signal.aborted
  }

  /** @param giveUp told what keeps a stream from being served that has not been served yet */
  async #keepServing(stream: Stream, worker: number, giveUp: (why: Error) => void): Promise<void> {
    let backoffMs = 0
    let hasServed = false
    while (!this.#stopping) {
      const loss = await this.#run(stream, worker)
      if (this.#stopping || loss === null) return
      stream.workerLost()
      this.#backends.lost(worker, loss.fault)
      this.#observer.workerLost(worker, loss)

      hasServed ||= loss.servedMs > 0
      if (loss.permanent && !hasServed) return giveUp(loss.error ?? new Error(inWords(loss.fault!)))
      if (loss.servedMs > HEALTHY_AFTER_MS) backoffMs = 0
      if (loss.permanent && loss.fault !== null) backoffMs = LONGEST_BACKOFF_MS
      await sleep(backoffMs, undefined, { ref: false, signal: this.#stop.signal }).catch(() => {})
      backoffMs = longerBackoffMs(backoffMs)
    }
  }

  /** Runs one task to its end. Returns null when it ended because it was told to. */
  async #run(stream: Stream, worker: number): Promise<(WorkerLoss & { servedMs: number }) | null> {
    const running: RunningTask = {
      abort: new AbortController(),
      notServingSinceMs: monotonicMs(),
      servingSinceMs: Number.POSITIVE_INFINITY,
    }
    this.#running[worker] = running
    const loss = await this.#lossOf(
      {
        worker,
        ring: stream.ring.buffer,
        epoch: stream.ring.epoch,
        counters: stream.counters.buffer,
        started: this.#started,
        ...this.#task,
      },
      running.abort.signal,
    )
    this.#running[worker] = null
    return loss && { ...loss, servedMs: Math.max(0, monotonicMs() - running.servingSinceMs) }
  }

  async #lossOf(task: StreamTask, signal: AbortSignal): Promise<WorkerLoss | null> {
    try {
      const end: TaskEnd = await this.#threads.run(task, { signal })
      if (end.ended === 'stopped') return null
      const { ended, cause, detail } = end
      const permanent = ended === 'not_opened' && end.permanent
      return { cause: ended, error: null, fault: { cause, detail }, permanent }
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown))
      const lost = { fault: null, permanent: true }
      if (signal.aborted) return { ...lost, cause: 'stuck', error: signal.reason }
      return { ...lost, cause: causeOf(error), error }
    }
  }

  #onReport(report: StreamReport): void {
    const running = this.#running[report.worker]
    if (running && report.serving !== null) {
      running.servingSinceMs = Math.min(running.servingSinceMs, monotonicMs())
    }
    this.#backends.reported(report)
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
    this.#running.forEach((running, worker) => {
      if (running === null) return
      const { ring, counters, serviceMs } = this.#streams[worker]!
      const serving = ring.serving !== null
      if (serving) running.notServingSinceMs = nowMs
      const lastSignMs = serving ? counters.heartbeatMs : running.notServingSinceMs
      const silentMs = nowMs - Math.max(lastSignMs, this.#pausedUntilMs)
      const patienceMs = serving ? Math.max(STUCK_AFTER_MS, serviceMs * PATIENCE_WINDOWS) : OPEN_TIMEOUT_MS
      if (silentMs <= patienceMs) return
      const what = serving ? 'shown no sign of life' : 'not opened its backend'
      running.abort.abort(new Error(`The worker has ${what} for ${silentMs.toFixed(0)} ms`))
    })
  }
}

interface RunningTask {
  readonly abort: AbortController
  /** When the watch last saw it serve, or its start. */
  notServingSinceMs: number
  /** Infinity before it has served. */
  servingSinceMs: number
}

/** Of a thread that ended of itself. */
function causeOf({ code, message }: NodeJS.ErrnoException): LossCause {
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') return 'out_of_memory'
  return message.startsWith('worker exited') ? 'exit' : 'error'
}

function inWords({ cause, detail }: BackendFault): string {
  return `${cause}: ${detail}`
}
