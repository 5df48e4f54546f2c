// Taken once: in Node.js `process` is a getter, and this is asked several times for every window.
const { hrtime } = process

/**
 * Milliseconds on the one monotonic clock that every thread of the process shares.
 * `performance.now()` will not do: each thread counts it from its own start.
 */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = hrtime()
  return seconds * 1e3 + nanoseconds / 1e6
}
