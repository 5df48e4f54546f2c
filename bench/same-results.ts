/** Counts results that are not those which the same window had the first time. */
export class SameResults {
  wrong = 0
  readonly #first = new Map<number, Float32Array>()

  /** @param result of the window with this number; copied */
  add(window: number, result: Float32Array): void {
    const first = this.#first.get(window)
    if (first === undefined) this.#first.set(window, result.slice())
    else if (first.some((value, index) => value !== result[index])) this.wrong++
  }
}
