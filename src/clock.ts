import process from 'node:process' // the global of this name is a getter, and this is asked several times per window

/**
 * Milliseconds on the one monotonic clock that every thread of the process shares.
 * `performance.now()` will not do: each thread counts it from its own start.
 */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1e3 + nanoseconds / 1e6
}
