import { Histogram } from '../load/histogram.ts'
import { type Estimate, lastToFirst, theilSen } from './fit.ts'
import { type Round, unaccounted } from './round.ts'
import { RESOURCES, type Resource } from './samples.ts'

/** A round more, as caches fill and memory is laid out: of all rounds, those that say nothing of growth. */
const WARM_UP_SHARE = 0.2
const MB = 1e6
/** How much more the line may say at the end than where the warm-up ended. */
const GROWTH_LIMITS: Readonly<Record<Resource, number>> = {
  rss: 32 * MB,
  heap: 16 * MB,
  external: 16 * MB,
  fds: 8,
  threads: 4,
}
/** Growth is not there where so many times the limit can be ruled out. */
const GROWTH_RULED_OUT = 2
const P95_RATIO_LIMIT = 1.1
const P95_RATIO_RULED_OUT = 2
/** Calm rounds of a tenth: fewer are a moment of the machine, not of the day. */
const LEAST_CALM_ROUNDS = 5

export interface Promised {
  readonly name: string
  /** `not shown`: what was measured fits both, as the run was too short or too noisy. */
  readonly verdict: 'held' | 'broken' | 'not shown'
  /** The figures. */
  readonly found: string
}

/** The line through one resource, over the windows that the server has answered or refused. */
export interface Fit {
  readonly resource: Resource
  /** From the end of the warm-up to the end of the run, by the line. */
  readonly growth: Estimate
  readonly limit: number
  /** Windows answered or refused meanwhile. */
  readonly windows: number
}

export interface Ended {
  readonly rounds: readonly Round[]
  /** Of the server, after SIGTERM. */
  readonly exit: number | string
}

export function fitsOf(rounds: readonly Round[]): Fit[] {
  let ended = 0
  const samples = rounds.map(({ counted, sample }) => {
    ended += counted.answered + counted.refused
    return { windows: ended, sample }
  })
  const warm = samples.slice(Math.floor(WARM_UP_SHARE * rounds.length))
  const windows = warm.length === 0 ? 0 : warm.at(-1)!.windows - warm[0]!.windows
  return RESOURCES.map(resource => {
    const { value, lower, upper } = theilSen(warm.map(({ windows, sample }) => [windows, sample[resource]]))
    const growth = { value: value * windows, lower: lower * windows, upper: upper * windows }
    return { resource, growth, limit: GROWTH_LIMITS[resource], windows }
  })
}

/** Of calm rounds. NaN without any. */
export function p95OfTenth(rounds: readonly Round[], tenth: number): number {
  return calm(rounds, tenth)
    .reduce((all, { live }) => all.merge(live), new Histogram())
    .percentileMs(95)
}

export function judge({ rounds, exit }: Ended): Promised[] {
  const sum = (pick: (round: Round) => number) => rounds.reduce((all, round) => all + pick(round), 0)
  const none = (name: string, count: number): Promised => ({
    name,
    verdict: count === 0 ? 'held' : 'broken',
    found: String(count),
  })
  return [
    none(
      'windows lost',
      sum(({ tally }) => tally.lost),
    ),
    none(
      'wrong answers',
      sum(({ tally }) => tally.wrong),
    ),
    none('windows that clients and server count differently', sum(unaccounted)),
    ...fitsOf(rounds).map(({ resource, growth, limit, windows }): Promised => {
      const scale = inUnits(resource)
      const [value, lower, upper] = [growth.value, growth.lower, growth.upper].map(scale)
      return {
        name: `${resource} does not grow`,
        verdict: within(growth, { limit, ruledOut: GROWTH_RULED_OUT * limit }),
        found: `${value} [${lower} … ${upper}] in ${windows} windows, at most ${scale(limit)}${perWindow(resource, limit / windows)}`,
      }
    }),
    steadyP95(rounds),
    { name: 'SIGTERM ends it with 0', verdict: exit === 0 ? 'held' : 'broken', found: String(exit) },
  ]
}

function steadyP95(rounds: readonly Round[]): Promised {
  const name = 'p95 of the last tenth is that of the first'
  const tenths = Array.from({ length: 10 }, (_, tenth) => tenth)
  const fewest = Math.min(...tenths.map(tenth => calm(rounds, tenth).length))
  if (fewest < LEAST_CALM_ROUNDS) {
    const found = `${fewest} calm rounds in a tenth, ${LEAST_CALM_ROUNDS} are needed`
    return { name, verdict: 'not shown', found }
  }
  const ratio = lastToFirst(tenths.map(tenth => p95OfTenth(rounds, tenth)))
  const [value, lower, upper] = [ratio.value, ratio.lower, ratio.upper].map(part => part.toFixed(2))
  return {
    name,
    verdict: within(ratio, { limit: P95_RATIO_LIMIT, ruledOut: P95_RATIO_RULED_OUT }),
    found: `${value} [${lower} … ${upper}] times, at most ${P95_RATIO_LIMIT}`,
  }
}

/** Broken where all that it may be is beyond the limit, held where it is not and nothing of it is beyond what is ruled out. */
function within(
  { value, lower, upper }: Estimate,
  { limit, ruledOut }: { limit: number; ruledOut: number },
): Promised['verdict'] {
  if (lower > limit) return 'broken'
  return value <= limit && upper <= ruledOut ? 'held' : 'not shown'
}

function calm(rounds: readonly Round[], tenth: number): Round[] {
  return rounds.filter(round => round.tenth === tenth && round.fault === null)
}

function inUnits(resource: Resource): (value: number) => string {
  if (resource === 'fds' || resource === 'threads') return value => value.toFixed(1)
  return value => `${(value / MB).toFixed(1)} MB`
}

function perWindow(resource: Resource, slope: number): string {
  return resource === 'fds' || resource === 'threads' ? '' : `, ${slope.toFixed(0)} bytes per window`
}
