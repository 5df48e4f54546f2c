/** As the generator prints it; generator/histogram.h. */
export interface Buckets {
  readonly maxNs: number
  readonly sumNs: number
  /** Those that are not empty, in order. */
  readonly buckets: readonly (readonly [index: number, count: number])[]
}

/** Log-linear buckets of nanoseconds, three significant digits. Those of several runs can be added up. */
export class Histogram {
  readonly #counts = new Map<number, number>()
  #count = 0
  #sumNs = 0
  #maxNs = 0

  constructor(buckets?: Buckets) {
    if (buckets !== undefined) this.#add(buckets)
  }

  get count(): number {
    return this.#count
  }

  /** NaN when there is nothing. */
  get meanMs(): number {
    return this.#sumNs / this.#count / 1e6
  }

  /** Exact. */
  get maxMs(): number {
    return this.#maxNs / 1e6
  }

  /**
   * Nearest rank: what at least `percent` % of the values do not exceed, up to 0.1 % more than that. NaN when there
   * is nothing.
   */
  percentileMs(percent: number): number {
    const rank = Math.max(1, Math.ceil((percent / 100) * this.#count))
    let seen = 0
    for (const [index, count] of this.#sorted()) {
      seen += count
      if (seen >= rank) return Math.min(upperEdgeNs(index), this.#maxNs) / 1e6
    }
    return Number.NaN
  }

  /** How many values do not exceed it; within 0.1 % of it nobody knows. */
  countUpTo(ms: number): number {
    return this.#sorted().reduce(
      (sum, [index, count]) => (Math.min(upperEdgeNs(index), this.#maxNs) <= ms * 1e6 ? sum + count : sum),
      0,
    )
  }

  /** Both together; neither changes. */
  merge(other: Histogram): Histogram {
    const both = new Histogram(this.toJSON())
    both.#add(other.toJSON())
    return both
  }

  /** What the constructor takes. */
  toJSON(): Buckets {
    return { maxNs: this.#maxNs, sumNs: this.#sumNs, buckets: this.#sorted() }
  }

  #sorted(): [number, number][] {
    return [...this.#counts].sort(([one], [other]) => one - other)
  }

  #add({ maxNs, sumNs, buckets }: Buckets): void {
    for (const [index, count] of buckets) {
      this.#counts.set(index, (this.#counts.get(index) ?? 0) + count)
      this.#count += count
    }
    this.#sumNs += sumNs
    this.#maxNs = Math.max(this.#maxNs, maxNs)
  }
}

const BITS = 10

/** The largest value of a bucket: `(shift << 10) + (value >> shift)` is its index, with 0 as shift below 2048. */
function upperEdgeNs(index: number): number {
  const shift = Math.max(0, (index >> BITS) - 1)
  return (index - (shift << BITS) + 1) * 2 ** shift - 1
}
