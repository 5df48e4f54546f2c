/** What admission needs to know of one stream. */
export interface StreamLoad {
  /** Windows published and not yet released: each has a slot. */
  readonly inFlight: number
  /** Those of them that the worker has not completed: a window that comes now waits behind these alone. */
  readonly ahead: number
  readonly capacity: number
  /** Time that the stream takes per window when it has many, ms. */
  readonly serviceMs: number
  /** Time that an answer takes beside that, however few there are: waking, and a busy main thread. ms. */
  readonly overheadMs: number
  /** How much longer than expected the oldest of those ahead has been in flight, ms: a stuck worker shows here. */
  readonly stalledMs: number
}

export interface Refusal {
  readonly reason: 'ring_full' | 'wait_too_long'
  /** Until a window like this one could be admitted, by the same estimate that refused it. */
  readonly retryAfterMs: number
}

/** When a window published now would be answered, in ms from now. */
export function predictedWaitMs(load: StreamLoad): number {
  return load.overheadMs + (load.ahead + 1) * load.serviceMs + load.stalledMs
}

/**
 * Decides, before the window is copied, whether it can still be answered in time.
 * A stream with nothing to do always takes a window: a bad estimate heals by being tried.
 * @param budgetMs time left until the deadline
 * @returns null to admit
 */
export function refusal(load: StreamLoad, budgetMs: number): Refusal | null {
  const lateMs = predictedWaitMs(load) - budgetMs
  if (load.inFlight >= load.capacity) {
    return { reason: 'ring_full', retryAfterMs: Math.max(load.serviceMs, lateMs) }
  }
  return load.ahead > 0 && lateMs > 0 ? { reason: 'wait_too_long', retryAfterMs: lateMs } : null
}

/** Bulk is let in as long as a live window behind it would be answered within this, ms, and within ... */
const BULK_AHEAD_MS = 10
/** ... this of the deadline. */
const BULK_AHEAD_SHARE = 1 / 4
/** What bulk may fill of a ring beside live traffic, and what without: the rest is there for the first live windows. */
const BULK_SHARE = { beside: 1 / 4, alone: 1 / 2 } as const

/**
 * How many bulk windows may go into this ring now: a share of the slots, and only as far ahead as a live window that
 * comes next can afford to wait behind. Where everything is slow, that is one at a time.
 * @param deadlineMs of live windows
 * @param expectsLive there has been live traffic of late
 */
export function roomForBulk(
  load: StreamLoad,
  { deadlineMs, expectsLive }: { deadlineMs: number; expectsLive: boolean },
): number {
  const { inFlight, ahead, capacity, serviceMs, overheadMs, stalledMs } = load
  const slots = capacity * (expectsLive ? BULK_SHARE.beside : BULK_SHARE.alone)
  const aheadMs = Math.min(BULK_AHEAD_MS, BULK_AHEAD_SHARE * deadlineMs)
  const inTime = Math.floor((aheadMs - overheadMs - stalledMs) / serviceMs)
  const most = Math.max(1, Math.min(slots, inTime + inFlight - ahead))
  if (!expectsLive && inFlight > most / 2) return 0
  return Math.max(0, most - inFlight)
}

/** A first guess, ms per window, until the warm-up has measured it. */
const INITIAL_SERVICE_MS = 1
/** How much one window moves the estimates. */
const WEIGHT = 0.02
/** Results that are ready together took no time but the first, and times are rounded: the estimate must not reach 0. */
const SHORTEST_SERVICE_MS = 0.001
/** A batch is measured in one piece or in parts; more than this is a stall, and must not close the door. */
const LARGEST_STEP = 32

/** Several windows that one stream finished after each other. */
export interface Measurement {
  readonly count: number
  /** From the start of the first (or the end of what came before it) to the end of the last, ms. */
  readonly busyMs: number
  /** Of the last one: from published to answered, ms. */
  readonly latencyMs: number
  /** Of the last one: its place among those not completed when it was published, 1 when it was alone. */
  readonly position: number
}

/** What one stream's answers take, learnt from those it gave: moving averages, one per part of the wait. */
export class ServiceEstimate {
  serviceMs = INITIAL_SERVICE_MS
  overheadMs = 0

  update({ count, busyMs, latencyMs, position }: Measurement): void {
    const weight = 1 - (1 - WEIGHT) ** count
    const largestServiceMs = LARGEST_STEP * this.serviceMs
    const largestOverheadMs = LARGEST_STEP * (this.serviceMs + this.overheadMs)
    const serviceMs = Math.min(Math.max(SHORTEST_SERVICE_MS, busyMs / count), largestServiceMs)
    this.serviceMs += weight * (serviceMs - this.serviceMs)
    const overheadMs = Math.min(Math.max(0, latencyMs - position * this.serviceMs), largestOverheadMs)
    this.overheadMs += weight * (overheadMs - this.overheadMs)
  }

  /** How much longer than expected a window has been in flight, ms. */
  stalledMs(ageMs: number, position: number): number {
    return Math.max(0, ageMs - this.overheadMs - position * this.serviceMs)
  }
}
