import { cosineOf, type GoldenVectors, topOf } from '../core/golden.ts'
import { LATENT_DIMS, WINDOW_VALUES } from '../core/window.ts'
import type { Engine } from './engine.ts'

export interface GoldenParity {
  /** The smallest cosine between a latent of ours and the trained model's. */
  readonly cosine: number
  /** Windows whose top motif is another than the trained model's. */
  readonly topMotifMisses: number
}

/** Less than this, and the backend does not run the model that was trained. */
export const SMALLEST_COSINE = 0.9999

/** A first run may take longer than any client would wait. */
const TIMEOUT_MS = 5000
const BLANK_WINDOWS = 64

/**
 * Sends the golden windows through every stream, one by one and then as many at once as the ring
 * takes, and compares what comes back. Warms the path up on the way: the first burst after a cold
 * start would be late.
 */
export async function goldenParity(engine: Engine, golden: GoldenVectors): Promise<GoldenParity> {
  const motifCount = golden.motifScores.length / golden.count
  let cosine = 1
  let topMotifMisses = 0
  await throughEveryStream(engine, golden.windows, (output, index) => {
    const latent = output.subarray(0, LATENT_DIMS)
    cosine = Math.min(cosine, cosineOf(latent, row(golden.latents, LATENT_DIMS, index)))
    const scores = output.subarray(LATENT_DIMS)
    if (topOf(scores) !== topOf(row(golden.motifScores, motifCount, index))) topMotifMisses++
  })
  return { cosine, topMotifMisses }
}

/** Warms the path up where there are no golden windows to do it with. */
export async function warmUp(engine: Engine): Promise<void> {
  await throughEveryStream(engine, new Float32Array(BLANK_WINDOWS * WINDOW_VALUES), () => {})
}

async function throughEveryStream(
  engine: Engine,
  windows: Float32Array,
  onOutput: (output: Float32Array, index: number) => void,
): Promise<void> {
  const indices = Array.from({ length: windows.length / WINDOW_VALUES }, (_, index) => index)
  for (const stream of engine.streams) {
    for (const atOnce of [1, stream.ring.capacity]) {
      for (let first = 0; first < indices.length; first += atOnce) {
        const batch = indices.slice(first, first + atOnce).map(async index => {
          onOutput(await engine.infer(row(windows, WINDOW_VALUES, index), TIMEOUT_MS, stream), index)
        })
        await Promise.all(batch)
      }
    }
  }
}

function row(values: Float32Array, length: number, index: number): Float32Array {
  return values.subarray(index * length, (index + 1) * length)
}
