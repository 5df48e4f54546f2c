import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build, SHIM, SOFT } from '../../native/build.ts'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { percentile } from '../latencies.ts'
import { runJson } from './child.ts'
import type { EngineOrder, EngineRun } from './engine-process.ts'

/** The modelled device. What comes of it is modelled: say so beside every number. */
export const MODELLED = {
  framesPerSecond: 5000,
  /** From the arrival of a window at the device to its completion, in microseconds. */
  latencyUs: 400,
} as const

const DEPTHS = [1, 2, 4, 8, 16]
const WORKERS = [1, 2, 4]
/** The depth that HailoRT has by default. */
const DEFAULT_DEPTH = 8
/** One window every millisecond: a fifth of what the device takes. */
const LOW_LOAD_EVERY_MS = 1
const ENGINE_PROCESS = join(PROJECT_FOLDER, 'dist', 'bench', 'device', 'engine-process.js')

/** Throughput of the engine on the modelled device. */
export interface ThroughputRow {
  readonly workers: number
  /** Windows that each worker's stream holds at once. */
  readonly depth: number
  readonly windowsPerSecond: number
  /** To the rate of the modelled device, or where that is less to what its latency and the depth allow. */
  readonly ofModelled: number
  readonly lowest: number
  readonly highest: number
  readonly runs: number
  /** CPU time of a window, in microseconds, without what the software device takes. */
  readonly engineCpuUs: number
}

/** Latency at a fifth of the device's rate, beyond the modelled one. */
export interface AddedLatencyRow {
  readonly workers: number
  readonly windowsPerSecond: number
  readonly modelledUs: number
  /** Medians over the runs. */
  readonly addedP50Us: number
  readonly addedP99Us: number
  readonly runs: number
  readonly engineCpuUs: number
}

/** Every run in a fresh process; the settings take turns. */
export async function measureThroughput({ runs = 5, milliseconds = 1000 } = {}): Promise<ThroughputRow[]> {
  const settings = WORKERS.flatMap(workers => DEPTHS.map(depth => ({ workers, depth })))
  const results = await inTurns(settings, runs, ({ workers, depth }) =>
    // Twice what the streams hold: there is always a window to be taken.
    runEngine({ workers, depth, atOnce: 2 * workers * depth, everyMs: null, milliseconds }),
  )
  return settings.map(({ workers, depth }, index) => {
    const speeds = results[index]!.map(({ windowsPerSecond }) => windowsPerSecond)
    const modelled = Math.min(MODELLED.framesPerSecond, (workers * depth * 1e6) / MODELLED.latencyUs)
    return {
      workers,
      depth,
      windowsPerSecond: median(speeds),
      ofModelled: median(speeds) / modelled,
      lowest: Math.min(...speeds),
      highest: Math.max(...speeds),
      runs,
      engineCpuUs: median(results[index]!.map(engineCpuUs)),
    }
  })
}

/** Every run in a fresh process; the settings take turns. */
export async function measureAddedLatency({
  runs = 5,
  milliseconds = 1000,
} = {}): Promise<AddedLatencyRow[]> {
  const results = await inTurns(WORKERS, runs, workers =>
    runEngine({ workers, depth: DEFAULT_DEPTH, atOnce: 1, everyMs: LOW_LOAD_EVERY_MS, milliseconds }),
  )
  return WORKERS.map((workers, index) => ({
    workers,
    windowsPerSecond: median(results[index]!.map(({ windowsPerSecond }) => windowsPerSecond)),
    modelledUs: MODELLED.latencyUs,
    addedP50Us: median(results[index]!.map(({ p50Ms }) => 1000 * p50Ms - MODELLED.latencyUs)),
    addedP99Us: median(results[index]!.map(({ p99Ms }) => 1000 * p99Ms - MODELLED.latencyUs)),
    runs,
    engineCpuUs: median(results[index]!.map(engineCpuUs)),
  }))
}

/** One run of the engine on the modelled device, in a process and on a device of its own. */
export async function runEngine({
  depth,
  ...order
}: Omit<EngineOrder, 'library' | 'hef'> & { depth: number }): Promise<EngineRun> {
  await build(SHIM)
  await build(SOFT)
  const folder = mkdtempSync(join(tmpdir(), 'device-'))
  const hef = join(PROJECT_FOLDER, 'artifacts', 'tcn_encoder.soft.hef')
  try {
    return await runJson(
      process.execPath,
      [ENGINE_PROCESS, JSON.stringify({ ...order, library: SOFT.output, hef } satisfies EngineOrder)],
      {
        SOFTHAILORT_TIMING: `latency_us=${MODELLED.latencyUs},fps=${MODELLED.framesPerSecond},depth=${depth}`,
        SOFTHAILORT_LOCK_DIR: folder,
        HAILORT_LOGGER_PATH: 'NONE',
      },
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function inTurns<Setting, Result>(
  settings: readonly Setting[],
  runs: number,
  run: (setting: Setting) => Promise<Result>,
): Promise<Result[][]> {
  const results = settings.map((): Result[] => [])
  for (let round = 0; round < runs; round++) {
    for (const [index, setting] of settings.entries()) results[index]!.push(await run(setting))
  }
  return results
}

function engineCpuUs({ cpuUs }: EngineRun): number {
  return cpuUs.main + cpuUs.workers
}

function median(values: readonly number[]): number {
  return percentile(
    values.toSorted((a, b) => a - b),
    50,
  )!
}
