import {
  BufferReader,
  BufferWriter,
  f32,
  MaxValue,
  type ObjectSchema,
  object,
  type Parsed,
  u8,
  u8Array,
  u16,
  u32,
} from 'typed-binary'
import { CHANNELS } from '../core/window.ts'

export { STREAM_MODES, type StreamMode, WINDOW_STATUSES, type WindowStatus } from './stream-words.ts'

/**
 * The binary frames of `/stream`: little-endian, a head of fixed size, then bytes where there are any.
 * Heads are multiples of 4 bytes, so that float32 behind them is aligned when the frame is. Numbers of
 * types, modes and statuses are the wire's: append only. docs/stream.md shows the offsets.
 */
export const STREAM_VERSION = 1

const type = u32

/** Heads by the name of their frame. */
export const HEADS = {
  /** First frame of the client. `flags`: sum of HELLO_FLAGS. `first`: the sequence of the first window to come; 0, or where it resumes. */
  hello: object({ type, version: u8, mode: u8, flags: u8, reserved: u8, hop: u32, first: u32 }),
  /** Then float32[100][9]. `deadlineMs` counts from the frame's arrival; 0 for the server's default. */
  window: object({ type, sequence: u32, deadlineMs: f32 }),
  /** Then float32[n][9], n ≥ 1. `index` of the first of them in the whole recording. */
  samples: object({ type, index: u32 }),
  /** Answered in its turn: with the result if that is on its way already, else with an error, `cancelled`. */
  cancel: object({ type, sequence: u32 }),
  /** Nothing more will come. What was sent is answered, then the server closes. */
  bye: object({ type }),

  welcome: object({
    type,
    version: u8,
    mode: u8,
    /** Index into BACKENDS of what is configured. */
    backend: u8,
    reserved: u8,
    /** Windows that may be sent now. */
    credits: u16,
    /** Motif scores in each result. */
    motifs: u16,
    hop: u32,
    first: u32,
    /** For windows that name none. */
    deadlineMs: f32,
    /** SHA-256; zeros in stub mode, where there is no model. */
    model: u8Array(32),
  }),
  /** Then float32[64] latent and float32[motifs] scores. `status` is ok: a window without a result gets an error. */
  result: object({
    type,
    sequence: u32,
    queueUs: u32,
    inferUs: u32,
    status: u8,
    /** Index into BACKENDS of what gave this result. */
    backend: u8,
    /** Of the model that gave it: the first two bytes of its SHA-256; zeros in stub mode. */
    modelStart: u16,
  }),
  credit: object({ type, count: u32 }),
  /** Then the detail in UTF-8. `status` indexes WINDOW_STATUSES. Without `hasSequence` it is about no window. */
  error: object({
    type,
    sequence: u32,
    /** When coming back makes sense; 0 when it does not. */
    retryAfterMs: u32,
    status: u8,
    hasSequence: u8,
    reserved: u16,
  }),
  /** Nothing new is admitted; what was sent is answered, then the server closes with 1012. */
  draining: object({ type }),
  /** Samples mode: those from `missing` up to, not including, `index` never came. `sequence` is the next window's. */
  gap: object({ type, missing: u32, index: u32, sequence: u32 }),
} as const

/** What a client may agree to. */
export const HELLO_FLAGS = { thin: 1 } as const

const TYPES = {
  hello: 1,
  window: 2,
  samples: 3,
  cancel: 4,
  bye: 5,
  welcome: 129,
  result: 130,
  credit: 131,
  error: 132,
  draining: 133,
  gap: 134,
} as const satisfies Record<keyof typeof HEADS, number>
const FIRST_SERVER_TYPE = 128
const FRAME_NAMES = Object.keys(TYPES) as FrameName[]
const NAMES: (FrameName | undefined)[] = []
for (const name of FRAME_NAMES) NAMES[TYPES[name]] = name

export type FrameName = keyof typeof HEADS
/** Who sends what: the client's frames come in. */
export const FRAMES_IN = FRAME_NAMES.filter(name => TYPES[name] < FIRST_SERVER_TYPE)
export const FRAMES_OUT = FRAME_NAMES.filter(name => TYPES[name] >= FIRST_SERVER_TYPE)
/** The fields of a head, without type and padding. */
export type Head<Name extends FrameName> = Omit<Parsed<(typeof HEADS)[Name]>, 'type' | 'reserved'>

export const SAMPLE_BYTES = CHANNELS * 4

type AnyHead = ObjectSchema<Record<string, typeof u32>>
const HEAD_BYTES = Object.fromEntries(FRAME_NAMES.map(name => [name, HEADS[name].maxSize]))
/** Heads are read from here and written to here: a reader or writer of its own would cost each frame a microsecond. */
const HEAD = new Uint8Array(Math.max(...Object.values(HEAD_BYTES)))
const LITTLE_ENDIAN = { endianness: 'little' } as const
const HEAD_READER = new BufferReader(HEAD.buffer, LITTLE_ENDIAN)
const HEAD_WRITER = new BufferWriter(HEAD.buffer, LITTLE_ENDIAN)
const NO_BYTES = new Uint8Array(0)

/** Where the bytes behind the head begin. */
export function headBytes(name: FrameName): number {
  return HEAD_BYTES[name]!
}

/** Where the fields begin, for those who read or write them in place: of two frames there is one for every window. */
export function offsetsOf<Name extends FrameName>(name: Name): Readonly<Record<keyof Head<Name>, number>> {
  const schema = HEADS[name] as AnyHead
  const offsets = Object.keys(schema.properties).map(field => [
    field,
    schema.seekProperty(MaxValue, field)!.bufferOffset,
  ])
  return Object.fromEntries(offsets)
}

/** A head whose flags may be left out where there are none. */
type HeadToWrite<Name extends FrameName> = Omit<Head<Name>, 'flags'> & { readonly flags?: number }

/** A whole frame. @param payload copied */
export function encodeFrame<Name extends FrameName>(
  name: Name,
  head: HeadToWrite<Name>,
  payload: Uint8Array = NO_BYTES,
): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(headBytes(name) + payload.length)
  HEAD_WRITER.seekTo(0)
  const schema = HEADS[name] as { write(writer: BufferWriter, head: unknown): void }
  schema.write(HEAD_WRITER, { flags: 0, ...head, type: TYPES[name], reserved: 0 })
  frame.set(HEAD.subarray(0, headBytes(name)))
  frame.set(payload, headBytes(name))
  return frame
}

/** What a frame is; null when there is no such type. */
export function frameName(frame: Uint8Array): FrameName | null {
  return frame.length < 4 ? null : (NAMES[uint32At(frame, 0)] ?? null)
}

/** Reads the head. What is behind it stays where it is, from `headBytes(name)` on. @throws RangeError when cut short */
export function decodeHead<Name extends FrameName>(name: Name, frame: Uint8Array): Head<Name> {
  if (frame.length < headBytes(name)) {
    throw new RangeError(`a ${name} frame has at least ${headBytes(name)} bytes, this one ${frame.length}`)
  }
  HEAD.set(frame.subarray(0, headBytes(name)))
  HEAD_READER.seekTo(0)
  return (HEADS[name] as AnyHead).read(HEAD_READER) as unknown as Head<Name>
}

export function uint32At(frame: Uint8Array, at: number): number {
  return (frame[at]! | (frame[at + 1]! << 8) | (frame[at + 2]! << 16) | (frame[at + 3]! << 24)) >>> 0
}

export function setUint32At(frame: Uint8Array, at: number, value: number): void {
  frame[at] = value
  frame[at + 1] = value >>> 8
  frame[at + 2] = value >>> 16
  frame[at + 3] = value >>> 24
}

const UINT32 = new Uint32Array(1)
const FLOAT32 = new Float32Array(UINT32.buffer)

export function float32At(frame: Uint8Array, at: number): number {
  UINT32[0] = uint32At(frame, at)
  return FLOAT32[0]!
}
