import type { Outcome } from '../core/outcome.ts'
import type { Slot } from '../core/slot.ts'

/** Why a worker's task ended before it was told to stop. */
export const LOSS_CAUSES = ['error', 'exit', 'stuck', 'stream_lost'] as const

export type LossCause = (typeof LOSS_CAUSES)[number]

/** Told how windows end, on the main thread. Must be quick: it is on the hot path. */
export interface StreamObserver {
  /**
   * An admitted window ended.
   * @param slot its times, null when the worker has not finished with it
   * @param durationMs from the request's first byte to now
   */
  inferenceEnded(outcome: Outcome, durationMs: number, slot: Slot | null): void
  /** The client went away before its window ended. */
  cancelled(): void
}

/** Told everything that happens inside the engine. */
export interface Observer extends StreamObserver {
  refused(code: RefusalCode, reason: RefusalReason): void
  workerLost(worker: number, cause: LossCause, error: unknown): void
  workerServing(worker: number): void
  /** A thread failed while it had no stream to serve; it is replaced. */
  poolFailed(error: unknown): void
}

/** Why the engine does not take a window. */
export type RefusalCode = 'overloaded' | 'draining' | 'model_unavailable'

/** What exactly made it refuse. */
export const REFUSAL_REASONS = ['ring_full', 'wait_too_long', 'draining', 'starting', 'no_worker'] as const

export type RefusalReason = (typeof REFUSAL_REASONS)[number]
