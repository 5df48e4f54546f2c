/** What one thing costs. */
export interface MicroRow {
  readonly name: string
  readonly opsPerSecond: number
  /** Median of the samples, µs. */
  readonly usPerOp: number
  /** 10th and 90th percentile of the samples, µs. */
  readonly spread: readonly [number, number]
  readonly samples: number
  /** CPU time of the whole process, where more than one thread works. Median, µs. */
  readonly cpuUsPerOp?: number
}

/** @param samplesUs µs per operation */
export function rowOf(name: string, samplesUs: readonly number[]): MicroRow {
  const sorted = samplesUs.toSorted((a, b) => a - b)
  const usPerOp = median(sorted)
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!
  return { name, opsPerSecond: 1e6 / usPerOp, usPerOp, spread: [at(0.1), at(0.9)], samples: sorted.length }
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
}
