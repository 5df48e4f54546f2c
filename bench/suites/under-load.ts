import { type LoadPlan, type LoadResult, runLoad } from '../load/load.ts'
import type { Cost, Figure, Goal, Row } from '../report/section.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import type { Server } from './servers.ts'
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
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cost: Cost
  readonly wrong: number
  readonly refused: number
  /** Whatever else is wanted. */
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
export function underLoad({ warmUpMs, durationMs }: Context, entry: Entry): () => Promise<Trial> {
  const { server, traffic, connections, loop = { kind: 'closed' } } = entry
  return async () => {
    const { pid, port, stop } = await server.start()
    try {
      const target = server.path === undefined ? { port } : { path: server.path }
      const prepared = await traffic.prepare(target)
      const plan = { ...prepared, target, connections, loop, warmUpMs, durationMs, serverPid: pid }
      return trialOf(await runLoad(plan))
    } finally {
      await stop()
    }
  }
}

export function trialOf(load: LoadResult): Trial {
  const { due, ended, seconds, processor, answered } = load
  const { generator, server, serverMainThread } = processor
  const usPerWindow = (cpuSeconds: number) => (cpuSeconds * 1e6) / ended.rightWindows
  return {
    windowsPerSecond: load.windowsPerSecond,
    p50Ms: answered.percentileMs(50),
    p99Ms: answered.percentileMs(99),
    cost: {
      mainUs: usPerWindow(serverMainThread!),
      serverUs: usPerWindow(server!),
      mainCores: serverMainThread! / seconds,
      serverCores: server! / seconds,
      generatorCores: generator / seconds,
    },
    wrong: due.wrong + due.failed + due.lost + due.unanswered + load.brokenAnswers,
    refused: due.refused,
    load,
  }
}

/** One contender's trials side by side with another's. */
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
  theirs: readonly Trial[]
  by?: (trial: Trial) => number
  goal?: Goal
}): Row {
  return {
    name,
    against,
    value: ratioOf(ours.map(by), theirs.map(by)),
    unit: '×',
    ...(goal && { goal }),
    cost: costOf(ours),
    wrong: [...ours, ...theirs].reduce((sum, { wrong }) => sum + wrong, 0),
    doubts: [...doubtsAbout(ours), ...doubtsAbout(theirs).map(doubt => `${against}: ${doubt}`)],
  }
}

export function figureOf(entry: Entry, trials: readonly Trial[]): Figure {
  const { server, traffic, connections } = entry
  const name = server.name
  const settings = [`${traffic.name}, ${connections} connections`, server.settings].filter(Boolean).join('; ')
  return {
    name,
    settings,
    windowsPerSecond: spreadOf(trials.map(({ windowsPerSecond }) => windowsPerSecond)),
    p50Ms: spreadOf(trials.map(({ p50Ms }) => p50Ms)),
    p99Ms: spreadOf(trials.map(({ p99Ms }) => p99Ms)),
    cost: costOf(trials),
    refused: trials.reduce((sum, { refused }) => sum + refused, 0),
  }
}

export function costOf(trials: readonly Trial[]): Cost {
  const median = (pick: (cost: Cost) => number) => spreadOf(trials.map(({ cost }) => pick(cost))).median
  return {
    mainUs: median(({ mainUs }) => mainUs),
    serverUs: median(({ serverUs }) => serverUs),
    mainCores: median(({ mainCores }) => mainCores),
    serverCores: median(({ serverCores }) => serverCores),
    generatorCores: median(({ generatorCores }) => generatorCores),
  }
}

/** The generator is what is measured when it is busier than any thread of the server, and has no pauses itself. */
const NO_PAUSES = 0.9

export function doubtsAbout(trials: readonly Trial[]): string[] {
  const { mainCores, serverCores, generatorCores } = costOf(trials)
  const refused = trials.reduce((sum, trial) => sum + trial.refused, 0)
  const busiest = Math.max(mainCores, serverCores - mainCores)
  return [
    ...(generatorCores > NO_PAUSES && generatorCores > busiest ? ['the generator was the limit'] : []),
    ...(refused > 0 ? [`${refused} refused`] : []),
  ]
}
