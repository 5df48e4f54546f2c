import { join } from 'node:path'
import { execPath } from 'node:process'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { runJson } from '../contenders/run-json.ts'
import type { HopOptions, HopPath, HopRun } from './hop-run.ts'

const PROGRAM = join(PROJECT_FOLDER, 'dist', 'bench', 'micro', 'hop-run.js')
const PATIENCE_MS = 30_000

/** What each path is called in a report. */
export const HOP_NAMES: Readonly<Record<HopPath, string>> = {
  ring: 'ring alone, Atomics.waitAsync',
  engine: 'the engine: admission, ring, settlement',
  blocking: 'Atomics.wait on both sides',
  port: 'MessagePort.postMessage()',
  piscina: 'Piscina run()',
}
export const HOP_PATHS = Object.keys(HOP_NAMES) as HopPath[]

/** Windows across threads, in a fresh process. @param nodeOptions of Node.js, for example to profile it */
export function runHop(options: HopOptions, nodeOptions: readonly string[] = []): Promise<HopRun> {
  return runJson([execPath, ...nodeOptions, PROGRAM, JSON.stringify(options)], {
    timeoutMs: 2 * options.ms + PATIENCE_MS,
  })
}
