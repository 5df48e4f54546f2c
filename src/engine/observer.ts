import type { BackendFault, BackendKind, DeviceReport } from '../core/backend.ts'
import type { Parity } from '../core/golden.ts'
import type { Outcome } from '../core/outcome.ts'
import type { Slot } from '../core/slot.ts'
import type { Fallback } from './backend-status.ts'
import type { InFlight } from './stream.ts'

/** Why a worker's task ended before it was told to stop. */
export const LOSS_CAUSES = ['error', 'exit', 'out_of_memory', 'stuck', 'stream_lost', 'not_opened'] as const

export type LossCause = (typeof LOSS_CAUSES)[number]

/** How a worker's task ended before it was told to stop. */
export interface WorkerLoss {
  readonly cause: LossCause
  /** What was thrown, null when the task ended with a value. */
  readonly error: Error | null
  /** What its backend failed with, null when it was not the backend. */
  readonly fault: BackendFault | null
  /** Trying again will not help before somebody has changed something. */
  readonly permanent: boolean
}

/** The trace of a request and all its windows: decided once, where it begins. */
export interface Trace {
  /** 32 hex digits. */
  readonly id: string
  /** The caller's, 16 hex digits; empty where the trace begins here. */
  readonly parentSpanId: string
  /** Whether spans are to be made. */
  readonly sampled: boolean
}

/** Decides of which trace a request is. Null: of none. @param traceparent its W3C header, empty when it has none */
export type BeginTrace = (traceparent: string) => Trace | null

/** Who asked for a window, or for several. */
export interface Origin {
  /** The route's pattern, never what the client wrote. */
  readonly endpoint: string
  /** Of the request; of `/stream`, of its upgrade. */
  readonly requestId: string
  /** Of a client of `/stream`, counted from 1 since the start; 0 for all others. */
  readonly stream: number
  /** Which of its windows: the sequence on its stream, the place in its request. */
  readonly sequence: number
  /** Null: none, or nobody traces. */
  readonly trace: Trace | null
  /** Of the first byte, monotonic ms. */
  readonly arrivedMs: number
}

/** One window of a request for several. */
export function windowOf(request: Origin, sequence: number, arrivedMs = request.arrivedMs): Origin {
  const { endpoint, requestId, stream, trace } = request
  return { endpoint, requestId, stream, sequence, trace, arrivedMs }
}

/** Told what each client got, on the main thread, for those who count, keep or show it. On the hot path: must be quick. */
export interface Witness {
  /**
   * A window has its result, and its client the answer.
   * @param window admitted from `window.waiter.origin` @param slot for the length of this call only
   * @param settledMs when this thread came to the result @param answeredMs when the answer was made of it
   */
  windowAnswered(window: InFlight, slot: Slot, settledMs: number, answeredMs: number): void
  /** A window, or a request that was to bring some, got an error in place of an answer. @param code one of a closed list */
  windowFailed(code: string, origin: Origin): void
}

/** Told how windows end, on the main thread. Must be quick: it is on the hot path. */
export interface StreamObserver extends Pick<Witness, 'windowAnswered'> {
  /**
   * An admitted window of a client ended; it is not answered yet.
   * @param slot its times, null when the worker has not finished with it
   * @param durationMs from the request's first byte to now
   */
  inferenceEnded(outcome: Outcome, durationMs: number, slot: Slot | null): void
  /** The client went away before its window ended. */
  cancelled(): void
  /** Slots were released: there is room for more. */
  settled(): void
}

/** Told everything that happens inside the engine. */
export interface Observer extends Omit<StreamObserver, 'settled' | 'windowAnswered'> {
  refused(code: RefusalCode, reason: RefusalReason): void
  workerLost(worker: number, loss: WorkerLoss): void
  workerServing(worker: number, backend: BackendKind): void
  /** A thread failed while it had no stream to serve; it is replaced. */
  poolFailed(error: unknown): void
  fallbackStarted(worker: number, fallback: Fallback): void
  fallbackEnded(worker: number, fallback: Fallback): void
  deviceChanged(change: DeviceChange, device: DeviceReport): void
}

/** What came of sending golden windows through the stream of a worker that serves. */
export interface GoldenCheck {
  /** `skipped`: clients had work for the stream, or it was lost meanwhile. */
  readonly result: (typeof GOLDEN_RESULTS)[number]
  /** That answered so many windows, in so long, ms. Under load that is mostly waiting. */
  readonly windows: number
  readonly tookMs: number
  /** Null when there is none to tell. */
  readonly backend: BackendKind | null
  readonly parity: Parity | null
}

export const GOLDEN_RESULTS = ['passed', 'failed', 'skipped'] as const

/** Told what the canary finds. */
export interface CanaryObserver {
  goldenChecked(worker: number, check: GoldenCheck): void
}

export type DeviceChange = 'found' | 'lost' | 'throttled' | 'no longer throttled'

/** Why a connection is closed as it comes: there are as many as may be, or the level is REJECT. */
export type TurnedAway = 'limit' | 'level'

/** Why a window is not taken. */
export type RefusalCode = 'overloaded' | 'draining' | 'model_unavailable'

/** What exactly made it refuse. */
export const REFUSAL_REASONS = [
  'ring_full',
  'wait_too_long',
  'draining',
  'starting',
  'no_worker',
  'unloaded',
  'no_room',
  /** Several windows at once, or low priority: the request, whatever it would have brought. */
  'low_priority',
  /** Of `/stream`: it was sent without one, and the engine has not heard of it. */
  'no_credit',
  /** The client sends more than its rate, and the engine has not heard of it. */
  'rate_limited',
] as const

export type RefusalReason = (typeof REFUSAL_REASONS)[number]
