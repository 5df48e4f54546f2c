import { LATENT_DIMS, WINDOW_VALUES } from '../core/window.ts'
import type { Engine } from './engine.ts'

/** Recorded windows with the trained model's own results for them. */
export interface Golden {
  readonly count: number
  /** float32[count][100][9], raw sensor units */
  readonly windows: Float32Array
  /** float32[count][64] */
  readonly latents: Float32Array
  /** float32[count][motifs] */
  readonly motifScores: Float32Array
}

export interface GoldenParity {
  /** The smallest cosine between a latent of ours and the trained model's. */
  readonly cosine: number
  /** Windows whose top motif is another than the trained model's. */
  readonly topMotifMisses: number
}

/** Less than this, and the backend does not run the model that was trained. */
export const SMALLEST_COSINE = 0.9999

/** Loading a model and its first run may take longer than any client would wait. */
const GOLDEN_TIMEOUT_MS = 5000

/** Sends the golden windows through every stream and compares what comes back. */
export async function goldenParity(engine: Engine, golden: Golden): Promise<GoldenParity> {
  const motifCount = golden.motifScores.length / golden.count
  let cosine = 1
  let topMotifMisses = 0
  for (const stream of engine.streams) {
    for (let index = 0; index < golden.count; index++) {
      const output = await engine.infer(row(golden.windows, WINDOW_VALUES, index), GOLDEN_TIMEOUT_MS, stream)
      const latent = output.subarray(0, LATENT_DIMS)
      cosine = Math.min(cosine, cosineOf(latent, row(golden.latents, LATENT_DIMS, index)))
      const scores = output.subarray(LATENT_DIMS)
      if (topOf(scores) !== topOf(row(golden.motifScores, motifCount, index))) topMotifMisses++
    }
  }
  return { cosine, topMotifMisses }
}

export function cosineOf(a: Float32Array, b: Float32Array): number {
  let dot = 0
  let aa = 0
  let bb = 0
  for (let index = 0; index < a.length; index++) {
    dot += a[index]! * b[index]!
    aa += a[index]! ** 2
    bb += b[index]! ** 2
  }
  return dot / Math.sqrt(aa * bb)
}

/** The index of the largest score. */
export function topOf(scores: Float32Array): number {
  return scores.indexOf(Math.max(...scores))
}

function row(values: Float32Array, length: number, index: number): Float32Array {
  return values.subarray(index * length, (index + 1) * length)
}
