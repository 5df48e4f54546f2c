import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { promisify } from 'node:util'
import { PROJECT_FOLDER } from '../../src/project.ts'
import type { HopOptions, HopPath, HopRun } from './hop-run.ts'
import { type MicroRow, median, rowOf } from './row.ts'

const PROGRAM = join(PROJECT_FOLDER, 'dist', 'bench', 'micro', 'hop-run.js')
const TIMEOUT_MS = 30_000
const execute = promisify(execFile)

/** What each path is called in a report. */
const NAMES: Record<HopPath, string> = {
  engine: 'the engine: admission, ring, settlement',
  ring: 'ring alone, Atomics.waitAsync',
  blocking: 'Atomics.wait on both sides',
  port: 'MessagePort.postMessage()',
  piscina: 'Piscina run() per window',
}
export const HOP_PATHS = Object.keys(NAMES) as HopPath[]

export interface HopBenchOptions {
  readonly paths?: readonly HopPath[]
  readonly depths?: readonly number[]
  readonly ms?: number
  readonly runs?: number
}

export interface HopRow extends MicroRow {
  readonly path: HopPath
  readonly depth: number
}

/** Windows across threads by each path, each run in a fresh process, interleaved. */
export async function benchHops({
  paths = HOP_PATHS,
  depths = [1, 256],
  ms = 500,
  runs = 5,
}: HopBenchOptions = {}): Promise<HopRow[]> {
  const contenders = depths.flatMap(depth => paths.map(path => ({ path, depth, runs: [] as HopRun[] })))
  for (let round = 0; round < runs; round++) {
    for (const { path, depth, runs } of contenders) runs.push(await run({ path, depth, ms }))
  }
  return contenders.map(({ path, depth, runs }) => ({
    ...rowOf(
      `${NAMES[path]}, depth ${depth}`,
      runs.map(({ wallMs, windows }) => (wallMs * 1000) / windows),
    ),
    cpuUsPerOp: median(runs.map(({ cpuUs, windows }) => cpuUs / windows)),
    path,
    depth,
  }))
}

/** @param nodeOptions of Node.js, for example to profile it */
export async function run(options: HopOptions, nodeOptions: readonly string[] = []): Promise<HopRun> {
  const args = [...nodeOptions, PROGRAM, JSON.stringify(options)]
  // Killed, as a thread that blocks hears no other signal.
  const { stdout } = await execute(execPath, args, { timeout: TIMEOUT_MS, killSignal: 'SIGKILL' })
  return JSON.parse(stdout)
}
