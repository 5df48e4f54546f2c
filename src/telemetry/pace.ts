/** Lets so many through in the long run, and several at once after a pause. */
export class Pace {
  readonly #everyMs: number
  readonly #burstMs: number
  /** What was let through is paid for until then. */
  #paidUntilMs = Number.NEGATIVE_INFINITY

  /** @param burst how many may come at once, ≥ 1 */
  constructor({ everyMs, burst }: { everyMs: number; burst: number }) {
    this.#everyMs = everyMs
    this.#burstMs = (burst - 1) * everyMs
  }

  /** @param nowMs monotonic ms */
  take(nowMs: number): boolean {
    const paidUntilMs = Math.max(this.#paidUntilMs, nowMs)
    if (paidUntilMs - nowMs > this.#burstMs) return false
    this.#paidUntilMs = paidUntilMs + this.#everyMs
    return true
  }
}
