import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import { monotonicMs } from '../clock.ts'
import type { StreamModel, StreamTask } from '../core/stream-task.ts'
import type { LossCause, Observer } from './observer.ts'
import type { Stream } from './stream.ts'

/** A worker that shows no sign of life for so long is taken to be stuck ... */
const STUCK_AFTER_MS = 2000
/** ... but a slow model may take its time: as long as for so many windows, several batches. */
const PATIENCE_WINDOWS = 64
/** Loading a model takes a second; this is for one that never comes. */
const OPEN_TIMEOUT_MS = 60_000
const WATCH_INTERVAL_MS = 250
/** A worker that lives less long than this is restarted with growing delay. */
const HEALTHY_AFTER_MS = 10_000
const LONGEST_BACKOFF_MS = 5000
const STOP_TIMEOUT_MS = 3000

/** Keeps one worker thread serving each stream: one long-lived task each, started again when it ends. */
export class WorkerPool {
  readonly #piscina: Piscina
  readonly #streams: readonly Stream[]
  readonly #task: { model: StreamModel | null; motifCount: number }
  readonly #observer: Observer
  readonly #aborts: AbortController[] = []
  #stopping = false
  #tasks: Promise<void>[] = []
  #watch: NodeJS.Timeout | undefined
  #watchedMs = 0
  #pausedUntilMs = 0

  constructor(options: {
    workerUrl: URL
    streams: readonly Stream[]
    model: StreamModel | null
    motifCount: number
    observer: Observer
  }) {
    const threads = options.streams.length
    this.#piscina = new Piscina({
      filename: fileURLToPath(options.workerUrl),
      minThreads: threads,
      maxThreads: threads,
      idleTimeout: Number.POSITIVE_INFINITY,
      atomics: 'disabled', // the ring does the waiting
      recordTiming: false,
    })
    this.#piscina.on('error', error => this.#observer.poolFailed(error))
    this.#streams = options.streams
    this.#task = { model: options.model, motifCount: options.motifCount }
    this.#observer = options.observer
  }

  /** Resolves when every worker has opened its backend; rejects when one cannot. */
  async start(): Promise<void> {
    await Promise.all(this.#streams.map((stream, worker) => this.#open(stream, worker)))
    this.#watch = setInterval(() => this.#abortStuckWorkers(), WATCH_INTERVAL_MS)
  }

  /** Tells every worker to end after its last window; gives up on those that do not. */
  async stop(): Promise<void> {
    this.#stopping = true
    clearInterval(this.#watch)
    for (const stream of this.#streams) stream.close()
    await Promise.race([Promise.all(this.#tasks), sleep(STOP_TIMEOUT_MS)])
    // A thread that hangs in native code cannot be ended before it returns: the process' end will do.
    await Promise.race([this.#piscina.destroy(), sleep(STOP_TIMEOUT_MS)])
  }

  async #open(stream: Stream, worker: number): Promise<void> {
    const firstTask = this.#run(stream, worker)
    const failed = firstTask.then(({ cause, error }) => {
      if (cause !== null) throw error
    })
    this.#tasks.push(this.#keepServing(stream, worker, firstTask))
    await Promise.race([stream.ring.untilServing(), failed])
    if (this.#stopping) return
    this.#observer.workerServing(worker)
  }

  async #keepServing(stream: Stream, worker: number, firstTask: Promise<TaskEnd>): Promise<void> {
    let task = firstTask
    let backoffMs = 0
    while (true) {
      const startedMs = monotonicMs()
      const { cause, error } = await task
      if (this.#stopping || cause === null) return
      this.#observer.workerLost(worker, cause, error)
      stream.workerLost()

      if (monotonicMs() - startedMs > HEALTHY_AFTER_MS) backoffMs = 0
      await sleep(backoffMs, undefined, { ref: false })
      backoffMs = Math.min(Math.max(100, backoffMs * 2), LONGEST_BACKOFF_MS)
      if (this.#stopping) return
      task = this.#run(stream, worker)
      const serving = stream.ring.untilServing().then(() => true)
      const ended = task.then(() => false)
      void Promise.race([serving, ended]).then(serves => serves && this.#observer.workerServing(worker))
    }
  }

  async #run(stream: Stream, worker: number): Promise<TaskEnd> {
    const abort = new AbortController()
    this.#aborts[worker] = abort
    const task: StreamTask = {
      ring: stream.ring.buffer,
      counters: stream.counters.buffer,
      ...this.#task,
    }
    const opening = setTimeout(() => {
      if (stream.ring.serving) return
      abort.abort(new Error(`The worker has not opened its backend within ${OPEN_TIMEOUT_MS / 1000} s`))
    }, OPEN_TIMEOUT_MS)
    try {
      const ended: 'stopped' | 'stream_lost' = await this.#piscina.run(task, { signal: abort.signal })
      return { cause: ended === 'stopped' ? null : 'stream_lost', error: null }
    } catch (error) {
      if (abort.signal.aborted) return { cause: 'stuck', error: abort.signal.reason }
      const exited = error instanceof Error && error.message.startsWith('worker exited')
      return { cause: exited ? 'exit' : 'error', error }
    } finally {
      clearTimeout(opening)
    }
  }

  #abortStuckWorkers(): void {
    const nowMs = monotonicMs()
    // The whole process was stopped or starved: silence counts from its end, or healthy workers would go.
    if (nowMs - this.#watchedMs > WATCH_INTERVAL_MS * 2) this.#pausedUntilMs = nowMs
    this.#watchedMs = nowMs
    this.#streams.forEach((stream, worker) => {
      const silentMs = nowMs - Math.max(stream.counters.heartbeatMs, this.#pausedUntilMs)
      const patienceMs = Math.max(STUCK_AFTER_MS, stream.serviceMs * PATIENCE_WINDOWS)
      if (!stream.ring.serving || silentMs <= patienceMs) return
      this.#aborts[worker]!.abort(
        new Error(`The worker has shown no sign of life for ${silentMs.toFixed(0)} ms`),
      )
    })
  }
}

interface TaskEnd {
  /** Null when the worker ended because it was told to. */
  readonly cause: LossCause | null
  readonly error: unknown
}
