import { monotonicMs } from '../clock.ts'
import { predictedWaitMs, type Refusal, refusal } from '../core/admission.ts'
import type { BackendKind } from '../core/backend.ts'
import { LEVEL, LEVELS, type Level } from '../core/degradation.ts'
import type { Outcome } from '../core/outcome.ts'
import type { Slot } from '../core/slot.ts'
import type { BackendStatus } from './backend-status.ts'
import { BackendWatch } from './backend-watch.ts'
import { BulkLane } from './bulk-lane.ts'
import { LoadWatch } from './load-watch.ts'
import type { Observer, RefusalCode, RefusalReason, StreamObserver, Witness } from './observer.ts'
import { type CommonTask, type ReplacedTask, WorkerPool } from './pool.ts'
import { ReplaceError } from './replace-error.ts'
import { type InFlight, Stream, type Waiter, type WindowTimes } from './stream.ts'
import { OPEN_TIMEOUT_MS } from './stream-worker.ts'
import type { Threads } from './threads.ts'

/** Why a window was not admitted, and when to come back. */
export interface Refused {
  readonly code: RefusalCode
  /** In words, with the values that decided. */
  readonly detail: string
  readonly retryAfterMs: number
}

export interface EngineOptions {
  /** `minThreads` is how many streams there shall be. */
  readonly threads: Threads
  readonly ringSlots: number
  readonly task: CommonTask
  readonly observer: Observer
  /** Absent: nobody listens. */
  readonly witness?: Pick<Witness, 'windowAnswered'>
  /** Told, again and again, that a thread was given up so long ago and has not ended. Absent: nobody minds. */
  readonly threadStuck?: (leavingMs: number) => void
}

/** A result of the engine's own asking. */
export interface Inferred {
  /** float32[64 + motifs] */
  readonly output: Float32Array
  readonly backend: BackendKind
  /** Of the model, see Engine.generation. */
  readonly generation: number
}

/** The engine has asked itself, and got no answer. */
export class NoResult extends Error {
  /** Null: the window was not even sent. */
  readonly outcome: Outcome | null

  constructor(message: string, outcome: Outcome | null = null) {
    super(message)
    this.outcome = outcome
  }
}

/** Work for a worker that is worth waking it for before the turn ends, ms: a wake costs some hundredths of that. */
const WORK_PER_WAKE_MS = 0.5
/** A worker that was just replaced needs about so long to open its backend. */
const REOPEN_MS = 1000
/** Long enough for every worker to be given up at its slowest, twice: what is silent by then will stay so. */
const HOPELESS_AFTER_MS = 2 * OPEN_TIMEOUT_MS

/** "Infer this window": admits windows into rings, and sees to it that each one ends, once and in time. */
export class Engine {
  readonly streams: readonly Stream[]
  /** The way in for work that can wait, behind all that cannot. */
  readonly bulk: BulkLane
  /** How hard the engine is pressed. */
  readonly loadWatch: LoadWatch
  readonly #pool: WorkerPool
  readonly #backends: BackendWatch
  readonly #observer: Observer
  /** Of all rings. */
  readonly #slots: number
  /** Open to clients: false until the model has shown that it answers rightly. */
  #open = false
  #draining = false
  /** Closed to clients by one of them. The workers keep their backends open. */
  #unloaded = false
  #expiry: NodeJS.Timeout | undefined
  #expiryAtMs = Number.POSITIVE_INFINITY
  #wakeScheduled = false
  /** What the workers were given in this turn of the event loop and not woken for, ms. */
  #workMs = 0

  constructor(options: EngineOptions) {
    this.#observer = options.observer
    this.#slots = options.threads.minThreads * options.ringSlots
    const observer: StreamObserver = {
      inferenceEnded: (outcome, durationMs, slot) =>
        options.observer.inferenceEnded(outcome, durationMs, slot),
      windowAnswered: (window, slot, settledMs, answeredMs) =>
        options.witness?.windowAnswered(window, slot, settledMs, answeredMs),
      cancelled: () => options.observer.cancelled(),
      settled: () => this.bulk.pump(),
    }
    this.streams = Array.from(
      { length: options.threads.minThreads },
      () => new Stream({ capacity: options.ringSlots, motifCount: options.task.motifCount, observer }),
    )
    this.loadWatch = new LoadWatch(this.streams)
    this.bulk = new BulkLane(this.streams, this.loadWatch)
    this.#backends = new BackendWatch(this.streams, options.task.primary.kind, options.observer)
    this.#pool = new WorkerPool({
      threadStuck: () => {},
      ...options,
      streams: this.streams,
      backends: this.#backends,
    })
  }

  /**
   * Resolves when every worker serves its stream, which for a device that is not there now may take
   * for ever. @throws what keeps a backend from opening until somebody has changed something
   */
  async start(): Promise<void> {
    for (const stream of this.streams) void stream.listen()
    await this.#pool.start()
  }

  /** Resolves when every worker serves its stream again. */
  async untilServing(): Promise<void> {
    await Promise.all(this.streams.map(({ ring }) => ring.untilServing()))
  }

  /** Lets clients in. What the engine inferred for itself before this is not counted anywhere. */
  open(): void {
    for (const stream of this.streams) {
      stream.counters.reset()
      stream.takePeak()
    }
    this.#open = true
    this.#pool.started()
  }

  get draining(): boolean {
    return this.#draining
  }

  /** Admits nothing more until load(); what is admitted is answered. */
  unload(): void {
    this.#unloaded = true
  }

  load(): void {
    this.#unloaded = false
  }

  get unloaded(): boolean {
    return this.#unloaded
  }

  /**
   * Opens the model beside the one that serves, in every stream; when all have shown that they answer
   * the golden windows rightly, they take over between two windows, all in one turn of the main thread
   * as seen by new windows. Resolves when the one before has been given back.
   * @param task a backend of the same kind
   * @throws ReplaceError; then nothing has changed
   */
  async replaceModel(task: ReplacedTask): Promise<void> {
    if (this.#draining) throw new ReplaceError('draining', 'The server is shutting down')
    await this.#pool.replace(task)
  }

  /** Counts the models that were served: 0 is that of the start. */
  get generation(): number {
    return this.#pool.generation
  }

  /** At least one worker has a model and answers. */
  get available(): boolean {
    return this.#open && !this.#unloaded && this.streams.some(({ ring }) => ring.serving !== null)
  }

  /** What answers, and why it is not what was configured. */
  get backends(): BackendStatus {
    return this.#backends.status
  }

  /** No worker has shown a sign of life for so long that only another process can help. A device that is away is no such case. */
  get hopeless(): boolean {
    const { answering, fault } = this.backends
    if (!this.#open || (answering.length === 0 && fault !== null)) return false
    const nowMs = monotonicMs()
    return this.streams.every(({ counters }) => nowMs - counters.heartbeatMs > HOPELESS_AFTER_MS)
  }

  /** What is given up under the load of the moment: docs/backpressure.md. */
  get level(): Level {
    return this.loadWatch.level
  }

  /**
   * Decides whether a window that arrived can be answered before its deadline, before anything is
   * copied. To go on, fill `ring.nextSlot` of the stream and submit() in the same turn of the event
   * loop; a stream that is not submitted to holds nothing.
   */
  admit(times: WindowTimes, nowMs = monotonicMs()): Stream | Refused {
    return this.refuseAll() ?? this.#choose(times, nowMs)
  }

  /** What every window is refused with at the moment, whatever it is; null while clients are let in. */
  refuseAll(): Refused | null {
    if (this.#draining) return this.#refuse('draining', 'draining', 'The server is shutting down', REOPEN_MS)
    if (!this.#open) {
      return this.#refuse(
        'model_unavailable',
        'starting',
        'The model is not ready; GET /readyz says why',
        REOPEN_MS,
      )
    }
    if (!this.#unloaded) return null
    return this.#refuse(
      'model_unavailable',
      'unloaded',
      'The model was unloaded; POST /v2/repository/models/<name>/load brings it back',
      REOPEN_MS,
    )
  }

  /** What is refused at the moment that can wait: several windows at once, or low priority. Null while it is taken. */
  refuseBulk(): Refused | null {
    if (this.level < LEVEL.shed) return null
    const { name, dwellMs } = LEVELS[LEVEL.shed]!
    const detail = `Only live windows are taken under this load (level ${LEVEL.shed}, ${name})`
    return this.#refuse('overloaded', 'low_priority', detail, dwellMs)
  }

  /** A window that waited in the bulk lane is given up. Counted like one that was refused when it came. */
  shed(code: RefusalCode): void {
    const reasons = { overloaded: 'no_room', draining: 'draining', model_unavailable: 'no_worker' } as const
    this.#observer.refused(code, reasons[code])
  }

  /** Hands the window in the stream's next slot to its worker; `waiter` is told the outcome once. */
  submit(stream: Stream, times: WindowTimes, waiter: Waiter): InFlight {
    const inFlight = stream.publish(times, waiter)
    this.#scheduleExpiry(times.deadlineMs)
    this.#scheduleWake(stream.serviceMs)
    return inFlight
  }

  /**
   * Infers one window for the engine's own use (golden check, warm-up), also while closed to clients.
   * @param window float32[100][9], raw sensor units
   * @throws NoResult
   */
  infer(window: Float32Array, timeoutMs: number, stream: Stream): Promise<Inferred> {
    return new Promise((resolve, reject) => {
      const slot = stream.ring.nextSlot
      if (slot === null) return reject(new NoResult('the ring is full'))
      slot.input.set(window)
      const arrivedMs = monotonicMs()
      this.submit(
        stream,
        { arrivedMs, deadlineMs: arrivedMs + timeoutMs },
        {
          settle: (outcome: Outcome, { output, backend, generation }: Slot) =>
            outcome === 'ok'
              ? resolve({ output: output.slice(), backend, generation })
              : reject(new NoResult(outcome, outcome)),
        },
      )
    })
  }

  /** Admits nothing more; resolves when everything admitted has been answered. */
  async drain(): Promise<void> {
    this.#draining = true
    while (this.streams.some(stream => stream.unsettled > 0)) {
      await new Promise(resolve => setTimeout(resolve, 2))
    }
  }

  /** Ends the workers. Call after drain(): what is still in flight stays unanswered. */
  async close(): Promise<void> {
    clearTimeout(this.#expiry)
    this.loadWatch.stop()
    await this.#pool.stop()
  }

  /** Of those that were ended or given up, what has not gone: the process can end without them only. */
  get threadsLeft(): number {
    return this.#pool.threadsLeft
  }

  /** The stream that would answer soonest among those that admit the window. */
  #choose({ arrivedMs, deadlineMs }: WindowTimes, nowMs: number): Stream | Refused {
    this.loadWatch.sawLive(nowMs)
    const budgetMs = deadlineMs - nowMs
    let best: Stream | null = null
    let bestWaitMs = Number.POSITIVE_INFINITY
    let refused: Refusal | null = null
    for (const stream of this.streams) {
      if (stream.ring.serving === null) continue
      const load = stream.load(nowMs)
      const refusedHere = refusal(load, budgetMs)
      if (refusedHere !== null) {
        if (refused === null || refusedHere.retryAfterMs < refused.retryAfterMs) refused = refusedHere
        continue
      }
      const waitMs = predictedWaitMs(load)
      if (waitMs < bestWaitMs) {
        best = stream
        bestWaitMs = waitMs
      }
    }
    if (best !== null) return best
    if (refused === null) {
      const { fault } = this.#backends.status
      const detail =
        fault?.cause === 'wrong_answers'
          ? 'The golden check failed: the model does not answer as it was trained to; GET /readyz says more'
          : `No worker has a model at the moment${fault === null ? '' : `: ${fault.cause}`}`
      return this.#refuse('model_unavailable', 'no_worker', detail, REOPEN_MS)
    }
    const { reason, retryAfterMs } = refused
    const answerMs = reason === 'ring_full' ? Number.POSITIVE_INFINITY : deadlineMs + retryAfterMs
    this.loadWatch.countShed(answerMs - arrivedMs)
    const detail =
      reason === 'ring_full'
        ? `All ${this.#slots} slots are taken`
        : `The answer would take ${inTenths(budgetMs + retryAfterMs)} ms, ${inTenths(budgetMs)} ms are left until the deadline`
    return this.#refuse('overloaded', reason, detail, retryAfterMs)
  }

  #refuse(code: RefusalCode, reason: RefusalReason, detail: string, retryAfterMs: number): Refused {
    this.#observer.refused(code, reason)
    return { code, detail, retryAfterMs }
  }

  /**
   * Wakes the workers once per turn of the event loop, not once per window: a wake costs more than a
   * window. In a long turn (many connections) also in between, so that they do not idle through it.
   */
  #scheduleWake(serviceMs: number): void {
    this.#workMs += serviceMs
    if (this.#workMs >= WORK_PER_WAKE_MS) {
      this.#workMs = 0
      this.#wakeWorkers()
    }
    if (this.#wakeScheduled) return
    this.#wakeScheduled = true
    setImmediate(() => {
      this.#wakeScheduled = false
      this.#workMs = 0
      this.#wakeWorkers()
    })
  }

  #wakeWorkers(): void {
    for (const { ring } of this.streams) ring.wakeWorker()
  }

  /** Deadlines mostly come in order, so the timer is seldom set anew: once per deadline, not per window. */
  #scheduleExpiry(deadlineMs: number): void {
    if (deadlineMs >= this.#expiryAtMs) return
    clearTimeout(this.#expiry)
    this.#expiryAtMs = deadlineMs
    this.#expiry = setTimeout(() => this.#expire(), Math.max(1, deadlineMs - monotonicMs()))
  }

  #expire(): void {
    const nowMs = monotonicMs()
    this.#expiryAtMs = Number.POSITIVE_INFINITY
    const nearestMs = Math.min(...this.streams.map(stream => stream.expire(nowMs)))
    if (nearestMs < Number.POSITIVE_INFINITY) this.#scheduleExpiry(nearestMs)
  }
}

/** Milliseconds with one decimal, 0 at least. toFixed() takes longer than all the rest of a refusal's words. */
function inTenths(milliseconds: number): string {
  const tenths = Math.round(Math.max(0, milliseconds) * 10)
  return `${Math.floor(tenths / 10)}.${tenths % 10}`
}
