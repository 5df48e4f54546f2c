import { availableParallelism } from 'node:os'
import { type LoadPlan, type LoadResult, runLoad } from '../load/load.ts'
import type { Cost, Figure, Goal, Row } from '../report/section.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import type { Running, Server } from './servers.ts'
import type { Context } from './suite.ts'
import type { Traffic } from './traffic.ts'

/** What is started, what is sent to it, and by how many. */
export interface Entry {
  readonly server: Server
  readonly traffic: Traffic
  readonly connections: number
  /** Closed unless said. */
  readonly loop?: LoadPlan['loop']
}

/** One measurement of one contender. */
export interface Trial {
  readonly windowsPerSecond: number
  /** Of right answers. */
  readonly p50Ms: number
  readonly p99Ms: number
  /** Undefined when the server is not our child. */
  readonly cost: Cost | undefined
  readonly wrong: number
  readonly refused: number
  readonly late: number
  readonly load: LoadResult
}

/** Loads each in its turn. */
export async function race<Name extends string>(
  context: Context,
  entries: Readonly<Record<Name, Entry>>,
): Promise<{ trials: Record<Name, Trial[]>; figures: Figure[] }> {
  const names = Object.keys(entries) as Name[]
  const measures = names.map(name => [name, underLoad(context, entries[name])] as const)
  const trials = await interleave(context, Object.fromEntries(measures) as Record<Name, () => Promise<Trial>>)
  return { trials, figures: names.map(name => figureOf(entries[name], trials[name])) }
}

/** Loads the server, in a fresh process each time it is called. */
export function underLoad(context: Context, entry: Entry): () => Promise<Trial> {
  return async () => {
    const running = await entry.server.start()
    try {
      return await load(context, entry, running)
    } finally {
      await running.stop()
    }
  }
}

export async function load(
  { warmUpMs, durationMs }: Pick<Context, 'warmUpMs' | 'durationMs'>,
  { server, traffic, connections, loop = { kind: 'closed' } }: Entry,
  { pid, port }: Pick<Running, 'pid' | 'port'>,
): Promise<Trial> {
  const target = server.path === undefined ? { port } : { path: server.path }
  const prepared = await traffic.prepare(target)
  const process = pid === undefined ? {} : { serverPid: pid }
  return trialOf(await runLoad({ ...prepared, ...process, target, connections, loop, warmUpMs, durationMs }))
}

/** One contender's trials side by side with another's, round by round. */
export function compare({
  name,
  against,
  ours,
  theirs,
  by = ({ windowsPerSecond }) => windowsPerSecond,
  goal,
}: {
  name: string
  against: string
  ours: readonly Trial[]
  /** Or what else they have measured. */
  theirs: readonly Trial[] | readonly number[]
  by?: (trial: Trial) => number
  goal?: Goal
}): Row {
  const others = theirs.filter(trial => typeof trial !== 'number')
  const { doubts, ...facts } = factsOf(ours, others)
  return {
    name,
    against,
    value: ratioOf(
      ours.map(by),
      theirs.map(trial => (typeof trial === 'number' ? trial : by(trial))),
    ),
    unit: '×',
    ...(goal && { goal }),
    ...facts,
    doubts: [
      ...doubts,
      ...unansweredAmong(ours),
      ...unansweredAmong(others).map(doubt => `${against}: ${doubt}`),
    ],
  }
}

/** What a row says beside its value. */
export function factsOf(
  trials: readonly Trial[],
  others: readonly Trial[] = [],
): Pick<Row, 'wrong' | 'doubts' | 'cost'> {
  const cost = costOf(trials)
  const all = [...trials, ...others]
  return {
    ...(cost && { cost }),
    wrong: sumOf(all, 'wrong'),
    doubts: [
      ...(all.some(wasBusy) ? ['the generator had hardly any pauses'] : []),
      ...(all.some(wasLate) ? ['the generator was late itself'] : []),
    ],
  }
}

export function figureOf({ server, traffic, connections, loop }: Entry, trials: readonly Trial[]): Figure {
  const cost = costOf(trials)
  return {
    name: server.name,
    load: `${traffic.name}, ${connections} connection${connections === 1 ? '' : 's'}`,
    settings: server.settings,
    windowsPerSecond: spreadOf(trials.map(({ windowsPerSecond }) => windowsPerSecond)),
    p50Ms: spreadOf(trials.map(({ p50Ms }) => p50Ms)),
    p99Ms: spreadOf(trials.map(({ p99Ms }) => p99Ms)),
    ...(loop?.kind === 'open' && {
      lagP99Ms: spreadOf(trials.map(({ load }) => load.lag.percentileMs(99))),
    }),
    ...(cost && { cost }),
  }
}

function wasBusy({ cost }: Trial): boolean {
  return cost !== undefined && cost.generatorCores > FULL
}

/** In a closed loop nothing is due. */
function wasLate({ load: { lag }, p50Ms }: Trial): boolean {
  return lag.percentileMs(99) > LATE_SHARE * p50Ms
}

/** What a load says of one contender. */
export function trialOf(load: LoadResult): Trial {
  const { due } = load
  // Where a queue was left at the very end, what is unanswered had just been sent.
  const unanswered = due.unsent > 0 ? 0 : due.unanswered
  return {
    windowsPerSecond: load.windowsPerSecond,
    p50Ms: load.answered.percentileMs(50),
    p99Ms: load.answered.percentileMs(99),
    cost: costOfOne(load),
    wrong: due.wrong + due.failed + due.lost + unanswered + load.brokenAnswers,
    refused: due.refused,
    late: due.late,
    load,
  }
}

/** A thread that has no more pauses than this is what limits the rate. */
const FULL = 0.85
/** Of the median latency: a generator that is later than this is part of what it measures. */
const LATE_SHARE = 0.1

function costOfOne({ seconds, processor, ended: { rightWindows } }: LoadResult): Cost | undefined {
  const { server, serverMainThread: main, generator } = processor
  if (server === null || main === null) return undefined
  const [mainCores, serverCores, generatorCores] = [main, server, generator].map(busy => busy / seconds) as [
    number,
    number,
    number,
  ]
  const busiest = Math.max(mainCores, serverCores - mainCores)
  return {
    mainUs: (main * 1e6) / rightWindows,
    serverUs: (server * 1e6) / rightWindows,
    mainCores,
    serverCores,
    generatorCores,
    limit:
      generatorCores > FULL && generatorCores > busiest
        ? 'generator'
        : busiest > FULL
          ? 'server'
          : serverCores + generatorCores > FULL * availableParallelism()
            ? 'machine'
            : 'none',
  }
}

/** Medians. */
function costOf(trials: readonly Trial[]): Cost | undefined {
  const costs = trials.flatMap(({ cost }) => cost ?? [])
  if (costs.length === 0) return undefined
  const median = (pick: (cost: Cost) => number) => spreadOf(costs.map(pick)).median
  const limits = costs.map(({ limit }) => limit)
  return {
    mainUs: median(({ mainUs }) => mainUs),
    serverUs: median(({ serverUs }) => serverUs),
    mainCores: median(({ mainCores }) => mainCores),
    serverCores: median(({ serverCores }) => serverCores),
    generatorCores: median(({ generatorCores }) => generatorCores),
    limit: limits.includes('generator') ? 'generator' : limits[0]!,
  }
}

function unansweredAmong(trials: readonly Trial[]): string[] {
  const [refused, late] = [sumOf(trials, 'refused'), sumOf(trials, 'late')]
  return [
    ...(refused > 0 ? [`${refused} requests were refused`] : []),
    ...(late > 0 ? [`${late} requests were given up at their deadline`] : []),
  ]
}

function sumOf(trials: readonly Trial[], what: 'wrong' | 'refused' | 'late'): number {
  return trials.reduce((sum, trial) => sum + trial[what], 0)
}
