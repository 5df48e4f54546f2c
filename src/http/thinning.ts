import { TIMESTEPS } from '../core/window.ts'

/**
 * Picks, of windows that overlap, those that go on when a stream is thinned: each that begins where the last one that
 * went on has ended, or later. Every sample is still seen once. Indices wrap, as in SampleCutter.
 */
export class Thinning {
  readonly #hop: number
  /** Behind the last sample of the last window that went on. */
  #end: number

  /** @param first sequence of the first window to come */
  constructor({ hop, first }: { hop: number; first: number }) {
    this.#hop = hop
    this.#end = Math.imul(first, hop) >>> 0
  }

  /** Whether the window goes on. @param isThinned at this moment */
  passes(sequence: number, isThinned: boolean): boolean {
    const start = Math.imul(sequence, this.#hop) >>> 0
    if (isThinned && ((start - this.#end) | 0) < 0) return false
    this.#end = (start + TIMESTEPS) >>> 0
    return true
  }
}
