import { run } from '../micro/hop.ts'
import type { HopPath, HopRun } from '../micro/hop-run.ts'
import type { Goal, Row } from '../report/section.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import type { Suite } from './suite.ts'

const DEPTH = 256
const HOP_MS = 700

/** What it costs to get windows to another thread and their results back. */
export const hop: Suite = async context => {
  const by = (path: HopPath) => () => run({ path, depth: DEPTH, ms: HOP_MS })
  const trials = await interleave(context, {
    ring: by('ring'),
    engine: by('engine'),
    port: by('port'),
    piscina: by('piscina'),
  })
  const rates = (path: keyof typeof trials) => trials[path].map(perSecond)
  const faster = (name: string, path: keyof typeof trials, goal?: Goal): Row => ({
    name,
    against: 'Piscina run()',
    value: ratioOf(rates(path), rates('piscina')),
    unit: '×',
    ...(goal && { goal }),
    wrong: 0,
    doubts: [],
  })
  const cost = (name: string, path: keyof typeof trials, goal?: Goal): Row => ({
    name: `${name}, CPU a window`,
    value: spreadOf(trials[path].map(({ cpuUs, windows }) => cpuUs / windows)),
    unit: 'µs',
    ...(goal && { goal }),
    wrong: 0,
    doubts: [],
  })
  return {
    title: 'Between threads',
    about: `Windows to a worker that does nothing and back, ${DEPTH} at once, in a process with nothing else; CPU time is that of both threads.`,
    rows: [
      faster('ring alone', 'ring', { atLeast: 13 }),
      cost('ring alone', 'ring', { atMost: 0.4 }),
      faster('the engine: admission, ring, settlement', 'engine'),
      cost('the engine', 'engine'),
      faster('MessagePort', 'port'),
      cost('MessagePort', 'port'),
      cost('Piscina run()', 'piscina'),
    ],
    figures: Object.entries(trials).map(([name, runs]) => ({
      name,
      load: `depth ${DEPTH}`,
      settings: '',
      windowsPerSecond: spreadOf(runs.map(perSecond)),
    })),
  }
}

function perSecond({ windows, wallMs }: HopRun): number {
  return (windows * 1000) / wallMs
}
