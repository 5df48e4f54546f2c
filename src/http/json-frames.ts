import { z } from 'zod'
import { CHANNEL_NAMES, CHANNELS, LATENT_DIMS, parseWindow, TIMESTEPS } from '../core/window.ts'
import { codec } from './codec.ts'
import { STREAM_MODES, STREAM_VERSION } from './frame.ts'
import { type ClientFrame, LARGEST_HOP, unreadable, type Variant } from './variant.ts'

const uint32 = z.int().min(0).max(0xffff_ffff)

const SCHEMAS = {
  hello: z.object({
    version: z.literal(STREAM_VERSION),
    mode: z.enum(STREAM_MODES),
    hop: z
      .int()
      .min(1)
      .max(LARGEST_HOP)
      .default(TIMESTEPS / 2),
    first: uint32.default(0),
    thin: z.boolean().default(false),
  }),
  // The rows are left to parseWindow(): what is wrong with them is told for their sequence, in its turn.
  window: z.object({ seq: uint32, deadline_ms: z.number().default(0), x: z.unknown() }),
  // Left to readRows(): a schema would list all that is wrong with each of 130,000 rows.
  samples: z.object({ index: uint32, samples: z.unknown() }),
  cancel: z.object({ seq: uint32 }),
  bye: z.object({}),
}
type Name = keyof typeof SCHEMAS

/** The same frames as JSON texts, for clients that would rather read than be quick. */
export const JSON_TEXT: Variant = {
  read(message) {
    let document: unknown
    try {
      document = JSON.parse(Buffer.from(message.buffer, message.byteOffset, message.length).toString())
    } catch {
      return unreadable('unknown', `Cannot read a frame of ${message.length} bytes: it is not JSON`)
    }
    const name = (document as { type?: unknown } | null)?.type
    if (typeof name !== 'string' || !Object.hasOwn(SCHEMAS, name)) {
      const expected = `expected one of ${Object.keys(SCHEMAS).join(' ')}`
      return unreadable('unknown', `Cannot read a frame: its "type" is not known, ${expected}`)
    }
    return readNamed(name as Name, document)
  },

  welcome({ mode, credits, hop, first, deadlineMs, backend, modelSha256, motifCount }) {
    return JSON.stringify({
      type: 'welcome',
      version: STREAM_VERSION,
      mode,
      credits,
      hop,
      first,
      deadline_ms: deadlineMs,
      backend,
      model_sha256: modelSha256,
      contract: {
        window_len: TIMESTEPS,
        channels: CHANNELS,
        latent_dims: LATENT_DIMS,
        motif_classes: motifCount,
      },
    })
  },

  result(sequence, { backend, queueWaitMs, inferenceMs, output }, { sha256 }) {
    const queueUs = Math.round(queueWaitMs * 1000)
    const inferUs = Math.round(inferenceMs * 1000)
    const latent = codec.joinNumbers(output.subarray(0, LATENT_DIMS))
    const motifScores = codec.joinNumbers(output.subarray(LATENT_DIMS))
    return `{"type":"result","seq":${sequence},"status":"ok","backend":"${backend}","model_sha256":"${sha256}","queue_us":${queueUs},"infer_us":${inferUs},"latent":[${latent}],"motif_scores":[${motifScores}]}`
  },

  credit: count => `{"type":"credit","n":${count}}`,

  error({ sequence, status, detail, retryAfterMs }) {
    const about = sequence === null ? {} : { seq: sequence }
    return JSON.stringify({ type: 'error', ...about, code: status, detail, retry_after_ms: retryAfterMs })
  },

  draining: () => '{"type":"draining"}',

  gap: ({ missing, index, sequence }) => JSON.stringify({ type: 'gap', missing, index, seq: sequence }),
}

function readNamed(name: Name, document: unknown): ClientFrame {
  switch (name) {
    case 'hello': {
      const hello = SCHEMAS.hello.safeParse(document)
      if (!hello.success) return refused(name, hello.error)
      const { mode, hop, first, thin } = hello.data
      return { type: 'hello', mode, hop, first, thin }
    }
    case 'window': {
      const window = SCHEMAS.window.safeParse(document)
      if (!window.success) return refused(name, window.error)
      const { seq, deadline_ms, x } = window.data
      const fill = ({ input }: { input: Float32Array }) => parseWindow(x, input)
      return { type: 'window', sequence: seq, deadlineMs: deadline_ms, fill }
    }
    case 'samples': {
      const samples = SCHEMAS.samples.safeParse(document)
      if (!samples.success) return refused(name, samples.error)
      const rows = readRows(samples.data.samples)
      if (typeof rows === 'string') return unreadable(name, `Cannot read samples: ${rows}`)
      return { type: 'samples', index: samples.data.index, bytes: new Uint8Array(rows.buffer) }
    }
    case 'cancel': {
      const cancel = SCHEMAS.cancel.safeParse(document)
      if (!cancel.success) return refused(name, cancel.error)
      return { type: 'cancel', sequence: cancel.data.seq }
    }
    case 'bye':
      return { type: 'bye' }
  }
}

/** float32[n][9], n ≥ 1; or the first thing that is wrong, in words. What is beyond a sensor is told of its window. */
function readRows(rows: unknown): Float32Array | string {
  if (!Array.isArray(rows) || rows.length === 0) return 'expected an array of rows of 9 numbers'
  const values = new Float32Array(rows.length * CHANNELS)
  for (let step = 0; step < rows.length; step++) {
    const row: unknown = rows[step]
    if (!Array.isArray(row)) return `row ${step} is not an array of ${CHANNELS} numbers`
    if (row.length !== CHANNELS) return `row ${step} has ${row.length} channels, expected ${CHANNELS}`
    for (let channel = 0; channel < CHANNELS; channel++) {
      const value: unknown = row[channel]
      if (!Number.isFinite(value)) {
        return `row ${step} channel ${channel} (${CHANNEL_NAMES[channel]}) is not a finite number`
      }
      values[step * CHANNELS + channel] = value as number
    }
  }
  return values
}

/** The first thing that is wrong, by its place. zod names what it expected and never quotes a value. */
function refused(name: Name, error: z.ZodError): ClientFrame {
  const { path, message } = error.issues[0]!
  return unreadable(name, `Cannot read ${name}: "${path.join('.')}": ${message}`)
}
