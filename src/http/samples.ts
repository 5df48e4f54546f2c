import { WINDOW_BYTES } from '../core/window.ts'
import { SAMPLE_BYTES } from './frame.ts'
import type { Gap } from './variant.ts'

/** Told what a cutter makes of the samples, in their order. */
export interface Cut {
  /** @param bytes 3600 bytes of little-endian float32[100][9], valid during the call only */
  window(sequence: number, bytes: Uint8Array): void
  gap(gap: Gap): void
}

/**
 * Cuts a recording that comes in pieces of any size into windows: window k is the samples from
 * k × hop up to, not including, k × hop + 100. Indices and sequences are uint32 and wrap; of two,
 * the one less than half the way round ahead is the later.
 *
 * A window inside a piece is lent from it. One that begins in an earlier piece is put together in the
 * seam: what is held of the earlier pieces, then what the new one brings.
 *
 *   seam    0 … 99    samples held, from the next window's first on
 *         … 198       the beginning of the new piece, for windows that begin among those held
 *
 * Invariant: at most 99 samples are held between two calls, as 100 would have been cut.
 */
export class SampleCutter {
  readonly #hop: number
  readonly #cut: Cut
  readonly #seam = new Uint8Array(2 * WINDOW_BYTES)
  /** The next window, and its first sample. */
  #sequence: number
  #start: number
  /** Samples received from `#start` on; below 0 while those before it are skipped. */
  #held = 0

  /** @param first sequence of the first window to cut */
  constructor(options: { hop: number; first: number }, cut: Cut) {
    this.#hop = options.hop
    this.#cut = cut
    this.#sequence = options.first
    this.#start = Math.imul(options.first, options.hop) >>> 0
  }

  /** @param bytes float32[n][9], the first of which has this index; copied as far as they are needed later */
  push(index: number, bytes: Uint8Array): void {
    const expected = (this.#start + this.#held) >>> 0
    const ahead = (index - expected) | 0
    if (ahead > 0) this.#skipTo(index, expected)
    const repeated = Math.max(0, -ahead)
    const fresh = bytes.length / SAMPLE_BYTES - repeated
    if (fresh <= 0) return
    const unwanted = Math.max(0, -this.#held)
    if (fresh <= unwanted) {
      this.#held += fresh
      return
    }
    this.#held += unwanted
    this.#take(bytes.subarray((repeated + unwanted) * SAMPLE_BYTES))
  }

  /** Samples are missing: no window spans them. */
  #skipTo(index: number, missing: number): void {
    const behindStart = (index - this.#start) | 0
    // Between two windows that do not touch, nothing is missed.
    const missed = this.#held > 0 || behindStart > 0
    if (behindStart > 0) this.#advance(Math.ceil(behindStart / this.#hop))
    this.#held = (index - this.#start) | 0
    if (missed) this.#cut.gap({ missing, index, sequence: this.#sequence })
  }

  /** Cuts what can be cut of the samples held and the new ones behind them. */
  #take(bytes: Uint8Array): void {
    const heldBytes = this.#held * SAMPLE_BYTES
    const seamBytes = Math.min(bytes.length, heldBytes === 0 ? 0 : WINDOW_BYTES - SAMPLE_BYTES)
    this.#seam.set(bytes.subarray(0, seamBytes), heldBytes)
    const end = heldBytes + bytes.length
    /** Where the next window begins, counted from the first sample held. */
    let at = 0
    while (at + WINDOW_BYTES <= end) {
      const window =
        at < heldBytes
          ? this.#seam.subarray(at, at + WINDOW_BYTES)
          : bytes.subarray(at - heldBytes, at - heldBytes + WINDOW_BYTES)
      const sequence = this.#sequence
      this.#advance(1)
      at += this.#hop * SAMPLE_BYTES
      this.#cut.window(sequence, window)
    }
    if (at < heldBytes) this.#seam.copyWithin(0, at, end)
    else if (at < end) this.#seam.set(bytes.subarray(at - heldBytes), 0)
    this.#held = (end - at) / SAMPLE_BYTES
  }

  #advance(windows: number): void {
    this.#sequence = (this.#sequence + windows) >>> 0
    this.#start = (this.#start + windows * this.#hop) >>> 0
  }
}
