import { type BackendKind, perBackend } from '../../src/core/backend.ts'
import type { Normalisation } from '../../src/core/normalise.ts'
import { suspectSensors } from '../../src/core/normalise.ts'
import { LATENT_DIMS } from '../../src/core/window.ts'
import { KEPT_REASONS, type KeptReason } from '../../src/telemetry/counters.ts'
import { Pace } from '../../src/telemetry/pace.ts'
import type { Reading } from './lines.ts'

/** Below this the two best motifs are a close call: 2 of 100 windows of the shipped recording. */
const LOW_MARGIN = 0.1
/** Above this several motifs share the score: 4 of 100 windows of the shipped recording. */
const HIGH_ENTROPY = 0.5
/** Further than this from the mean of the latents seen, in their standard deviations: none of the shipped recording. */
const FAR_SIGMA = 1.5
/** Before so many latents were seen none is far. */
const WARM_UP_LATENTS = 256
/** What was seen longer ago than so many latents counts for less and less. */
const MEMORY_LATENTS = 4096
/** Of the mean square of the latents: a dimension that hardly moves must not make everything far. */
const SMALLEST_VARIANCE = 0.01
/** Of each reason one a minute is kept, and twenty after a pause: a broken sensor does not fill the disk. */
const KEEP = { everyMs: 60_000, burst: 20 }

/** Decides which windows are worth a label. Bounded: 1 KB of memory per backend, and KEEP per reason. */
export class Scrutiny {
  #normalisation: Normalisation | null = null
  /** Each backend's own: what one makes of windows says nothing of another. */
  #seen = perBackend(() => new SeenLatents())
  readonly #paces = Object.fromEntries(KEPT_REASONS.map(reason => [reason, new Pace(KEEP)])) as Record<
    KeptReason,
    Pace
  >

  /** Latents of another model are not to be compared. @param normalisation of that model; null: nobody knows windows in other units */
  forget(normalisation: Normalisation | null): void {
    this.#normalisation = normalisation
    this.#seen = perBackend(() => new SeenLatents())
  }

  /** @param window float32[100][9], raw units */
  reasonsOf(backend: BackendKind, window: Float32Array, { latent, certainty }: Reading): KeptReason[] {
    const { margin, entropy } = certainty
    const seen = this.#seen[backend]
    const reasons: KeptReason[] = []
    if (margin < LOW_MARGIN) reasons.push('low_margin')
    if (entropy > HIGH_ENTROPY) reasons.push('high_entropy')
    if (this.#normalisation !== null && suspectSensors(window, this.#normalisation) !== 0) {
      // Not remembered: what a broken sensor leads to is nothing that others should be near to.
      return [...reasons, 'suspect_units']
    }
    if (seen.isFar(latent)) reasons.push('far_latent')
    seen.add(latent)
    return reasons
  }

  /** Whether one of the reasons has not had its share yet. @param nowMs monotonic ms */
  mayKeep(reasons: readonly KeptReason[], nowMs: number): boolean {
    return reasons.map(reason => this.#paces[reason].take(nowMs)).includes(true)
  }
}

/** Mean and variance of each dimension, over the latents of this run. */
class SeenLatents {
  readonly #mean = new Float64Array(LATENT_DIMS)
  readonly #variance = new Float64Array(LATENT_DIMS)
  #count = 0

  isFar(latent: Float32Array): boolean {
    if (this.#count < WARM_UP_LATENTS) return false
    const smallest = (SMALLEST_VARIANCE * this.#meanSquare) / LATENT_DIMS
    let squares = 0
    for (let dim = 0; dim < LATENT_DIMS; dim++) {
      squares += (latent[dim]! - this.#mean[dim]!) ** 2 / Math.max(this.#variance[dim]!, smallest)
    }
    return Math.sqrt(squares / LATENT_DIMS) > FAR_SIGMA
  }

  add(latent: Float32Array): void {
    this.#count = Math.min(this.#count + 1, MEMORY_LATENTS)
    for (let dim = 0; dim < LATENT_DIMS; dim++) {
      const off = latent[dim]! - this.#mean[dim]!
      this.#mean[dim]! += off / this.#count
      const offNow = latent[dim]! - this.#mean[dim]!
      this.#variance[dim]! += (off * offNow - this.#variance[dim]!) / this.#count
    }
  }

  /** Of a latent's length. */
  get #meanSquare(): number {
    return this.#mean.reduce((sum, mean, dim) => sum + mean ** 2 + this.#variance[dim]!, 0)
  }
}
