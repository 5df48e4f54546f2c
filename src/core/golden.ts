/** Recorded windows with the trained model's own outputs, all row-major. */
export interface GoldenVectors {
  readonly count: number
  /** float32[count][100][9], raw sensor units */
  readonly windows: Float32Array
  /** float32[count][64] */
  readonly latents: Float32Array
  /** float32[count][motifs], probabilities */
  readonly motifScores: Float32Array
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
