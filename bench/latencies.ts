/** Nearest rank: the smallest value that at least `percent` % of them do not exceed. Undefined when there are none. */
export function percentile(sorted: readonly number[], percent: number): number | undefined {
  return sorted[Math.ceil((percent * sorted.length) / 100) - 1]
}
