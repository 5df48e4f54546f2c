import { BACKENDS, type BackendKind } from '../core/backend.ts'
import { distance } from '../core/ring.ts'
import type { Slot } from '../core/slot.ts'
import { LATENT_DIMS, MAX_MOTIFS, WINDOW_VALUES } from '../core/window.ts'
import type { Origin } from '../engine/observer.ts'

/**
 * One record: what a client got, as the main thread saw it.
 *
 *   byte    0   input       3600 B   float32[100][9], only where the window is to be looked at
 *   byte 3600   output       432 B   float32[64] latent, then up to float32[44] motif scores; not of errors
 *   byte 4032   answered       8 B   float64, ms on the monotonic clock
 *   byte 4040   stream         8 B   float64
 *   byte 4048   sequence       8 B   float64
 *   byte 4056   stages        24 B   float32[6], ms: those of STAGES
 *   byte 4080   backend        4 B   int32, index into BACKENDS; -1: an error
 *   byte 4084   purposes       4 B   int32, bits
 *   byte 4088   text length    4 B   int32
 *   byte 4092   generation     4 B   int32, of the model that gave the answer
 *   byte 4096   text         256 B   latin1: request id, endpoint and status, a line each; what is longer is cut
 *   stride     4352 B
 *
 * Before the records: the cursors, one int32 word per 128 bytes, each with one writer.
 *
 *   word   0   published   main thread   records written; wraps
 *   word  32   released    the thread    records read; wraps
 *   word  64   stop        main thread   1 when the thread shall end after the last record
 */
const STRIDE_BYTES = 4352
const INPUT = 0 // float32 cells
const OUTPUT = WINDOW_VALUES
const ANSWERED_MS = (OUTPUT + LATENT_DIMS + MAX_MOTIFS) / 2 // float64 cells
const STREAM = ANSWERED_MS + 1
const SEQUENCE = ANSWERED_MS + 2
const STAGES_MS = (ANSWERED_MS + 3) * 2 // float32 cells
const BACKEND = STAGES_MS + 6 // int32 cells
const PURPOSES = BACKEND + 1
const TEXT_LENGTH = BACKEND + 2
const GENERATION = BACKEND + 3
const TEXT = 4096 // bytes
const TEXT_BYTES = 256

const PUBLISHED = 0
const RELEASED = 32
const STOP = 64
const HEADER_BYTES = 512

/** 4.5 MB, and what 20 ms may bring: 50,000 answers a second. */
const CAPACITY = 1024

const NO_BACKEND = -1

/** What a record is for: a line, a look at whether its window is worth labelling, or both. */
export const FOR_LINE = 1
export const FOR_LOOK = 2

/** ms. `total` counts from the request's first byte, the others follow each other. Of errors only `total` is known. */
export const STAGES = ['admit', 'queue', 'infer', 'settle', 'encode', 'total'] as const

export interface TelemetryRecord {
  readonly requestId: string
  readonly endpoint: string
  /** `ok` or the code of an error. */
  readonly status: string
  readonly stream: number
  readonly sequence: number
  /** Null: an error. */
  readonly backend: BackendKind | null
  /** Of the model that gave the answer, see Engine.generation. Says nothing of errors. */
  readonly generation: number
  /** Monotonic ms. */
  readonly answeredMs: number
  /** In the order of STAGES. */
  readonly stagesMs: readonly number[]
  readonly forLine: boolean
  readonly forLook: boolean
  /** float32[100][9], raw units. Holds rubbish unless `forLook`. Valid until released, as `output`. */
  readonly input: Float32Array
  /** float32[64 + motifs]. Holds rubbish when it is an error. */
  readonly output: Float32Array
}

/** Records on their way from the main thread to the one that writes them. Nobody wakes anybody: the reader looks by itself. */
export class RecordRing {
  readonly buffer: SharedArrayBuffer
  readonly #header: Int32Array
  readonly #float64: Float64Array
  readonly #float32: Float32Array
  readonly #int32: Int32Array
  readonly #bytes: Buffer

  constructor(buffer = new SharedArrayBuffer(HEADER_BYTES + CAPACITY * STRIDE_BYTES)) {
    this.buffer = buffer
    this.#header = new Int32Array(buffer, 0, HEADER_BYTES / 4)
    this.#float64 = new Float64Array(buffer, HEADER_BYTES)
    this.#float32 = new Float32Array(buffer, HEADER_BYTES)
    this.#int32 = new Int32Array(buffer, HEADER_BYTES)
    this.#bytes = Buffer.from(buffer, HEADER_BYTES)
  }

  // What only the main thread calls.

  /** False when the ring is full: the record is lost. */
  putAnswer(
    origin: Origin,
    slot: Slot,
    purposes: number,
    times: { arrivedMs: number; settledMs: number; answeredMs: number },
  ): boolean {
    const at = this.#next()
    if (at === null) return false
    const { arrivedMs, settledMs, answeredMs } = times
    const { publishedMs, queueWaitMs, inferenceMs } = slot
    const finishedMs = publishedMs + queueWaitMs + inferenceMs
    const at4 = at / 4
    if (purposes & FOR_LOOK) this.#float32.set(slot.input, at4 + INPUT)
    this.#float32.set(slot.output, at4 + OUTPUT)
    const stages = at4 + STAGES_MS
    this.#float32[stages] = Math.max(0, publishedMs - arrivedMs)
    this.#float32[stages + 1] = queueWaitMs
    this.#float32[stages + 2] = inferenceMs
    this.#float32[stages + 3] = Math.max(0, settledMs - finishedMs)
    this.#float32[stages + 4] = answeredMs - settledMs
    this.#float32[stages + 5] = answeredMs - arrivedMs
    this.#int32[at4 + BACKEND] = BACKENDS.indexOf(slot.backend)
    this.#int32[at4 + GENERATION] = slot.generation
    this.#publish(at, origin, 'ok', purposes, answeredMs)
    return true
  }

  /** False when the ring is full: the record is lost. */
  putError(origin: Origin, code: string, nowMs: number): boolean {
    const at = this.#next()
    if (at === null) return false
    this.#float32[at / 4 + STAGES_MS + 5] = nowMs - origin.arrivedMs
    this.#int32[at / 4 + BACKEND] = NO_BACKEND
    this.#publish(at, origin, code, FOR_LINE, nowMs)
    return true
  }

  /** Records that were not read yet. */
  get waiting(): number {
    return distance(Atomics.load(this.#header, RELEASED), this.#header[PUBLISHED]!)
  }

  /** Tells the reader to end once it has read everything. */
  stop(): void {
    Atomics.store(this.#header, STOP, 1)
  }

  #next(): number | null {
    const published = this.#header[PUBLISHED]! // our own word: nobody else writes it
    if (distance(Atomics.load(this.#header, RELEASED), published) === CAPACITY) return null
    return placeOf(published)
  }

  #publish(at: number, origin: Origin, status: string, purposes: number, answeredMs: number): void {
    const at8 = at / 8
    const at4 = at / 4
    this.#float64[at8 + ANSWERED_MS] = answeredMs
    this.#float64[at8 + STREAM] = origin.stream
    this.#float64[at8 + SEQUENCE] = origin.sequence
    this.#int32[at4 + PURPOSES] = purposes
    // One write for three words: each costs a call out of JavaScript.
    const text = `${origin.requestId}\n${origin.endpoint}\n${status}`
    this.#int32[at4 + TEXT_LENGTH] = this.#bytes.write(text, at + TEXT, TEXT_BYTES, 'latin1')
    // Stored last: who sees the cursor sees the record.
    Atomics.store(this.#header, PUBLISHED, (this.#header[PUBLISHED]! + 1) | 0)
  }

  // What only the reader calls.

  get stopping(): boolean {
    return Atomics.load(this.#header, STOP) === 1
  }

  /** The oldest record that is not released. Null: there is none. */
  oldest(motifCount: number): TelemetryRecord | null {
    const released = this.#header[RELEASED]! // our own word
    if (Atomics.load(this.#header, PUBLISHED) === released) return null
    const at = placeOf(released)
    const at8 = at / 8
    const at4 = at / 4
    const textEnd = at + TEXT + this.#int32[at4 + TEXT_LENGTH]!
    const [requestId = '', endpoint = '', status = ''] = this.#bytes
      .toString('latin1', at + TEXT, textEnd)
      .split('\n')
    const purposes = this.#int32[at4 + PURPOSES]!
    const float32 = (cell: number, length: number) => this.#float32.subarray(at4 + cell, at4 + cell + length)
    return {
      requestId,
      endpoint,
      status,
      stream: this.#float64[at8 + STREAM]!,
      sequence: this.#float64[at8 + SEQUENCE]!,
      backend: BACKENDS[this.#int32[at4 + BACKEND]!] ?? null,
      generation: this.#int32[at4 + GENERATION]!,
      answeredMs: this.#float64[at8 + ANSWERED_MS]!,
      stagesMs: [...float32(STAGES_MS, STAGES.length)],
      forLine: (purposes & FOR_LINE) !== 0,
      forLook: (purposes & FOR_LOOK) !== 0,
      input: float32(INPUT, WINDOW_VALUES),
      output: float32(OUTPUT, LATENT_DIMS + motifCount),
    }
  }

  /** Gives the oldest record back. */
  release(): void {
    Atomics.store(this.#header, RELEASED, (this.#header[RELEASED]! + 1) | 0)
  }
}

/** In bytes, behind the header. */
function placeOf(sequence: number): number {
  return (sequence & (CAPACITY - 1)) * STRIDE_BYTES
}
