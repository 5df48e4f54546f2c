import type { HttpResponse } from 'uWebSockets.js'
import { STATUS_CODES } from 'node:http'
import type { Outcome } from '../core/outcome.ts'
import { LATENT_DIMS } from '../core/window.ts'
import type { RefusalCode } from '../engine/observer.ts'
import { codec } from './codec.ts'

/** Every way a request can fail. Append only: clients match on these words. */
export type ErrorCode =
  | Exclude<Outcome, 'ok'>
  | RefusalCode
  | 'invalid_window'
  | 'invalid_request'
  | 'unauthorized'
  | 'not_found'
  | 'method_not_allowed'
  | 'body_too_large'
  | 'unsupported_media_type'
  | 'internal_error'
  | 'forbidden'
  | 'upgrade_required'
  | 'unload_not_allowed'
  | 'rate_limited'
  | 'model_refused'

/** The one place a failure becomes a protocol answer. A missing code does not compile. */
export const REPLY = {
  invalid_window: { http: 400 },
  invalid_request: { http: 400 },
  unauthorized: { http: 401 },
  forbidden: { http: 403 },
  not_found: { http: 404 },
  method_not_allowed: { http: 405 },
  unload_not_allowed: { http: 409 },
  model_refused: { http: 409 }, // what lies there now cannot be served: the one that serves goes on
  body_too_large: { http: 413 },
  unsupported_media_type: { http: 415 },
  upgrade_required: { http: 426 },
  overloaded: { http: 429 }, // Retry-After is computed from the wait at that moment
  rate_limited: { http: 429 }, // and so it is from the client's bucket
  internal_error: { http: 500 },
  model_unavailable: { http: 503 },
  draining: { http: 503 },
  deadline_exceeded: { http: 504 },
} as const satisfies Record<ErrorCode, { http: number }>

/** One HTTP answer, before it is written to a socket. */
export interface Answer {
  readonly status: number
  readonly headers: Record<string, string>
  /** Bytes are copied (or sent) before the answer is given away. */
  readonly body: string | Uint8Array | LongBody
  /** Whether the connection ends with this answer. */
  readonly close?: boolean
}

/** A body that is made as its reader takes it. */
export interface LongBody {
  readonly bytes: number
  /** Not empty, together `bytes` long. */
  pieces(): Iterable<Uint8Array>
}

export interface Failure {
  readonly code: ErrorCode
  /** What was wrong, with the value, and what is expected. Never echoes what the client sent. */
  readonly detail: string
  readonly headers?: Record<string, string>
  /** Where it is not the code's own. */
  readonly status?: number
}

/** Bytes, or of a string its characters: a string is ASCII. */
export function lengthOf(body: Answer['body']): number {
  return typeof body === 'string' || body instanceof Uint8Array ? body.length : body.bytes
}

/** What an error answer needs to know of its request. */
export interface Asker {
  readonly requestId: string
  /** The Accept header. */
  readonly accept: string
  readonly modelAvailable: boolean
}

export const UNAUTHORIZED: Failure = {
  code: 'unauthorized',
  detail: 'This server needs an API key, in X-API-Key or as Authorization: Bearer',
  headers: { 'WWW-Authenticate': 'Bearer' },
}

/** For a page that may not call: browsers send the Origin of a page with every POST and every upgrade. */
export const FORBIDDEN: Failure = {
  code: 'forbidden',
  detail: 'Pages of this origin may not call this server; CORS_ORIGINS lists those of other hosts that may',
}

/** A reader that takes nothing of a long answer for so long is given up. */
const READER_TIMEOUT_MS = 10_000

const JSON_TYPE = 'application/json'
const PROBLEM_TYPE = 'application/problem+json'

export function jsonAnswer(status: number, body: unknown, headers: Record<string, string> = {}): Answer {
  return { status, headers: { 'Content-Type': JSON_TYPE, ...headers }, body: JSON.stringify(body) }
}

/** One shape for every error; as application/problem+json (RFC 9457) when the asker wants that. */
export function errorAnswer(failure: Failure, asker: Asker): Answer {
  const { code, detail, headers = {}, status = REPLY[code].http } = failure
  const fields = {
    error: code,
    detail,
    model_available: asker.modelAvailable,
    request_id: asker.requestId,
  }
  const close = code === 'draining'
  if (!wantsProblem(asker.accept)) return { ...jsonAnswer(status, fields, headers), close }
  const problem = { type: 'about:blank', title: STATUS_CODES[status], status, ...fields }
  return { ...jsonAnswer(status, problem, { ...headers, 'Content-Type': PROBLEM_TYPE }), close }
}

export function wantsProblem(accept: string): boolean {
  return accept.includes(PROBLEM_TYPE)
}

/** What errorAnswer() says of a window that was shed, by a server that has a model. @param detail without quotes */
export function overloadedBody(detail: string, requestId: string): string {
  return `{"error":"overloaded","detail":"${detail}","model_available":true,"request_id":${JSON.stringify(requestId)}}`
}

/** Latent and motif scores under the names of `POST /infer`. */
export function encodeResult(output: Float32Array): string {
  const latent = codec.joinNumbers(output.subarray(0, LATENT_DIMS))
  const motifScores = codec.joinNumbers(output.subarray(LATENT_DIMS))
  return `{"latent":[${latent}],"motif_scores":[${motifScores}]}`
}

/** Whole seconds, as HTTP wants it: at least one, so that nobody comes back at once. */
export function retryAfter(milliseconds: number): string {
  return String(Math.max(1, Math.ceil(milliseconds / 1000)))
}

/**
 * Headers as lines behind a status. uWebSockets writes a status as it stands, and one call is far cheaper than one
 * for each header. No value may have a line break: none is a client's own but the ids that isEchoable() lets pass.
 */
export function linesOf(headers: Record<string, string>): string {
  let lines = ''
  for (const name in headers) lines += `\r\n${name}: ${headers[name]}`
  return lines
}

/** @param head the status and all headers, see linesOf() */
export function sendPrepared(response: HttpResponse, head: string, body: string | Uint8Array): void {
  response.cork(() => {
    response.writeStatus(head)
    response.end(body)
  })
}

/** Writes the answer to a socket that is still there. @param isGone whether it no longer is, asked while a long body goes out */
export function send(response: HttpResponse, answer: Answer, isGone: () => boolean): void {
  const { status, headers, body, close = false } = answer
  const isLong = typeof body !== 'string' && !(body instanceof Uint8Array)
  response.cork(() => {
    response.writeStatus(`${status} ${STATUS_CODES[status]}${linesOf(headers)}`)
    if (!isLong) response.end(body, close)
    else if (close)
      response.end(Buffer.concat([...body.pieces()]), true) // tryEnd() cannot close
    else sendPieces(response, body, isGone)
  })
}

/** A piece per turn of the event loop, and only as fast as the reader takes them. */
function sendPieces(response: HttpResponse, { bytes, pieces }: LongBody, isGone: () => boolean): void {
  const iterator = pieces()[Symbol.iterator]()
  let piece = iterator.next().value as Uint8Array
  let sentBytes = 0 // before this piece
  let finished = false
  // Our own timeout: connections are kept open, so uWebSockets' may not strike.
  const stalled = setTimeout(() => !isGone() && response.close(), READER_TIMEOUT_MS)
  const sendFrom = (offset: number): boolean => {
    const [taken, done] = response.tryEnd(piece.subarray(offset - sentBytes), bytes)
    finished = done
    if (done) clearTimeout(stalled)
    if (!taken || done) return taken
    stalled.refresh() // by the piece: who takes a byte now and then has stalled too
    sentBytes += piece.length
    piece = iterator.next().value as Uint8Array
    setImmediate(() => {
      if (isGone()) clearTimeout(stalled)
      else if (!finished) response.cork(() => void sendFrom(sentBytes))
    })
    return true
  }
  response.onWritable(sendFrom)
  sendFrom(0)
}
