import type { HrTime } from '@opentelemetry/api'
import { monotonicMs } from '../clock.ts'

/**
 * Turns monotonic ms into Unix time, [seconds, nanoseconds], by the offset of this moment: all times of one set of spans
 * go through one of these, so that a wall clock that is set meanwhile bends none of them.
 */
export function wallClock(): (atMs: number) => HrTime {
  const nowMs = monotonicMs()
  const unixMs = Date.now()
  const seconds = Math.floor(unixMs / 1000)
  const nanoseconds = (unixMs - seconds * 1000) * 1e6
  return atMs => {
    const all = Math.round(nanoseconds + (atMs - nowMs) * 1e6)
    const carried = Math.floor(all / 1e9)
    return [seconds + carried, all - carried * 1e9]
  }
}
