import { performance } from 'node:perf_hooks'
import { monotonicMs } from '../clock.ts'

/** Less idle time than this between two turns means that the loop went straight on, ms. */
const IDLE_MS = 0.05

/**
 * Tells when a request arrived, which under load is earlier than when its handler is called: its
 * bytes waited in the kernel while the event loop was busy with others. A deadline counted from the
 * handler would let answers go out that are late for the client.
 */
export class EventLoopTurn {
  #open = false
  #startedMs = 0
  #arrivedMs = 0
  #idleMs = 0

  /**
   * The earliest that the first byte of the request being handled can have arrived, in ms on the
   * monotonic clock: now, when the loop was waiting for it, else the start of the turn before this one.
   */
  arrivedMs(): number {
    return this.#open ? this.#arrivedMs : this.#begin()
  }

  #begin(): number {
    const nowMs = monotonicMs()
    const { idleTime } = performance.nodeTiming
    const waited = idleTime - this.#idleMs > IDLE_MS
    this.#arrivedMs = waited ? nowMs : this.#startedMs
    this.#idleMs = idleTime
    this.#startedMs = nowMs
    this.#open = true
    setImmediate(() => {
      this.#open = false
    })
    return this.#arrivedMs
  }
}
