/**
 * The limit of the model: ONNX Runtime called in a loop on one thread, with nothing around it. Prints JSON.
 * Options, as JSON: `ms` per measurement (500), `runs` of each batch size (5), `batches` (1 to 64).
 */
import { Tensor } from 'onnxruntime-node'
import { CHANNELS, LATENT_DIMS, TIMESTEPS, WINDOW_VALUES } from '../../src/core/window.ts'
import { MOTIFS } from './noop.ts'
import { endWithParent, readOptions } from './protocol.ts'
import { openSession } from './session.ts'

export interface BareLoop {
  readonly rows: readonly BareLoopRow[]
  /** The row with the most windows per second: L. */
  readonly best: BareLoopRow
}

export interface BareLoopRow {
  readonly batch: number
  /** Median of all runs, the slowest and the fastest. */
  readonly windowsPerSecond: number
  readonly spread: readonly [number, number]
  readonly runs: number
}

const {
  ms = 500,
  runs = 5,
  batches = [1, 4, 8, 16, 32, 64],
} = readOptions<{ ms?: number; runs?: number; batches?: readonly number[] }>()
endWithParent()

const { model, session } = await openSession()
const loops = batches.map(batch => {
  const input = new Float32Array(batch * WINDOW_VALUES).map((_, index) => Math.sin(index))
  const feeds = { [model.inputName]: new Tensor('float32', input, [batch, TIMESTEPS, CHANNELS]) }
  // A run allocates no results: they are written where they were before.
  const fetches = {
    [model.latentName]: outputOf(batch, LATENT_DIMS),
    [model.motifName]: outputOf(batch, MOTIFS),
  }
  return { batch, run: () => session.run(feeds, fetches), rates: [] as number[] }
})
// The first round warms up. Interleaved, so that what slows the machine meets all.
for (let round = 0; round <= runs; round++) {
  for (const { batch, run, rates } of loops) {
    const startMs = performance.now()
    let count = 0
    for (; performance.now() - startMs < ms; count += batch) await run()
    if (round > 0) rates.push((count * 1000) / (performance.now() - startMs))
  }
}

const rows = loops.map(({ batch, rates }): BareLoopRow => {
  const sorted = rates.toSorted((a, b) => a - b)
  const windowsPerSecond = sorted[Math.floor(runs / 2)]!
  return { batch, windowsPerSecond, spread: [sorted[0]!, sorted.at(-1)!], runs }
})
const best = rows.reduce((most, row) => (row.windowsPerSecond > most.windowsPerSecond ? row : most))
process.stdout.write(`${JSON.stringify({ rows, best } satisfies BareLoop)}\n`)
process.exit()

function outputOf(batch: number, values: number): Tensor {
  return new Tensor('float32', new Float32Array(batch * values), [batch, values])
}
