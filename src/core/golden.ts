import type { BackendKind } from './backend.ts'
import { LATENT_DIMS, WINDOW_VALUES } from './window.ts'

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

/** What the model that a backend runs is to answer. Null: nobody knows. */
export type GoldenOf = (backend: BackendKind) => GoldenVectors | null

/** What an answer may differ in from the trained model's own. */
interface ParityLimits {
  readonly smallestCosine: number
  readonly meanCosine: number
  /** Where the trained model's two best motifs lie nearer than this, either may be the best. */
  readonly tie: number
}

/** A device computes with 8 bits, ONNX Runtime with float32. The stub has no model to be like. */
const LIMITS: Record<BackendKind, ParityLimits | null> = {
  hailo: { smallestCosine: 0.995, meanCosine: 0.999, tie: 0.1 },
  onnx: { smallestCosine: 0.9999, meanCosine: 0.9999, tie: 0 },
  stub: null,
}

/** How near the answers of one backend come to the trained model's own. */
export class Parity {
  /** The smallest between a latent and the trained model's. */
  cosine = 1
  /** Windows with another best motif than the trained model's, where that is no close call. */
  topMotifMisses = 0
  #cosines = 0
  #answers = 0
  readonly #golden: GoldenVectors
  readonly #limits: ParityLimits

  private constructor(golden: GoldenVectors, limits: ParityLimits) {
    this.#golden = golden
    this.#limits = limits
  }

  /** Null for a backend that nothing is asked of. */
  static of(backend: BackendKind, golden: GoldenVectors): Parity | null {
    const limits = LIMITS[backend]
    return limits && new Parity(golden, limits)
  }

  /** @param output float32[64 + motifs], the answer to the golden window `index` */
  add(output: Float32Array, index: number): void {
    const cosine = cosineOf(output.subarray(0, LATENT_DIMS), row(this.#golden.latents, LATENT_DIMS, index))
    this.cosine = Math.min(this.cosine, cosine)
    this.#cosines += cosine
    this.#answers++
    const scores = output.subarray(LATENT_DIMS)
    const expected = row(this.#golden.motifScores, scores.length, index)
    const [best = 0, next = 0] = expected.toSorted().reverse()
    if (topOf(scores) !== topOf(expected) && best - next >= this.#limits.tie) this.topMotifMisses++
  }

  get meanCosine(): number {
    return this.#cosines / this.#answers
  }

  get holds(): boolean {
    const { smallestCosine, meanCosine } = this.#limits
    // Asked this way round, because an answer that is not a number holds nothing.
    return this.cosine >= smallestCosine && this.meanCosine >= meanCosine && this.topMotifMisses === 0
  }

  /** In words, with the values that decided. */
  toString(): string {
    const { smallestCosine, meanCosine } = this.#limits
    return (
      `latent cosines from ${this.cosine.toFixed(5)}, expected ${smallestCosine}, ` +
      `their mean ${this.meanCosine.toFixed(5)}, expected ${meanCosine}, ` +
      `and ${this.topMotifMisses} of ${this.#answers} best motifs wrong`
    )
  }
}

/** The golden window `index`, float32[100][9]: do not write. */
export function goldenWindow({ windows }: GoldenVectors, index: number): Float32Array {
  return row(windows, WINDOW_VALUES, index)
}

/** The first `count`, in memory of their own. */
export function firstOf(golden: GoldenVectors, count: number): GoldenVectors {
  const part = (values: Float32Array) => values.slice(0, (values.length / golden.count) * count)
  return {
    count,
    windows: part(golden.windows),
    latents: part(golden.latents),
    motifScores: part(golden.motifScores),
  }
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
