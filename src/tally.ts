import type { Metric } from 'prom-client'

type Labels = Readonly<Record<string, string | number>>

/**
 * What the hot path counts. prom-client looks for the row of each count by its labels, which takes as long as
 * a whole window otherwise does. Here whoever counts holds the row, and prom-client reads it at a scrape.
 */
export class CounterRow {
  readonly labels: Labels
  count = 0

  constructor(labels: Labels) {
    this.labels = labels
  }
}

export class HistogramRow {
  readonly labels: Labels
  sum = 0
  /** Per bucket, not cumulative; the last one is open. */
  readonly counts: Float64Array
  /** Bucket n is from above bound n up to bound n + 1. */
  readonly #bounds: Float64Array
  /** Where the last value was: the next is mostly there or beside it. */
  #bucket = 0

  constructor(labels: Labels, edges: readonly number[]) {
    this.labels = labels
    this.#bounds = Float64Array.of(Number.NEGATIVE_INFINITY, ...edges, Number.POSITIVE_INFINITY)
    this.counts = new Float64Array(edges.length + 1)
  }

  /** @param value finite */
  observe(value: number): void {
    let bucket = this.#bucket
    while (value <= this.#bounds[bucket]!) bucket--
    while (value > this.#bounds[bucket + 1]!) bucket++
    this.#bucket = bucket
    this.counts[bucket]!++
    this.sum += value
  }
}

/** Rows that are made when they are first counted in, found by one label after the other. */
export class RowTable<Row> {
  readonly #byFirst = new Map<string, Map<string | number, Row>>()
  readonly #make: (first: string, second: string | number) => Row

  constructor(make: (first: string, second: string | number) => Row) {
    this.#make = make
  }

  at(first: string, second: string | number): Row {
    const bySecond = this.#byFirst.get(first)
    const row = bySecond?.get(second)
    if (row !== undefined) return row
    const made = this.#make(first, second)
    if (bySecond === undefined) this.#byFirst.set(first, new Map([[second, made]]))
    else bySecond.set(second, made)
    return made
  }

  /** In the order in which they were made. */
  all(): Row[] {
    return [...this.#byFirst.values()].flatMap(bySecond => [...bySecond.values()])
  }
}

/** What prom-client reads of a histogram whose rows are counted here, or in shared memory. */
export function histogramOf(
  name: string,
  help: string,
  edges: readonly number[],
  rows: () => Iterable<Pick<HistogramRow, 'labels' | 'counts' | 'sum'>>,
): Metric {
  const get = async () => ({
    name,
    help,
    type: 'histogram',
    values: [...rows()].flatMap(({ labels, counts, sum }) => {
      let cumulative = 0
      const buckets = [...edges, '+Inf'].map((le, bucket) => {
        cumulative += counts[bucket]!
        return { labels: { le, ...labels }, value: cumulative, metricName: `${name}_bucket` }
      })
      return [
        ...buckets,
        { labels, value: sum, metricName: `${name}_sum` },
        { labels, value: cumulative, metricName: `${name}_count` },
      ]
    }),
  })
  return { name, help, type: 'histogram', get } as unknown as Metric
}
