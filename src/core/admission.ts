/** What admission needs to know of one stream. */
export interface StreamLoad {
  /** Windows published and not yet released. */
  readonly inFlight: number
  readonly capacity: number
  /** Measured time per window in flight, ms: an answer takes this times the place in the ring. */
  readonly serviceMs: number
  /** How long the oldest window in flight has been there, ms, and its place when it was published. */
  readonly oldestAgeMs: number
  readonly oldestPosition: number
}

export interface Refusal {
  readonly reason: 'ring_full' | 'wait_too_long'
  /** Until a window like this one could be admitted, by the same estimate that refused it. */
  readonly retryAfterMs: number
}

/**
 * When a window published now would be answered, in ms from now. A stream that keeps its oldest
 * window for longer than the estimate says (a stuck worker) is as slow as that window shows.
 */
export function predictedWaitMs(load: StreamLoad): number {
  const serviceMs =
    load.inFlight === 0 ? load.serviceMs : Math.max(load.serviceMs, load.oldestAgeMs / load.oldestPosition)
  return (load.inFlight + 1) * serviceMs
}

/**
 * Decides, before the window is copied, whether it can still be answered in time.
 * A stream with nothing in flight always takes a window: a bad estimate heals by being tried.
 * @param budgetMs time left until the deadline
 * @returns null to admit
 */
export function refusal(load: StreamLoad, budgetMs: number): Refusal | null {
  if (load.inFlight === 0) return null
  const lateMs = predictedWaitMs(load) - budgetMs
  if (load.inFlight >= load.capacity) {
    return { reason: 'ring_full', retryAfterMs: Math.max(load.serviceMs, lateMs) }
  }
  return lateMs > 0 ? { reason: 'wait_too_long', retryAfterMs: lateMs } : null
}

/** How much one measurement moves the estimate. */
const WEIGHT = 0.1
/** One stall (a collected heap, a busy neighbour) must not close the door. */
const LARGEST_STEP = 4

/**
 * The new estimate of the service time after a window was answered.
 * @param latencyMs from published to answered
 * @param position the window's place in the ring when it was published, 1 when it was alone
 */
export function updatedServiceMs(serviceMs: number, latencyMs: number, position: number): number {
  const measured = Math.min(latencyMs / position, serviceMs * LARGEST_STEP)
  return serviceMs + WEIGHT * (measured - serviceMs)
}
