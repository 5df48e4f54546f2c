import { CHANNELS, TIMESTEPS } from '../src/core/window.ts'
import { encodeFrame, SAMPLE_BYTES } from '../src/http/frame.ts'
import type { Backlog, Frame, StreamFailure, StreamResult } from './backlog.ts'
import { InferenceError } from './error.ts'

/** Samples that never came: no window spans them. */
export interface Gap {
  /** Index of the first of them. */
  readonly missing: number
  /** Index of the first sample after them. */
  readonly index: number
  /** The next window that can be whole. */
  readonly sequence: number
}

/**
 * Samples that follow each other. Filled from the front; what is behind `count` is rubbish. There is room for at most
 * twice as many as there are: each hole begins a new block, and they may come close together.
 */
interface Block {
  readonly index: number
  count: number
  samples: Float32Array<ArrayBuffer>
}

/** As many samples as go into one frame: 9 KB. */
const BLOCK_SAMPLES = 256
const BLOCK_VALUES = BLOCK_SAMPLES * CHANNELS

/**
 * A recording that grows at its end, kept from the first sample of the first window without an answer.
 * Window k is the samples from k × hop up to, not including, k × hop + 100.
 *
 *   kept  …[ blocks ][ blocks ]   hole   [ blocks ]…
 *          ▲ window without answer  ▲ sent         ▲ end
 *
 * Invariant: first kept ≤ sent ≤ end, and a window is sent when its last sample is.
 */
export class SampleBacklog implements Backlog {
  readonly #hop: number
  readonly #capacity: number
  readonly #deliver: (answer: StreamResult | StreamFailure) => void
  #blocks: Block[] = []
  /** Samples in the blocks. */
  #kept = 0
  /** Index of the sample to come next. */
  #end = 0
  /** Samples before it were sent over this connection, or never will be. */
  #sent = 0
  /** The first window whose last sample was not sent. */
  #nextWindow = 0
  /** Windows by their sequence on the wire, a uint32 as are the indices there: both wrap. */
  readonly #unanswered = new Map<number, number>()

  /** @param capacity samples that may be kept */
  constructor(
    { hop, capacity }: { hop: number; capacity: number },
    deliver: (answer: StreamResult | StreamFailure) => void,
  ) {
    this.#hop = hop
    this.#capacity = capacity
    this.#deliver = deliver
  }

  get waiting(): boolean {
    const last = this.#blocks.at(-1)
    return last !== undefined && last.index + last.count > this.#sent
  }

  get unanswered(): number {
    return this.#unanswered.size
  }

  /** @throws InferenceError */
  push(samples: Float32Array): void {
    const count = samples.length / CHANNELS
    if (!Number.isInteger(count)) {
      const detail = `Cannot send ${samples.length} values, expected a multiple of ${CHANNELS} (float32[n][9])`
      throw new InferenceError('invalid_window', detail)
    }
    if (this.#kept + count > this.#capacity) {
      this.skip(count)
      const room = `${this.#kept} of at most ${this.#capacity} wait to be sent or answered`
      throw new InferenceError('queue_full', `Cannot keep ${count} samples more: ${room}`)
    }
    for (let at = 0; at < count; ) {
      const block = this.#openBlock(count - at)
      const taken = Math.min(count - at, BLOCK_SAMPLES - block.count)
      block.samples.set(samples.subarray(at * CHANNELS, (at + taken) * CHANNELS), block.count * CHANNELS)
      block.count += taken
      this.#kept += taken
      this.#end += taken
      at += taken
    }
  }

  skip(count: number): void {
    this.#end += count
  }

  rewind(): number {
    this.#nextWindow = this.#firstNeeded
    this.#sent = this.#nextWindow * this.#hop
    this.#unanswered.clear()
    return this.#nextWindow >>> 0
  }

  next(credits: number): { frame: Frame; windows: number } | null {
    const block = this.#blocks.find(block => block.index + block.count > this.#sent)
    if (block === undefined) return null
    const from = Math.max(block.index, this.#sent)
    // Behind a hole the next window is the first that begins there.
    const firstWindow = from > this.#sent ? Math.ceil(from / this.#hop) : 0
    const nextWindow = Math.max(this.#nextWindow, firstWindow)
    // One sample more would be the last one of a window that there is no credit for.
    const paid = (nextWindow + credits) * this.#hop + TIMESTEPS - 1
    const to = Math.min(block.index + block.count, paid)
    if (to <= from) return null

    this.#sent = to
    this.#nextWindow = nextWindow
    while (this.#nextWindow * this.#hop + TIMESTEPS <= to) {
      this.#unanswered.set(this.#nextWindow >>> 0, this.#nextWindow)
      this.#nextWindow++
    }
    this.#forget()
    const bytes = new Uint8Array(block.samples.buffer)
    const payload = bytes.subarray((from - block.index) * SAMPLE_BYTES, (to - block.index) * SAMPLE_BYTES)
    return {
      frame: encodeFrame('samples', { index: from >>> 0 }, payload),
      windows: this.#nextWindow - nextWindow,
    }
  }

  answer(sequence: number, answer: StreamResult | StreamFailure): void {
    if (!this.#unanswered.delete(sequence)) return
    this.#forget()
    this.#deliver(answer)
  }

  /** The server has not got all samples of some windows: there will be no answer for them. */
  lose({ missing, sequence }: Gap): void {
    for (const [wire, window] of this.#unanswered) {
      const spans = ((window * this.#hop + TIMESTEPS - missing) | 0) > 0
      if (spans && ((sequence - wire) | 0) > 0) this.#unanswered.delete(wire)
    }
    this.#forget()
  }

  cancel(sequence: number): Frame | null {
    return this.#unanswered.has(sequence) ? encodeFrame('cancel', { sequence }) : null
  }

  end(): void {
    this.#blocks = []
    this.#kept = 0
    this.#unanswered.clear()
  }

  get #firstNeeded(): number {
    const [first = this.#nextWindow] = this.#unanswered.values()
    return first
  }

  /** Lets go of samples that no window needs any more. */
  #forget(): void {
    const needed = Math.min(this.#firstNeeded * this.#hop, this.#sent)
    while (this.#blocks.length > 0 && this.#blocks[0]!.index + this.#blocks[0]!.count <= needed) {
      this.#kept -= this.#blocks.shift()!.count
    }
  }

  /** The block at the end, with room for the first of `count` samples, or for all of them. */
  #openBlock(count: number): Block {
    const last = this.#blocks.at(-1)
    if (last !== undefined && last.count < BLOCK_SAMPLES && last.index + last.count === this.#end) {
      const values = Math.min((last.count + count) * CHANNELS, BLOCK_VALUES)
      if (values > last.samples.length) {
        // Twice the room: samples that come one by one are not copied each time.
        const samples = new Float32Array(Math.min(Math.max(values, last.samples.length * 2), BLOCK_VALUES))
        samples.set(last.samples)
        last.samples = samples
      }
      return last
    }
    const samples = new Float32Array(Math.min(count * CHANNELS, BLOCK_VALUES))
    const block = { index: this.#end, count: 0, samples }
    this.#blocks.push(block)
    return block
  }
}
