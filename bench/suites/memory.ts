import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Chart, Figure, Goal, Line, Row } from '../report/section.ts'
import { spreadOf } from '../report/spread.ts'
import { engine } from './servers.ts'
import type { Context, Mode, Suite } from './suite.ts'
import { mixed } from './traffic.ts'
import { type Entry, factsOf, figureOf, load, type Trial } from './under-load.ts'

const LIMITS_MB = { onnx: 260, stub: 160, hailo: 160, noop: 160 } as const satisfies Record<Mode, number>
/** Within it, growth is noise. */
const FLAT: Goal = { atMost: 1.01 }
const SAMPLES = 200

/** Whether memory stays where it is as long as the load lasts. */
export const memory: Suite = async context => {
  const modes: readonly Mode[] = context.mode === null ? ['onnx', 'stub', 'hailo'] : [context.mode]
  const parts = []
  for (const mode of modes) parts.push(await watch(mode, context))
  const chart: Chart = {
    name: 'rss',
    title: 'Resident memory of the server at full load',
    x: 'minutes',
    y: 'MB',
    lines: parts.map(({ line }) => line),
  }
  return {
    title: 'Memory',
    about: `The server's resident memory in ${context.minutes} minutes at full load; it is flat when the median of the last third is that of the one before.`,
    rows: parts.flatMap(({ rows }) => rows),
    figures: parts.map(({ figure }) => figure),
    charts: [chart],
  }
}

async function watch(mode: Mode, context: Context): Promise<{ rows: Row[]; figure: Figure; line: Line }> {
  const { connections, minutes, warmUpMs, mix, progress } = context
  const entry: Entry = { server: engine(mode), traffic: mixed(mix), connections }
  const durationMs = minutes * 60_000
  const running = await entry.server.start()
  try {
    const loaded = load({ warmUpMs, durationMs }, entry, running)
    const sampled = sampleMemory(running.pid!, { durationMs, progress: text => progress(`${mode}: ${text}`) })
    const [trial, points] = await Promise.all([loaded, sampled])
    return {
      rows: rowsOf(
        mode,
        [trial],
        points.map(([, megabytes]) => megabytes),
      ),
      figure: figureOf(entry, [trial]),
      line: { name: mode, points },
    }
  } finally {
    await running.stop()
  }
}

async function sampleMemory(
  pid: number,
  { durationMs, progress }: { durationMs: number; progress: (text: string) => void },
): Promise<[minutes: number, megabytes: number][]> {
  const points: [number, number][] = []
  const startMs = performance.now()
  while (performance.now() - startMs < durationMs) {
    await sleep(durationMs / SAMPLES)
    const minutes = (performance.now() - startMs) / 60_000
    const megabytes = residentMegabytes(pid)
    points.push([minutes, megabytes])
    progress(`${megabytes.toFixed(0)} MB after ${minutes.toFixed(1)} min`)
  }
  return points
}

function rowsOf(mode: Mode, trials: readonly Trial[], megabytes: readonly number[]): Row[] {
  const facts = factsOf(trials)
  const third = Math.floor(megabytes.length / 3)
  const middle = spreadOf(megabytes.slice(third, -third)).median
  const last = spreadOf(megabytes.slice(-third)).median
  return [
    {
      name: `${mode}, highest`,
      value: spreadOf([Math.max(...megabytes)]),
      unit: 'MB',
      goal: { atMost: LIMITS_MB[mode] },
      ...facts,
    },
    {
      name: `${mode}, last third`,
      against: 'the third before',
      value: spreadOf([last / middle]),
      unit: '×',
      goal: FLAT,
      ...facts,
    },
  ]
}

function residentMegabytes(pid: number): number {
  // What the kernel calls kB are 1024 bytes.
  const [, kibibytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!
  return (Number(kibibytes) * 1024) / 1e6
}
