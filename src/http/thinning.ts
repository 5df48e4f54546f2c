import { TIMESTEPS } from '../core/window.ts'

/**
 * Picks, of windows that overlap, those that go on when a stream is thinned: each that begins where the last one that
 * went on has ended, or later. While none is refused, every sample is still seen once; behind one that is, the next is
 * tried. Indices wrap, as in SampleCutter.
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

  /** Whether the window has samples of the last one that went on. */
  overlaps(sequence: number): boolean {
    return ((this.#startOf(sequence) - this.#end) | 0) < 0
  }

  /** The window was admitted. */
  went(sequence: number): void {
    this.#end = (this.#startOf(sequence) + TIMESTEPS) >>> 0
  }

  #startOf(sequence: number): number {
    return Math.imul(sequence, this.#hop) >>> 0
  }
}
