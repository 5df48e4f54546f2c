import { BACKENDS } from '../src/core/backend.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { decodeHead, frameName, type Head, headBytes } from '../src/http/frame.ts'
import { WINDOW_STATUSES } from '../src/http/stream-words.ts'
import type { StreamFailure, StreamResult } from './backlog.ts'
import { errorCode } from './error.ts'
import { resultOf } from './inference.ts'

const FROM_SERVER = ['welcome', 'result', 'credit', 'error', 'draining', 'gap'] as const
type Name = (typeof FROM_SERVER)[number]

/** A frame of the server: its name, its head, and where it has any, the bytes behind. */
export type ServerFrame = { [N in Name]: { name: N; head: Head<N>; payload: Uint8Array<ArrayBuffer> } }[Name]

/** @throws RangeError when it is none */
export function readServerFrame(message: unknown): ServerFrame {
  if (!(message instanceof ArrayBuffer)) throw new RangeError('the server sent text')
  const bytes = new Uint8Array(message)
  const name = FROM_SERVER.find(name => name === frameName(bytes))
  if (name === undefined)
    throw new RangeError(`the server sent ${bytes.length} bytes that are no frame of its own`)
  return { name, head: decodeHead(name, bytes), payload: bytes.subarray(headBytes(name)) } as ServerFrame
}

/** @throws RangeError when it does not hold what the welcome promised */
export function readResult(
  { head, payload }: Extract<ServerFrame, { name: 'result' }>,
  welcome: Head<'welcome'>,
): StreamResult {
  const expectedBytes = (LATENT_DIMS + welcome.motifs) * 4
  if (payload.length !== expectedBytes) {
    throw new RangeError(`the server sent a result of ${payload.length} bytes, expected ${expectedBytes}`)
  }
  // A view: heads are multiples of 4 bytes, and each message has a buffer of its own.
  const output = new Float32Array(payload.buffer, payload.byteOffset, expectedBytes / 4)
  return {
    sequence: head.sequence,
    ...resultOf(output),
    backend: BACKENDS[head.backend] ?? null,
    // The welcome names one model. Of another, a fallback's or a later one, only its start is told.
    modelSha256: isWelcomed(head, welcome) ? shortSha256(welcome.model) : null,
    queueMs: head.queueUs / 1000,
    inferMs: head.inferUs / 1000,
  }
}

export function readFailure({ head, payload }: Extract<ServerFrame, { name: 'error' }>): StreamFailure {
  return {
    sequence: head.sequence,
    error: errorCode(WINDOW_STATUSES[head.status]),
    detail: new TextDecoder().decode(payload),
    retryAfterMs: head.retryAfterMs === 0 ? null : head.retryAfterMs,
  }
}

function isWelcomed({ backend, modelStart }: Head<'result'>, welcome: Head<'welcome'>): boolean {
  return backend === welcome.backend && modelStart === (welcome.model[0]! | (welcome.model[1]! << 8))
}

/** As HTTP tells it: 12 hex digits, or "stub". */
function shortSha256(model: Uint8Array): string {
  if (model.every(byte => byte === 0)) return 'stub'
  return Array.from(model.subarray(0, 6), byte => byte.toString(16).padStart(2, '0')).join('')
}
