/** Work of some 10 ms each, for instance to decode a large body: between two of them others get their turn of the event loop. */
export class OnePerTurn {
  readonly #waiting: (() => void)[] = []

  /** Does the work later, never within the call. */
  run(work: () => void): void {
    this.#waiting.push(work)
    if (this.#waiting.length === 1) this.#schedule()
  }

  #schedule(): void {
    setImmediate(() => {
      const work = this.#waiting.shift()!
      if (this.#waiting.length > 0) this.#schedule()
      work()
    })
  }
}
