/** Codes that the server answers with, over HTTP and on the stream. */
const SERVER_CODES = [
  'invalid_window',
  'invalid_request',
  'unauthorized',
  'not_found',
  'method_not_allowed',
  'forbidden',
  'upgrade_required',
  'unload_not_allowed',
  'model_refused',
  'body_too_large',
  'unsupported_media_type',
  'overloaded',
  'rate_limited',
  'internal_error',
  'model_unavailable',
  'draining',
  'deadline_exceeded',
  'cancelled',
  'thinned',
] as const

/** The client's own words: what only this side can tell. */
type ClientCode =
  /** There was no whole answer: no connection, a lost one, or one that was silent for too long. */
  | 'disconnected'
  /** The answer is not one that this client knows. */
  | 'bad_answer'
  /** More is waiting to be sent than the options allow. */
  | 'queue_full'
  /** `close()` was called before. */
  | 'closed'

/**
 * The server's words, which its documentation tells, and four of the client's own: `disconnected`, `bad_answer`,
 * `queue_full` and `closed`. A stream says `deadline_exceeded` and `cancelled` itself of a window that was not sent yet.
 */
export type ErrorCode = (typeof SERVER_CODES)[number] | ClientCode

/** The server's word for a failure. A newer server may have words that this client does not know. */
export function errorCode(word: unknown): ErrorCode {
  return SERVER_CODES.find(code => code === word) ?? 'bad_answer'
}

interface Circumstances {
  readonly status?: number
  readonly retryAfterMs?: number
  readonly requestId?: string | null
  readonly cause?: unknown
}

/** Why there is no result. */
export class InferenceError extends Error {
  override readonly name = 'InferenceError'
  readonly code: ErrorCode
  /** What was wrong, in words. */
  readonly detail: string
  /** Of the HTTP answer; null when there was none, and on the stream. */
  readonly status: number | null
  /** When coming back makes sense; null when nobody said. */
  readonly retryAfterMs: number | null
  /** Names the request in the server's log; null on the stream. */
  readonly requestId: string | null

  constructor(code: ErrorCode, detail: string, circumstances: Circumstances = {}) {
    const { status = null, retryAfterMs = null, requestId = null, cause } = circumstances
    super(`${code}: ${detail}`, { cause })
    this.code = code
    this.detail = detail
    this.status = status
    this.retryAfterMs = retryAfterMs
    this.requestId = requestId
  }
}
