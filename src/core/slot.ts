import { BACKENDS, type BackendKind } from './backend.ts'
import { OUTCOMES, type Outcome } from './outcome.ts'
import { LATENT_DIMS, MAX_MOTIFS, WINDOW_VALUES } from './window.ts'

/**
 * One ring slot: a window goes in, its result comes out in place. No second ring, no allocation.
 *
 *   byte    0   input           3600 B   float32[100][9]   m/s² ×3, rad/s ×3, µT ×3 per time step
 *   byte 3600   output           432 B   float32[64] latent, then up to float32[44] motif scores
 *   byte 4032   deadline           8 B   float64, ms on the monotonic clock
 *   byte 4040   published          8 B   float64, ms on the monotonic clock
 *   byte 4048   queue wait         4 B   float32, ms from published to taken
 *   byte 4052   inference time     4 B   float32, ms from taken to finished
 *   byte 4056   claim              4 B   int32, WAITING → TAKEN or DROPPED
 *   byte 4060   outcome            4 B   int32, index into OUTCOMES
 *   byte 4064   backend            4 B   int32, index into BACKENDS: what gave the result
 *   byte 4068   generation         4 B   int32, of the model that gave the result: see StreamTask
 *   byte 4072   spare             24 B
 *   stride     4096 B
 */
export const SLOT_STRIDE_BYTES = 4096

const OUTPUT_OFFSET = WINDOW_VALUES * 4
const DEADLINE_OFFSET = OUTPUT_OFFSET + (LATENT_DIMS + MAX_MOTIFS) * 4

const DEADLINE_MS = 0 // float64 cells from DEADLINE_OFFSET
const PUBLISHED_MS = 1
const QUEUE_WAIT_MS = 4 // float32 and int32 cells from DEADLINE_OFFSET
const INFERENCE_MS = 5
const CLAIM = 6
const OUTCOME = 7
const BACKEND = 8
const GENERATION = 9

/** Published, not yet looked at. Front door and worker race for it by compare-and-exchange. */
const WAITING = 0
/** The worker won: the window has gone to the model. */
const TAKEN = 1
/** Nobody wants it any more: the worker passes over it without costing the model any time. */
const DROPPED = 2

/** Views of all slots of a ring, which the slots share: views of their own would be as many more cache misses. */
export interface SlotCells {
  readonly float64: Float64Array
  readonly float32: Float32Array
  readonly int32: Int32Array
}

/** A view of one slot. Front door and worker each hold their own over the same bytes. */
export class Slot {
  /** float32[100][9], raw sensor units. */
  readonly input: Float32Array<SharedArrayBuffer>
  readonly inputBytes: Uint8Array<SharedArrayBuffer>
  /** float32[64 + motifs]: latent, then motif scores. Valid from completed until released. */
  readonly output: Float32Array<SharedArrayBuffer>
  readonly outputBytes: Uint8Array<SharedArrayBuffer>
  readonly #float64: Float64Array
  readonly #float32: Float32Array
  readonly #int32: Int32Array
  /** The first cell of 8 bytes, and of 4. */
  readonly #at8: number
  readonly #at4: number

  constructor(buffer: SharedArrayBuffer, offset: number, motifCount: number, cells: SlotCells) {
    const outputValues = LATENT_DIMS + motifCount
    this.input = new Float32Array(buffer, offset, WINDOW_VALUES)
    this.inputBytes = new Uint8Array(buffer, offset, WINDOW_VALUES * 4)
    this.output = new Float32Array(buffer, offset + OUTPUT_OFFSET, outputValues)
    this.outputBytes = new Uint8Array(buffer, offset + OUTPUT_OFFSET, outputValues * 4)
    this.#float64 = cells.float64
    this.#float32 = cells.float32
    this.#int32 = cells.int32
    this.#at8 = (offset + DEADLINE_OFFSET) / 8
    this.#at4 = (offset + DEADLINE_OFFSET) / 4
  }

  /** When an answer stops being useful, in ms on the monotonic clock. */
  get deadlineMs(): number {
    return this.#float64[this.#at8 + DEADLINE_MS]!
  }

  get publishedMs(): number {
    return this.#float64[this.#at8 + PUBLISHED_MS]!
  }

  get queueWaitMs(): number {
    return this.#float32[this.#at4 + QUEUE_WAIT_MS]!
  }

  get inferenceMs(): number {
    return this.#float32[this.#at4 + INFERENCE_MS]!
  }

  get outcome(): Outcome {
    return OUTCOMES[this.#int32[this.#at4 + OUTCOME]!]!
  }

  /** What gave the result. Says nothing when there is none. */
  get backend(): BackendKind {
    return BACKENDS[this.#int32[this.#at4 + BACKEND]!]!
  }

  /** Of the model that gave the result: valid like `backend`. */
  get generation(): number {
    return this.#int32[this.#at4 + GENERATION]!
  }

  get taken(): boolean {
    return Atomics.load(this.#int32, this.#at4 + CLAIM) === TAKEN
  }

  /** Front door, before publishing. */
  prepare(nowMs: number, deadlineMs: number): void {
    this.#float64[this.#at8 + DEADLINE_MS] = deadlineMs
    this.#float64[this.#at8 + PUBLISHED_MS] = nowMs
    this.#int32[this.#at4 + CLAIM] = WAITING
  }

  /** Front door: gives up on a window that waits. False when the worker has taken it already. */
  drop(): boolean {
    return Atomics.compareExchange(this.#int32, this.#at4 + CLAIM, WAITING, DROPPED) === WAITING
  }

  /**
   * Worker: claims the window for the model. False, with the outcome written, when it expired
   * while waiting, when the front door dropped it, or when a worker before this one died with it:
   * that window may be what killed it, so it is not tried again.
   */
  take(nowMs: number): boolean {
    this.#float32[this.#at4 + QUEUE_WAIT_MS] = nowMs - this.publishedMs
    this.#float32[this.#at4 + INFERENCE_MS] = 0
    const expired = nowMs > this.deadlineMs
    const found = Atomics.compareExchange(this.#int32, this.#at4 + CLAIM, WAITING, expired ? DROPPED : TAKEN)
    if (found === WAITING && !expired) return true
    this.#int32[this.#at4 + OUTCOME] = OUTCOMES.indexOf(
      found === TAKEN ? 'model_unavailable' : 'deadline_exceeded',
    )
    Atomics.store(this.#int32, this.#at4 + CLAIM, DROPPED)
    return false
  }

  /**
   * Gives up on a window that a lost worker or backend had looked at. False when it had not: the
   * window still waits.
   */
  abandon(): boolean {
    const found = Atomics.compareExchange(this.#int32, this.#at4 + CLAIM, TAKEN, DROPPED)
    if (found === TAKEN) this.#int32[this.#at4 + OUTCOME] = OUTCOMES.indexOf('model_unavailable')
    return found !== WAITING
  }

  /** Worker: how the inference ended. The completed cursor, stored after this, makes it visible. */
  finish(outcome: Outcome, backend: BackendKind, nowMs: number, generation = 0): void {
    this.#int32[this.#at4 + OUTCOME] = OUTCOMES.indexOf(outcome)
    this.#int32[this.#at4 + BACKEND] = BACKENDS.indexOf(backend)
    this.#int32[this.#at4 + GENERATION] = generation
    this.#float32[this.#at4 + INFERENCE_MS] = Math.max(0, nowMs - this.publishedMs - this.queueWaitMs)
  }
}
