import type { Worker } from 'node:worker_threads'

/** Threads that the pool has given up, until they have ended: a native call keeps one for as long as it lasts. */
export class LeavingThreads {
  readonly #known = new Set<Worker>()
  /** When each was first missed in the pool, monotonic ms. */
  readonly #missedMs = new Map<Worker, number>()

  /**
   * To be called every so often: a thread that comes and goes between two calls is not heard of.
   * @param pool the threads that it has now
   */
  look(pool: readonly Worker[], nowMs: number): void {
    for (const thread of pool) {
      if (this.#known.has(thread)) continue
      this.#known.add(thread)
      thread.once('exit', () => {
        this.#known.delete(thread)
        this.#missedMs.delete(thread)
      })
    }
    for (const thread of this.#known) {
      if (!pool.includes(thread) && !this.#missedMs.has(thread)) this.#missedMs.set(thread, nowMs)
    }
  }

  get count(): number {
    return this.#missedMs.size
  }

  /** When the one that has been leaving for longest was missed, monotonic ms; Infinity when there is none. */
  get oldestMs(): number {
    return Math.min(...this.#missedMs.values())
  }
}
