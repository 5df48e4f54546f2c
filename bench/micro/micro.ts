import { Bench } from 'tinybench'
import { ADMISSION_CASES } from './cases/admission.ts'
import { CODEC_CASES } from './cases/codec.ts'
import { FRAME_CASES } from './cases/frames.ts'
import { METRICS_CASES } from './cases/metrics.ts'
import { RING_CASES } from './cases/ring.ts'
import { WINDOW_CASES } from './cases/window.ts'
import { WITNESS_CASES } from './cases/witnesses.ts'

const CASES = [
  ...RING_CASES,
  ...WINDOW_CASES,
  ...CODEC_CASES,
  ...FRAME_CASES,
  ...ADMISSION_CASES,
  ...METRICS_CASES,
  ...WITNESS_CASES,
]

/** What one thing costs. */
export interface MicroRow {
  readonly name: string
  /** Median of the samples. */
  readonly usPerOp: number
}

/** What the parts of a window's way cost, each alone and on one thread. @param ms for each, and half of it to warm up */
export async function benchMicro({ ms = 500 }: { ms?: number } = {}): Promise<MicroRow[]> {
  const bench = new Bench({
    time: ms,
    iterations: 1,
    warmupTime: ms / 2,
    warmupIterations: 1,
    throws: true,
  })
  for (const { name, call } of CASES) bench.add(name, call)
  const tasks = await bench.run()
  return tasks.map(({ name, result }, index) => {
    if (result.state !== 'completed') throw new Error(`${name} was ${result.state}`)
    return { name, usPerOp: (result.latency.p50! * 1000) / CASES[index]!.opsPerCall }
  })
}
