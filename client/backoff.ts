import { longerBackoffMs } from '../src/core/backend.ts'

/**
 * How long to wait after so many failures in a row, from 1: up to 100 ms, then twice as long each time, at most 5 s.
 * Half of it is left to chance, so that clients that lost one server do not all come back in one moment.
 */
export function backoffMs(failures: number): number {
  let longestMs = 0
  for (let failure = 0; failure < Math.min(failures, ENOUGH); failure++)
    longestMs = longerBackoffMs(longestMs)
  return longestMs * (1 - Math.random() / 2)
}

/** More failures than it takes to reach the longest wait. */
const ENOUGH = 16
