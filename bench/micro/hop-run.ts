/**
 * Windows from one thread to another and back, by one path, for a fixed time: a fresh process for each run. Prints
 * JSON. Each window is written where the path takes it from, and its result is looked at.
 */
import { NOOP_RESULT } from '../contenders/noop.ts'
import { endWithParent, readOptions } from '../contenders/protocol.ts'

const PATHS = {
  engine: () => import('./hops/engine.ts'),
  ring: () => import('./hops/ring.ts'),
  blocking: () => import('./hops/blocking.ts'),
  port: () => import('./hops/port.ts'),
  piscina: () => import('./hops/piscina.ts'),
}

export type HopPath = keyof typeof PATHS

export interface HopOptions {
  readonly path: HopPath
  /** Windows under way at once. */
  readonly depth: number
  readonly ms: number
}

export interface HopRun {
  readonly windows: number
  readonly wallMs: number
  /** Of all threads, µs. */
  readonly cpuUs: number
}

const CHECKED_VALUE = 7

const { path, depth, ms } = readOptions<HopOptions>()
endWithParent()
let windows = 0
const { open } = await PATHS[path]()
const hop = await open({
  depth,
  onResult(result) {
    if (result[CHECKED_VALUE] !== NOOP_RESULT[CHECKED_VALUE]) throw new Error(`${path} gave a wrong result`)
    windows++
  },
})
await hop.run(ms / 2) // warms up
windows = 0
const cpuBefore = process.cpuUsage()
const startMs = performance.now()
await hop.run(ms)
const wallMs = performance.now() - startMs
const { user, system } = process.cpuUsage(cpuBefore)
process.stdout.write(`${JSON.stringify({ windows, wallMs, cpuUs: user + system } satisfies HopRun)}\n`)
await hop.close()
process.exit()
