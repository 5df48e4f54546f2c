import { BACKENDS } from '../core/backend.ts'
import { codec } from './codec.ts'
import {
  decodeHead,
  encodeFrame,
  type FrameName,
  frameName,
  headBytes,
  SAMPLE_BYTES,
  STREAM_MODES,
  STREAM_VERSION,
  WINDOW_STATUSES,
} from './frame.ts'
import { type ClientFrame, LARGEST_HOP, unreadable, type Variant } from './variant.ts'

const MODEL_BYTES = 32

/** The frames as `frame.ts` lays them out. */
export const BINARY: Variant = {
  read(message) {
    const name = frameName(message)
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

  result(sequence, { queueWaitMs, inferenceMs, backend, outputBytes }) {
    const head = {
      sequence,
      queueUs: microseconds(queueWaitMs),
      inferUs: microseconds(inferenceMs),
      status: WINDOW_STATUSES.indexOf('ok'),
      backend: BACKENDS.indexOf(backend),
    }
    return encodeFrame('result', head, outputBytes)
  },

  credit: count => encodeFrame('credit', { count }),

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
  const payload = message.subarray(headBytes(name))
  switch (name) {
    case 'hello':
      return readHello(message)
    case 'window': {
      const { sequence, deadlineMs } = decodeHead('window', message)
      return { type: 'window', sequence, deadlineMs, fill: slot => codec.readWindow(payload, slot) }
    }
    case 'samples': {
      const { index } = decodeHead('samples', message)
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
  const { version, mode: modeIndex, hop, first } = decodeHead('hello', message)
  const mode = STREAM_MODES[modeIndex]
  const refuse = (field: string, value: number, expected: string) =>
    unreadable('hello', `Cannot read hello: ${field} is ${value}, expected ${expected}`)
  if (version !== STREAM_VERSION) return refuse('version', version, `${STREAM_VERSION}`)
  if (mode === undefined) return refuse('mode', modeIndex, '0 (windows) or 1 (samples)')
  if (mode === 'samples' && (hop < 1 || hop > LARGEST_HOP)) return refuse('hop', hop, `1 to ${LARGEST_HOP}`)
  return { type: 'hello', mode, hop, first }
}

/** As uint32, which holds more than an hour. */
function microseconds(milliseconds: number): number {
  return Math.max(0, Math.round(milliseconds * 1000)) >>> 0
}

function modelOf(sha256: string): Uint8Array {
  const digest = Buffer.from(sha256, 'hex')
  return digest.length === MODEL_BYTES ? digest : new Uint8Array(MODEL_BYTES)
}
