import { join } from 'node:path'
import { build, SOFT } from '../../native/build.ts'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { percentile } from '../latencies.ts'
import { runJson } from './child.ts'

const PROGRAM = join(PROJECT_FOLDER, 'native', 'build', 'bench', 'network_bench')
const SOURCE = join(PROJECT_FOLDER, 'native', 'test', 'network_bench.cc')
const HEF = join(PROJECT_FOLDER, 'artifacts', 'tcn_encoder.soft.hef')
const ONNX = join(PROJECT_FOLDER, 'artifacts', 'model_dynamic.onnx')
const ONNX_LOOP = join(PROJECT_FOLDER, 'dist', 'bench', 'device', 'onnx-loop.js')

/** Of the software HailoRT, what the network alone needs. */
const NETWORK_SOURCES = ['hef.cc', 'checksum.cc', 'release.cc', 'network.cc', 'kernels.cc']

/** How fast one contender runs the model on one core, with nothing around it. */
export interface NetworkRow {
  readonly name: string
  readonly windowsPerSecond: number
  readonly lowest: number
  readonly highest: number
  readonly runs: number
  /** To ONNX Runtime, one window a run. */
  readonly ratio: number
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
 * The int8 network of the software HailoRT, on the best instructions of this CPU and on the plain
 * loops, beside the float model in ONNX Runtime. Contenders take turns, each run in a fresh process.
 */
export async function measureNetwork({ runs = 5, milliseconds = 1000 } = {}): Promise<NetworkRow[]> {
  const onnx = (batch: number) => () =>
    runJson<{ windowsPerSecond: number }>(process.execPath, [ONNX_LOOP, ONNX, batch, milliseconds])
  const contenders = [
    { name: 'onnxruntime float, batch 1', run: onnx(1) },
    { name: 'onnxruntime float, batch 4', run: onnx(4) },
    { name: 'onnxruntime float, batch 16', run: onnx(16) },
    { name: 'int8 network, SIMD', run: () => runInt8Network({ milliseconds }) },
    { name: 'int8 network, portable', run: () => runInt8Network({ simd: 'off', milliseconds }) },
  ]
  const speeds = contenders.map((): number[] => [])
  for (let round = 0; round < runs; round++) {
    for (const [index, { run }] of contenders.entries()) speeds[index]!.push((await run()).windowsPerSecond)
  }
  const rows = contenders.map(({ name }, index) => {
    const sorted = speeds[index]!.toSorted((a, b) => a - b)
    return {
      name,
      windowsPerSecond: percentile(sorted, 50)!,
      lowest: sorted[0]!,
      highest: sorted.at(-1)!,
      runs,
    }
  })
  return rows.map(row => ({ ...row, ratio: row.windowsPerSecond / rows[0]!.windowsPerSecond }))
}

/** @param simd what SOFTHAILORT_SIMD takes, see native/soft/README.md */
export async function runInt8Network({
  simd,
  milliseconds,
}: {
  simd?: string
  milliseconds: number
}): Promise<Int8Run> {
  const sources = NETWORK_SOURCES.map(name => join(PROJECT_FOLDER, 'native', 'soft', name))
  await build({ output: PROGRAM, sources: [SOURCE, ...sources], flags: SOFT.flags! })
  return runJson(PROGRAM, [HEF, milliseconds], simd === undefined ? {} : { SOFTHAILORT_SIMD: simd })
}
