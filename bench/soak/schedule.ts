import { randomOf } from '../../test/random.ts'

/** What 24 h bring at 20 windows per second. */
export const DAY_WINDOWS = 24 * 3600 * 20
/** Of a round, clients send for so long; then it is quiet. */
export const DUTY = 0.3

/** Fewer make no line, more cost nothing but time to say so. */
const ROUNDS = { least: 12, most: 120 }
const WINDOWS_PER_ROUND = 3000
const BURST_MS = { shortest: 50, longest: 10_000 }
/** In real time a round is a minute. */
const REAL_TIME_ROUND_S = 60
const REAL_TIME_WINDOWS_PER_SECOND = 20
/** Every third round has a fault: those between them are calm, and compared. */
const FAULT_EVERY = 3

/** The shape of a run: rounds of a burst and a pause, some with a fault beside the burst. */
export interface Schedule {
  /** Windows that are sent at least. */
  readonly windows: number
  /** Rounds in which that shall be done, at least. */
  readonly rounds: number
  /** Of a burst; null: as fast as the server answers. */
  readonly windowsPerSecond: number | null
}

/** As fast as the server answers. */
export function accelerated(windows: number): Schedule {
  const rounds = Math.round(windows / WINDOWS_PER_ROUND)
  return {
    windows,
    rounds: Math.min(Math.max(rounds, ROUNDS.least), ROUNDS.most),
    windowsPerSecond: null,
  }
}

/** 20 windows per second, all within the bursts. */
export function realTime(hours: number): Schedule {
  return {
    windows: Math.round(hours * 3600 * REAL_TIME_WINDOWS_PER_SECOND),
    rounds: Math.ceil((hours * 3600) / REAL_TIME_ROUND_S),
    windowsPerSecond: REAL_TIME_WINDOWS_PER_SECOND / DUTY,
  }
}

/** Of a round's burst. @param pace what the server has answered per second so far, and what is left to send */
export function burstMs(
  { windowsPerSecond, rounds }: Schedule,
  { index, windowsLeft, pace }: { index: number; windowsLeft: number; pace: number },
): number {
  if (windowsPerSecond !== null) return REAL_TIME_ROUND_S * 1000 * DUTY
  const windows = windowsLeft / Math.max(1, rounds - index)
  return Math.round(Math.min(Math.max((1000 * windows) / pace, BURST_MS.shortest), BURST_MS.longest))
}

/** From 0 to 9. Rounds beyond the last are of the last. */
export function tenthOf(index: number, { rounds }: Pick<Schedule, 'rounds'>): number {
  return Math.min(9, Math.floor((10 * index) / rounds))
}

/**
 * Which fault each round has, the same for the same seed. All have had their turn before one comes again, and each
 * time they come in another order.
 */
export function* faultsByRound<Fault>(
  faults: readonly Fault[],
  { seed, every = FAULT_EVERY }: { seed: number; every?: number },
): Generator<Fault | null, never> {
  const random = randomOf(seed)
  let waiting: Fault[] = []
  for (let index = 0; ; index++) {
    if (index % every !== every - 1 || faults.length === 0) yield null
    else {
      if (waiting.length === 0) waiting = [...faults]
      yield waiting.splice(Math.floor(random() * waiting.length), 1)[0]!
    }
  }
}
