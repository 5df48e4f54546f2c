import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../clock.ts'
import { type BackendFault, LONGEST_BACKOFF_MS, longerBackoffMs } from '../core/backend.ts'
import type { StreamReport, StreamTask, SuccessorReady, TaskEnd } from '../core/stream-task.ts'
import type { BackendWatch } from './backend-watch.ts'
import type { LossCause, Observer, WorkerLoss } from './observer.ts'
import { ReplaceError } from './replace-error.ts'
import type { Stream } from './stream.ts'
import type { Threads } from './threads.ts'

/** A worker that shows no sign of life for so long is taken to be stuck ... */
const STUCK_AFTER_MS = 2000
/** ... but a slow model may take its time: as long as for so many windows, several batches. */
const PATIENCE_WINDOWS = 64
/** Opening may take as long as its own time-outs; this is for a worker that has none, or does not come to them. */
export const OPEN_TIMEOUT_MS = 60_000
/** What a worker that is not wanted any more has not given back so long after, it will not. */
const CLOSE_TIMEOUT_MS = 5000
/** A worker that serves for less long than this is restarted with growing delay. */
const HEALTHY_AFTER_MS = 10_000

/** What every worker gets, see StreamTask. */
export type CommonTask = Pick<
  StreamTask,
  'motifCount' | 'primary' | 'fallback' | 'normalisation' | 'selfCheck'
>

/** What the workers run. */
export interface ServedModel {
  readonly task: CommonTask
  /** Counts the models that were served: 0 is that of the start. */
  readonly generation: number
}

export interface StreamWorkerOptions {
  readonly threads: Threads
  readonly stream: Stream
  /** Its index. */
  readonly worker: number
  readonly model: ServedModel
  readonly observer: Observer
  readonly backends: BackendWatch
  /** Aborted when all workers shall end. */
  readonly stop: AbortSignal
}

/**
 * Keeps one stream served: by one long-lived task of a worker thread, by another one when that ends,
 * and by a successor with another model when that is called.
 */
export class StreamWorker {
  readonly #options: StreamWorkerOptions
  readonly #stream: Stream
  #model: ServedModel
  #started = false
  /** Serves, or has let go and is about to end. Null while there is a pause between two. */
  #running: RunningTask | null = null
  #successor: Successor | null = null
  /** Ends the pause before the next task. */
  #next = new AbortController()

  constructor(options: StreamWorkerOptions) {
    this.#options = options
    this.#stream = options.stream
    this.#model = options.model
  }

  /**
   * Until told to stop.
   * @param giveUp told what keeps a stream from being served that has not been served yet
   */
  async keepServing(giveUp: (why: Error) => void): Promise<void> {
    const { worker, observer, backends } = this.#options
    let backoffMs = 0
    let hasServed = false
    while (!this.#stopping) {
      const running = this.#takeCalled() ?? this.#run(this.#stream.ring.epoch, this.#model)
      this.#running = running
      const loss = await running.ended
      this.#running = null
      if (this.#stopping) return
      hasServed ||= running.servedMs > 0
      if (running.epoch !== this.#stream.ring.epoch) {
        // It had let go, and is missed by nobody.
        if (loss?.error) observer.poolFailed(loss.error)
        continue
      }
      if (loss === null) return
      this.#stream.workerLost(running.epoch)
      backends.lost(worker, loss.fault)
      observer.workerLost(worker, loss)

      if (loss.permanent && !hasServed) return giveUp(loss.error ?? new Error(inWords(loss.fault!)))
      if (running.servedMs > HEALTHY_AFTER_MS) backoffMs = 0
      if (loss.permanent && loss.fault !== null) backoffMs = LONGEST_BACKOFF_MS
      await this.#pause(backoffMs)
      backoffMs = longerBackoffMs(backoffMs)
    }
  }

  /** From here on nothing that the worker fails with is taken for a mistake of the configuration. */
  started(): void {
    this.#started = true
  }

  /**
   * Opens a model beside the one that serves. Resolves when it has shown that it answers rightly, and waits.
   * @throws ReplaceError; then nothing is left of it
   */
  async prepare(model: ServedModel): Promise<void> {
    const running = this.#run(this.#stream.ring.nameSuccessor(), model, { successor: true })
    this.#successor = { running, model, called: false }
    await Promise.race([running.ready.promise, running.ended])
    this.expectSuccessor()
  }

  /** @throws ReplaceError when the successor that was prepared has ended since */
  expectSuccessor(): void {
    const { loss } = this.#successor!.running
    if (loss === undefined) return
    this.#successor = null
    if (this.#stopping || loss === null) throw new ReplaceError('draining', 'The workers end')
    throw replaceErrorOf(loss)
  }

  /** The successor is not wanted any more. Resolves when it has given back what it had opened. */
  async dismiss(): Promise<void> {
    if (this.#successor === null) return
    const { running } = this.#successor
    this.#stream.ring.dismissSuccessor()
    running.leavingSinceMs = monotonicMs()
    const loss = await running.ended
    this.#successor = null
    if (loss?.error && !this.#stopping) this.#options.observer.poolFailed(loss.error)
  }

  /**
   * The successor that was prepared takes over, with the next window that nobody has taken. Resolves
   * when it serves and the one before it has ended.
   */
  async handOver(): Promise<void> {
    const { ring } = this.#stream
    const { running, model } = this.#successor!
    const before = this.#running
    this.#model = model
    this.#successor!.called = true
    ring.handOver()
    // Nobody serves who could let go. Read after the call: who comes to serve from here on takes nothing any more.
    if (ring.serving === null) this.#stream.workerLost(ring.epoch)
    this.#next.abort()
    if (before !== null) await before.ended
    await Promise.race([running.serving.promise, running.ended])
  }

  /** All workers are told to end. Resolves when those of this stream have. */
  async ended(): Promise<void> {
    const successor = this.#successor?.running
    // Its opening may take long, and is for nothing.
    if (successor && !successor.ready.reached) successor.abort.abort(new Error('The workers end'))
    await Promise.all([this.#running?.ended, successor?.ended])
  }

  reported(report: StreamReport | SuccessorReady): void {
    const running = [this.#running, this.#successor?.running].find(task => task?.epoch === report.epoch)
    if ('ready' in report) running?.ready.reach()
    else {
      if (report.serving !== null) running?.serving.reach()
      this.#options.backends.reported(report)
    }
  }

  /** To be called every so often. @param pausedUntilMs until then the whole process had stood still */
  abortStuck(nowMs: number, pausedUntilMs: number): void {
    for (const running of [this.#running, this.#successor?.running]) {
      if (!running) continue
      const { sinceMs, patienceMs, what } = this.#signOf(running, nowMs)
      const silentMs = nowMs - Math.max(sinceMs, pausedUntilMs)
      if (silentMs <= patienceMs) continue
      running.abort.abort(new Error(`The worker has ${what} for ${silentMs.toFixed(0)} ms`))
    }
  }

  get #stopping(): boolean {
    return this.#options.stop.aborted
  }

  /** When a task has last shown what is expected of it, and how long that may last. */
  #signOf(running: RunningTask, nowMs: number): { sinceMs: number; patienceMs: number; what: string } {
    const { ring, counters, serviceMs } = this.#stream
    const opening = { patienceMs: OPEN_TIMEOUT_MS, what: 'not opened its backend' }
    if (running.epoch === ring.epoch) {
      if (ring.serving === null) return { sinceMs: running.openingSinceMs, ...opening }
      running.openingSinceMs = nowMs
      const patienceMs = Math.max(STUCK_AFTER_MS, serviceMs * PATIENCE_WINDOWS)
      return { sinceMs: counters.heartbeatMs, patienceMs, what: 'shown no sign of life' }
    }
    if (running === this.#successor?.running && running.leavingSinceMs === Number.POSITIVE_INFINITY) {
      if (running.ready.reached) running.openingSinceMs = nowMs
      return { sinceMs: running.openingSinceMs, ...opening }
    }
    running.leavingSinceMs = Math.min(running.leavingSinceMs, nowMs)
    return { sinceMs: running.leavingSinceMs, patienceMs: CLOSE_TIMEOUT_MS, what: 'not closed its backend' }
  }

  /** The successor whose turn it is. */
  #takeCalled(): RunningTask | null {
    if (!this.#successor?.called) return null
    const { running } = this.#successor
    this.#successor = null
    return running
  }

  /** Until it is time for the next task, or a successor is called. */
  async #pause(milliseconds: number): Promise<void> {
    if (this.#successor?.called) return
    this.#next = new AbortController()
    const signal = AbortSignal.any([this.#next.signal, this.#options.stop])
    await sleep(milliseconds, undefined, { ref: false, signal }).catch(() => {})
  }

  #run(epoch: number, { task, generation }: ServedModel, { successor = false } = {}): RunningTask {
    const { worker, threads } = this.#options
    const { ring, counters } = this.#stream
    const streamTask: StreamTask = {
      worker,
      ring: ring.buffer,
      epoch,
      counters: counters.buffer,
      generation,
      successor,
      started: this.#started || successor,
      ...task,
    }
    return new RunningTask(epoch, signal => threads.run(streamTask, { signal }))
  }
}

/** One task of a worker thread. */
class RunningTask {
  readonly epoch: number
  readonly abort = new AbortController()
  /** Why it ended; null when it was told to. */
  readonly ended: Promise<WorkerLoss | null>
  /** The same, once it has. */
  loss: WorkerLoss | null | undefined
  /** It has a backend open, and waits for its turn. */
  readonly ready = new Milestone()
  readonly serving = new Milestone()
  /** When it was last seen to do more than open its backend, or its start. */
  openingSinceMs = monotonicMs()
  /** When it was seen to be of no use any more. */
  leavingSinceMs = Number.POSITIVE_INFINITY

  constructor(epoch: number, run: (signal: AbortSignal) => Promise<TaskEnd>) {
    this.epoch = epoch
    this.ended = this.#lossOf(run(this.abort.signal)).then(loss => {
      this.loss = loss
      return loss
    })
  }

  /** Since it first served. */
  get servedMs(): number {
    return Math.max(0, monotonicMs() - this.serving.reachedMs)
  }

  async #lossOf(run: Promise<TaskEnd>): Promise<WorkerLoss | null> {
    try {
      const end = await run
      if (end.ended === 'stopped') return null
      const { ended, cause, detail } = end
      const permanent = ended === 'not_opened' && end.permanent
      return { cause: ended, error: null, fault: { cause, detail }, permanent }
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown))
      const lost = { fault: null, permanent: true }
      const { aborted, reason } = this.abort.signal
      if (aborted) return { ...lost, cause: 'stuck', error: reason }
      return { ...lost, cause: causeOf(error), error }
    }
  }
}

/** Of a thread that ended of itself. */
function causeOf({ code, message }: NodeJS.ErrnoException): LossCause {
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') return 'out_of_memory'
  return message.startsWith('worker exited') ? 'exit' : 'error'
}

interface Successor {
  readonly running: RunningTask
  readonly model: ServedModel
  called: boolean
}

/** Something that happens once. */
class Milestone {
  /** Monotonic; Infinity before. */
  reachedMs = Number.POSITIVE_INFINITY
  readonly promise: Promise<void>
  #resolve = () => {}

  constructor() {
    this.promise = new Promise(resolve => {
      this.#resolve = resolve
    })
  }

  get reached(): boolean {
    return this.reachedMs < Number.POSITIVE_INFINITY
  }

  reach(): void {
    if (this.reached) return
    this.reachedMs = monotonicMs()
    this.#resolve()
  }
}

function replaceErrorOf({ cause, error, fault }: WorkerLoss): ReplaceError {
  if (fault !== null) return new ReplaceError(fault.cause, fault.detail)
  if (cause === 'exit' || cause === 'stuck' || cause === 'out_of_memory')
    return new ReplaceError(cause, error!.message)
  return new ReplaceError('error', error!.message)
}

function inWords({ cause, detail }: BackendFault): string {
  return `${cause}: ${detail}`
}
