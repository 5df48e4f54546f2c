import { longerBackoffMs } from '../src/core/backend.ts'

/**
 * How long to wait after so many failures in a row: from 100 ms to 5 s, twice as long each time.
 * The upper half is left to chance, so that clients that lost one server do not come back in one moment.
 */
export function backoffMs(failures: number): number {
  let longestMs = longerBackoffMs(0)
  for (let failure = 1; failure < failures && longestMs < longerBackoffMs(longestMs); failure++) {
    longestMs = longerBackoffMs(longestMs)
  }
  return longestMs * (1 - Math.random() / 2)
}
