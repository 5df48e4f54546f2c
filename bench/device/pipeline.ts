import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { build, SHIM, SOFT } from '../../native/build.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../../src/project.ts'
import { runJson } from '../contenders/run-json.ts'
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
export const DEFAULT_DEPTH = 8
/** A fifth of what the device takes. */
export const LOW_LOAD_PER_SECOND = 1000
const ENGINE_PROCESS = join(PROJECT_FOLDER, 'dist', 'bench', 'device', 'engine-process.js')

/** What is not measured, but must be known of it. */
interface Facts {
  readonly refused: number
  /** Windows without a result, or with a wrong one. */
  readonly wrong: number
}

/** Throughput of the engine on the modelled device. */
export interface ThroughputRow extends Facts {
  readonly workers: number
  /** Windows that each worker's stream holds at once. */
  readonly depth: number
  readonly windowsPerSecond: number
  /** To the rate of the modelled device, or where that is less to what its latency and the depth allow. */
  readonly ofModelled: number
  /** CPU time of a window, in microseconds, without what the software device takes. */
  readonly engineCpuUs: number
}

/** Latency at a fifth of the device's rate, beyond the modelled one. */
export interface AddedLatencyRow extends Facts {
  readonly workers: number
  readonly addedP50Us: number
}

/** Every setting in a fresh process. */
export async function measureThroughput(milliseconds: number): Promise<ThroughputRow[]> {
  const rows: ThroughputRow[] = []
  for (const workers of WORKERS) {
    for (const depth of DEPTHS) {
      // Twice what the streams hold: there is always a window to be taken.
      const atOnce = 2 * workers * depth
      const run = await runEngine({ workers, depth, atOnce, everyMs: null, milliseconds })
      const { windowsPerSecond, cpuUs, refused, wrong } = run
      const modelled = Math.min(MODELLED.framesPerSecond, (workers * depth * 1e6) / MODELLED.latencyUs)
      rows.push({
        workers,
        depth,
        windowsPerSecond,
        ofModelled: windowsPerSecond / modelled,
        engineCpuUs: cpuUs.main + cpuUs.workers,
        refused,
        wrong,
      })
    }
  }
  return rows
}

/** Every setting in a fresh process. */
export async function measureAddedLatency(milliseconds: number): Promise<AddedLatencyRow[]> {
  const rows: AddedLatencyRow[] = []
  for (const workers of WORKERS) {
    const everyMs = 1000 / LOW_LOAD_PER_SECOND
    const run = await runEngine({ workers, depth: DEFAULT_DEPTH, atOnce: 1, everyMs, milliseconds })
    const { p50Ms, refused, wrong } = run
    rows.push({ workers, addedP50Us: 1000 * p50Ms - MODELLED.latencyUs, refused, wrong })
  }
  return rows
}

/** One run of the engine on the modelled device, in a process and on a device of its own. */
export async function runEngine({
  depth,
  ...order
}: Omit<EngineOrder, 'library' | 'hef'> & { depth: number }): Promise<EngineRun> {
  await build(SHIM)
  await build(SOFT)
  const folder = mkdtempSync(join(tmpdir(), 'device-'))
  const hef = join(SHIPPED_MODEL_FOLDER, 'tcn_encoder.soft.hef')
  try {
    const whole: EngineOrder = { ...order, library: SOFT.output, hef }
    return await runJson([execPath, ENGINE_PROCESS, JSON.stringify(whole)], {
      settings: {
        SOFTHAILORT_TIMING: `latency_us=${MODELLED.latencyUs},fps=${MODELLED.framesPerSecond},depth=${depth}`,
        SOFTHAILORT_LOCK_DIR: folder,
        HAILORT_LOGGER_PATH: 'NONE',
      },
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
}
