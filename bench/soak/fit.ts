import { spreadOf } from '../report/spread.ts'

/** A value and all that it may be instead. */
export interface Estimate {
  readonly value: number
  readonly lower: number
  readonly upper: number
}

/** Of the normal distribution, both sides: 99 %. */
const CONFIDENCE_Z = 2.576
/** Of the normal distribution: the standard deviation, for a median of what values are off by 1. */
const DEVIATION_PER_MEDIAN = 1.4826
/** A series that depends more on itself than this says nothing more of its slope. */
const MOST_AUTOCORRELATION = 0.95

/**
 * The slope of the line through points (x, y), in y per x, after Theil and Sen: the median of the slopes of all pairs.
 * A garbage collection, or a worker that is just being replaced, is a point far from the line; least squares would
 * follow it, this holds up to 29 % of them. The interval is Sen's, by the ranks of the slopes, and widened for
 * points that are like those before them (Bayley and Hammersley 1946), as memory is: less than it should be where they
 * are very much so, see docs/soak.md.
 * Infinite where there are too few points.
 */
export function theilSen(points: readonly (readonly [x: number, y: number])[]): Estimate {
  const slopes = points
    .flatMap(([x, y], index) =>
      points.slice(index + 1).map(([laterX, laterY]) => (laterY - y) / (laterX - x)),
    )
    .sort((a, b) => a - b)
  if (slopes.length === 0)
    return { value: 0, lower: Number.NEGATIVE_INFINITY, upper: Number.POSITIVE_INFINITY }
  const value = spreadOf(slopes).median
  const { length: count } = points
  const ranks = CONFIDENCE_Z * Math.sqrt((count * (count - 1) * (2 * count + 5)) / 18)
  const lower = slopes[Math.floor((slopes.length - ranks) / 2) - 1] ?? Number.NEGATIVE_INFINITY
  const upper = slopes[Math.ceil((slopes.length + ranks) / 2)] ?? Number.POSITIVE_INFINITY
  const likeness = autocorrelation(points.map(([x, y]) => y - value * x))
  const widening = Math.sqrt((1 + likeness) / (1 - likeness))
  return { value, lower: value + widening * (lower - value), upper: value + widening * (upper - value) }
}

/**
 * How much higher the last value is than the first, as their ratio. What is noise is told by the steps from each value
 * to the next, by the median of how long they are: neither a slow drift nor one leap moves that much, where either would
 * widen the spread of the values and so hide behind itself.
 */
export function lastToFirst(values: readonly number[]): Estimate {
  const logs = values.map(Math.log)
  const steps = logs.slice(1).map((log, index) => Math.abs(log - logs[index]!))
  // Each step is the difference of two values, and so is the last less the first.
  const noise = DEVIATION_PER_MEDIAN * spreadOf(steps).median
  const total = logs.at(-1)! - logs[0]!
  const [value, lower, upper] = [total, total - CONFIDENCE_Z * noise, total + CONFIDENCE_Z * noise].map(
    Math.exp,
  )
  return { value: value!, lower: lower!, upper: upper! }
}

/** Of each value with the one before, from 0. */
function autocorrelation(values: readonly number[]): number {
  const { median } = spreadOf(values)
  const off = values.map(value => value - median)
  const all = off.reduce((sum, value) => sum + value ** 2, 0)
  if (all === 0) return 0
  const together = off.slice(1).reduce((sum, value, index) => sum + value * off[index]!, 0)
  return Math.min(Math.max(together / all, 0), MOST_AUTOCORRELATION)
}
