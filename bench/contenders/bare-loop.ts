/**
 * The limit of the model: ONNX Runtime called in a loop on one thread, with nothing around it. Prints JSON.
 * Options, as JSON: `ms` for each batch size, and as long again to warm up; `batches` (1 to 64).
 */
import { Tensor } from 'onnxruntime-node'
import { CHANNELS, LATENT_DIMS, TIMESTEPS, WINDOW_VALUES } from '../../src/core/window.ts'
import { MOTIFS } from './noop.ts'
import { endWithParent, readOptions } from './protocol.ts'
import { openSession } from './session.ts'

export interface BareLoop {
  readonly batch: number
  readonly windowsPerSecond: number
}

const { ms, batches = [1, 4, 8, 16, 32, 64] } = readOptions<{ ms: number; batches?: readonly number[] }>()
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
  return { batch, run: () => session.run(feeds, fetches) }
})
let rows: BareLoop[] = []
for (const _round of ['warm-up', 'measured']) {
  rows = []
  for (const { batch, run } of loops) {
    const startMs = performance.now()
    let count = 0
    for (; performance.now() - startMs < ms; count += batch) await run()
    rows.push({ batch, windowsPerSecond: (count * 1000) / (performance.now() - startMs) })
  }
}
process.stdout.write(`${JSON.stringify(rows)}\n`)
process.exit()

function outputOf(batch: number, values: number): Tensor {
  return new Tensor('float32', new Float32Array(batch * values), [batch, values])
}
