import { join } from 'node:path'
import { execPath } from 'node:process'
import { build, SOFT, type Target } from '../../native/build.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../../src/project.ts'
import type { BareLoop } from '../contenders/bare-loop.ts'
import { runJson } from '../contenders/run-json.ts'

const HEF = join(SHIPPED_MODEL_FOLDER, 'tcn_encoder.soft.hef')
const BARE_LOOP = join(PROJECT_FOLDER, 'dist', 'bench', 'contenders', 'bare-loop.js')
const BATCHES = [1, 4, 16]

/** Of the software HailoRT, what the network alone needs. */
const SOURCES = ['hef.cc', 'checksum.cc', 'release.cc', 'network.cc', 'kernels.cc', 'transform.cc']

export const NETWORK_BENCH: Target = {
  output: join(PROJECT_FOLDER, 'native', 'build', 'bench', 'network_bench'),
  sources: [
    join(PROJECT_FOLDER, 'native', 'test', 'network_bench.cc'),
    ...SOURCES.map(name => join(PROJECT_FOLDER, 'native', 'soft', name)),
  ],
  flags: SOFT.flags!,
}

/** How fast one contender runs the model on one core, with nothing around it. */
export interface NetworkRow {
  readonly name: string
  readonly windowsPerSecond: number
}

/** What one run of the int8 network tells. */
export interface Int8Run {
  /** What ran it: `avx512`, `portable`, … */
  readonly kernels: string
  readonly windowsPerSecond: number
  /** Of the results, equal for all kernels. */
  readonly digest: string
}

/**
 * The int8 network of the software HailoRT, on the best instructions of this CPU and on the plain loops, beside the
 * float model in ONNX Runtime. Both read float32 windows and write float32 results into memory that is there.
 */
export async function measureNetwork(milliseconds: number): Promise<NetworkRow[]> {
  const options = JSON.stringify({ ms: milliseconds, batches: BATCHES })
  const loops = await runJson<BareLoop[]>([execPath, BARE_LOOP, options])
  const simd = await runInt8Network({ milliseconds })
  const portable = await runInt8Network({ simd: 'off', milliseconds })
  return [
    ...loops.map(({ batch, windowsPerSecond }) => ({
      name: `onnxruntime float, batch ${batch}`,
      windowsPerSecond,
    })),
    { name: 'int8 network, SIMD', windowsPerSecond: simd.windowsPerSecond },
    { name: 'int8 network, portable', windowsPerSecond: portable.windowsPerSecond },
  ]
}

/** @param simd what SOFTHAILORT_SIMD takes, see native/soft/README.md */
export async function runInt8Network({
  simd,
  milliseconds,
}: {
  simd?: string
  milliseconds: number
}): Promise<Int8Run> {
  await build(NETWORK_BENCH)
  return runJson([NETWORK_BENCH.output, HEF, String(milliseconds)], {
    settings: simd === undefined ? {} : { SOFTHAILORT_SIMD: simd },
  })
}
