import { HOP_NAMES, HOP_PATHS, runHop } from '../micro/hop.ts'
import type { HopPath, HopRun } from '../micro/hop-run.ts'
import type { Goal, Row } from '../report/section.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import type { Suite } from './suite.ts'

const DEPTHS = [1, 256] as const
const DEEP = 256
const SHARE_OF_DURATION = 1 / 3
/** Of the ring alone, many windows at once. */
const GOALS = { faster: { atLeast: 13 }, cost: { atMost: 0.4 } } as const satisfies Record<string, Goal>

interface Hop {
  readonly path: HopPath
  readonly depth: number
}

/** What it costs to get windows to another thread and their results back. */
export const hop: Suite = async context => {
  const ms = Math.round(context.durationMs * SHARE_OF_DURATION)
  const hops = DEPTHS.flatMap(depth => HOP_PATHS.map((path): Hop => ({ path, depth })))
  const trials = await interleave(
    context,
    Object.fromEntries(hops.map(hop => [nameOf(hop), () => runHop({ ...hop, ms })])),
  )
  const runsOf = (hop: Hop) => trials[nameOf(hop)]!
  const rates = (hop: Hop) => runsOf(hop).map(perSecond)
  const plain = { wrong: 0, doubts: [] }
  const rowsOf = (hop: Hop): Row[] => {
    const hasGoal = hop.path === 'ring' && hop.depth === DEEP
    const against: Hop = { ...hop, path: 'piscina' }
    const faster: Row = {
      name: nameOf(hop),
      against: HOP_NAMES.piscina,
      value: ratioOf(rates(hop), rates(against)),
      unit: '×',
      ...(hasGoal && { goal: GOALS.faster }),
      ...plain,
    }
    const cost: Row = {
      name: `${nameOf(hop)}, CPU a window`,
      value: spreadOf(runsOf(hop).map(({ cpuUs, windows }) => cpuUs / windows)),
      unit: 'µs',
      ...(hasGoal && { goal: GOALS.cost }),
      ...plain,
    }
    return hop.path === 'piscina' ? [cost] : [faster, cost]
  }
  return {
    title: 'Between threads',
    about:
      'Windows to a worker that does nothing and back, one or many at once, in a process with nothing else. Each is ' +
      'written to where the path takes it from; CPU time is that of both threads.',
    rows: hops.flatMap(rowsOf),
    figures: hops.map(hop => ({
      name: HOP_NAMES[hop.path],
      load: `${hop.depth} at once`,
      settings: '',
      windowsPerSecond: spreadOf(rates(hop)),
    })),
  }
}

function nameOf({ path, depth }: Hop): string {
  return `${HOP_NAMES[path]}, ${depth} at once`
}

function perSecond({ windows, wallMs }: HopRun): number {
  return (windows * 1000) / wallMs
}
