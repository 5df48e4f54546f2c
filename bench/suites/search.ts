import type { LoadResult } from '../load/load.ts'
import { CannotMeasure, type Context } from './suite.ts'
import { type Entry, load } from './under-load.ts'

const PROBES = 8
const ATTEMPTS = 3
/** Of what a closed loop reaches: the search begins there. */
const FIRST_SHARE = 0.7
/** As long as nothing has failed, as a closed loop that refuses much may reach less than a rate. */
const STEP_UP = 1.5
/** Below it, something else than the rate makes windows late. */
const LOWEST_SHARE = 0.2
const PERCENT_IN_TIME = 99

export interface Capacity {
  /** The highest rate at which so many were in time, requests per second. */
  readonly rate: number
  /** What as many clients reach that wait for their answers, requests per second. */
  readonly closedLoop: number
  /** 1 unless some are bulk. */
  readonly windowsPerRequest: number
  readonly wrong: number
}

/**
 * Searches in a fresh process, by bisection once a rate has failed. Rates below are taken to hold when a rate holds.
 * @throws CannotMeasure
 */
export async function findCapacity(context: Context, entry: Entry, deadlineMs: number): Promise<Capacity> {
  const { warmUpMs, durationMs, progress } = context
  const running = await entry.server.start()
  try {
    const probe = (loop: Entry['loop']) =>
      load({ warmUpMs, durationMs }, { ...entry, ...(loop && { loop }) }, running)
    const closed = await probe({ kind: 'closed' })
    const { requestsPerSecond: closedLoop, windowsPerSecond } = closed.load
    let { wrong } = closed
    let low = 0
    let high = Number.POSITIVE_INFINITY
    let ratePerSecond = FIRST_SHARE * closedLoop
    for (let count = 0; count < PROBES; count++) {
      progress(`${entry.server.name}: ${Math.round(ratePerSecond)} requests/s`)
      // What failed once may have been disturbed.
      for (let attempt = 0; attempt < ATTEMPTS && low < ratePerSecond; attempt++) {
        const trial = await probe({ kind: 'open', ratePerSecond })
        wrong += trial.wrong
        if (isInTime(trial.load, deadlineMs)) low = ratePerSecond
      }
      if (low < ratePerSecond) high = ratePerSecond
      ratePerSecond = high === Number.POSITIVE_INFINITY ? STEP_UP * low : (low + high) / 2
    }
    if (low < LOWEST_SHARE * closedLoop) {
      throw new CannotMeasure(
        `requests are late even at ${Math.round(high)}/s, where a closed loop reaches ${Math.round(closedLoop)}/s`,
      )
    }
    return { rate: low, closedLoop, windowsPerRequest: windowsPerSecond / closedLoop, wrong }
  } finally {
    await running.stop()
  }
}

/** Of all that was due: what was refused, or not even sent, was not in time. */
export function isInTime({ due, answered }: LoadResult, deadlineMs: number): boolean {
  const dueCount = Object.values(due).reduce((sum, count) => sum + count, 0)
  return answered.countUpTo(deadlineMs) >= (PERCENT_IN_TIME * dueCount) / 100
}
