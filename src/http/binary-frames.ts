import { BACKENDS } from '../core/backend.ts'
import { codec } from './codec.ts'
import {
  decodeHead,
  encodeFrame,
  type FrameName,
  float32At,
  frameName,
  HELLO_FLAGS,
  headBytes,
  offsetsOf,
  SAMPLE_BYTES,
  STREAM_MODES,
  STREAM_VERSION,
  setUint32At,
  uint32At,
  WINDOW_STATUSES,
} from './frame.ts'
import { type ClientFrame, LARGEST_HOP, unreadable, type Variant, type WindowFrame } from './variant.ts'

const MODEL_BYTES = 32
const OK = WINDOW_STATUSES.indexOf('ok')

// A window, its result and credits are read and written in place: objects for their heads took ten times as long.
const WINDOW_AT = offsetsOf('window')
const WINDOW_HEAD_BYTES = headBytes('window')
const RESULT_AT = offsetsOf('result')
const RESULT_HEAD_BYTES = headBytes('result')
const CREDIT = encodeFrame('credit', { count: 0 })
const CREDIT_AT = offsetsOf('credit')

/** What is read of a `window` frame. */
class BinaryWindow implements WindowFrame {
  readonly type = 'window'
  sequence = 0
  deadlineMs = 0
  #message: Uint8Array = new Uint8Array(0)

  read(message: Uint8Array): this {
    this.#message = message
    this.sequence = uint32At(message, WINDOW_AT.sequence)
    this.deadlineMs = float32At(message, WINDOW_AT.deadlineMs)
    return this
  }

  fill(slot: Parameters<WindowFrame['fill']>[0]): string | null {
    return codec.readWindow(this.#message, slot, WINDOW_HEAD_BYTES)
  }
}
/** One for all: a frame is valid for the length of the call only. */
const WINDOW = new BinaryWindow()

/** The frames as `frame.ts` lays them out. */
export const BINARY: Variant = {
  read(message) {
    const name = frameName(message)
    if (name === 'window' && message.length >= WINDOW_HEAD_BYTES) return WINDOW.read(message)
    if (name === null) {
      return unreadable('unknown', `Cannot read a frame of ${message.length} bytes: its type is not known`)
    }
    if (message.length < headBytes(name)) {
      const expected = `expected ${headBytes(name)} or more`
      return unreadable(name, `Cannot read ${name}: the frame has ${message.length} bytes, ${expected}`)
    }
    return readNamed(name, message)
  },

  welcome({ mode, backend, modelSha256, motifCount, credits, hop, first, deadlineMs }) {
    return encodeFrame('welcome', {
      version: STREAM_VERSION,
      mode: STREAM_MODES.indexOf(mode),
      backend: BACKENDS.indexOf(backend),
      credits,
      motifs: motifCount,
      hop,
      first,
      deadlineMs,
      model: modelOf(modelSha256),
    })
  },

  result(sequence, { queueWaitMs, inferenceMs, backend, outputBytes }, { start }, used) {
    const head = {
      sequence,
      queueUs: microseconds(queueWaitMs),
      inferUs: microseconds(inferenceMs),
      status: OK,
      backend: BACKENDS.indexOf(backend),
      modelStart: start,
    }
    if (used === null) return alignPayload(encodeFrame('result', head, outputBytes), RESULT_HEAD_BYTES)
    const frame = used as Uint8Array
    setUint32At(frame, RESULT_AT.sequence, sequence)
    setUint32At(frame, RESULT_AT.queueUs, head.queueUs)
    setUint32At(frame, RESULT_AT.inferUs, head.inferUs)
    frame[RESULT_AT.backend] = head.backend
    frame[RESULT_AT.modelStart] = start
    frame[RESULT_AT.modelStart + 1] = start >>> 8
    frame.set(outputBytes, RESULT_HEAD_BYTES)
    return frame
  },

  credit(count) {
    setUint32At(CREDIT, CREDIT_AT.count, count)
    return CREDIT
  },

  error({ sequence, status, detail, retryAfterMs }) {
    const head = {
      sequence: sequence ?? 0,
      retryAfterMs,
      status: WINDOW_STATUSES.indexOf(status),
      hasSequence: sequence === null ? 0 : 1,
    }
    return encodeFrame('error', head, Buffer.from(detail))
  },

  draining: () => encodeFrame('draining', {}),

  gap: gap => encodeFrame('gap', gap),
}

function readNamed(name: FrameName, message: Uint8Array): ClientFrame {
  switch (name) {
    case 'hello':
      return readHello(message)
    case 'samples': {
      const { index } = decodeHead('samples', message)
      const payload = message.subarray(headBytes('samples'))
      if (payload.length > 0 && payload.length % SAMPLE_BYTES === 0) {
        return { type: 'samples', index, bytes: payload }
      }
      const expected = `expected a multiple of ${SAMPLE_BYTES} (little-endian float32[n][9])`
      return unreadable(name, `Cannot read samples: they have ${payload.length} bytes, ${expected}`)
    }
    case 'cancel':
      return { type: 'cancel', sequence: decodeHead('cancel', message).sequence }
    case 'bye':
      return { type: 'bye' }
    default:
      return unreadable('unknown', `Cannot read ${name}: it is a frame of the server, not of the client`)
  }
}

function readHello(message: Uint8Array): ClientFrame {
  const { version, mode: modeIndex, flags, hop, first } = decodeHead('hello', message)
  const mode = STREAM_MODES[modeIndex]
  const refuse = (field: string, value: number, expected: string) =>
    unreadable('hello', `Cannot read hello: ${field} is ${value}, expected ${expected}`)
  if (version !== STREAM_VERSION) return refuse('version', version, `${STREAM_VERSION}`)
  if (mode === undefined) return refuse('mode', modeIndex, '0 (windows) or 1 (samples)')
  if (mode === 'samples' && (hop < 1 || hop > LARGEST_HOP)) return refuse('hop', hop, `1 to ${LARGEST_HOP}`)
  return { type: 'hello', mode, hop, first, thin: (flags & HELLO_FLAGS.thin) !== 0 }
}

/**
 * The same frame where the bytes behind its head begin at a multiple of 8: others are copied one at a time. From the
 * pool of Node.js, as thousands of ArrayBuffers of their own would be as many cache misses.
 */
function alignPayload(frame: Uint8Array, headBytes: number): Uint8Array {
  const padding = -headBytes & 7
  const { buffer, byteOffset } = Buffer.allocUnsafe(padding + frame.length)
  const aligned = new Uint8Array(buffer, byteOffset + padding, frame.length)
  aligned.set(frame)
  return aligned
}

/** As uint32, which holds more than an hour. */
function microseconds(milliseconds: number): number {
  return Math.max(0, Math.round(milliseconds * 1000)) >>> 0
}

function modelOf(sha256: string): Uint8Array {
  const digest = Buffer.from(sha256, 'hex')
  return digest.length === MODEL_BYTES ? digest : new Uint8Array(MODEL_BYTES)
}
