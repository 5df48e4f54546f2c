import { errorCode, InferenceError } from './error.ts'
import { startTimer } from './timer.ts'

/** As much of the standard's `fetch` as is used here. */
export type Fetch = (
  url: string,
  init: {
    method: string
    headers: Record<string, string>
    body?: string | Uint8Array<ArrayBuffer>
    signal: AbortSignal
  },
) => Promise<{
  readonly status: number
  readonly headers: { get(name: string): string | null }
  arrayBuffer(): Promise<ArrayBuffer>
}>

export interface Request {
  readonly url: string
  readonly method: 'GET' | 'POST'
  readonly headers: Record<string, string>
  readonly body?: string | Uint8Array<ArrayBuffer>
  /** Bounds the wait for the whole answer. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/** A whole HTTP answer. */
export interface Answer {
  readonly status: number
  header(name: string): string | null
  readonly body: Uint8Array<ArrayBuffer>
}

/** @throws InferenceError `disconnected` when there is no whole answer, the signal's reason when it was given up */
export async function exchange(fetch: Fetch, { url, timeoutMs, signal, ...init }: Request): Promise<Answer> {
  signal?.throwIfAborted()
  const controller = new AbortController()
  const abort = () => controller.abort()
  signal?.addEventListener('abort', abort)
  const timer = startTimer(abort, timeoutMs)
  try {
    const response = await fetch(url, { ...init, signal: controller.signal })
    const body = new Uint8Array(await response.arrayBuffer())
    return { status: response.status, header: name => response.headers.get(name), body }
  } catch (cause) {
    signal?.throwIfAborted()
    if (controller.signal.aborted)
      throw new InferenceError('disconnected', `No answer from ${url} in ${timeoutMs} ms`)
    throw new InferenceError('disconnected', `No answer from ${url}`, { cause })
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
}

/** Empty when the body is not a JSON object. */
export function jsonOf({ body }: Answer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(body))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

/** What an answer other than 200 says. */
export function errorOf(answer: Answer): InferenceError {
  const { error, detail } = jsonOf(answer)
  const retryAfter = answer.header('Retry-After')
  return new InferenceError(
    errorCode(error),
    typeof detail === 'string' ? detail : `The server answered ${answer.status} without saying why`,
    {
      status: answer.status,
      requestId: answer.header('X-Request-ID'),
      // Seconds: our server never sends the other form, a date.
      ...(retryAfter !== null && /^\d+$/.test(retryAfter) && { retryAfterMs: Number(retryAfter) * 1000 }),
    },
  )
}

/** For an answer that says 200 and something else than a result. */
export function badAnswer(answer: Answer, found: string): InferenceError {
  const requestId = answer.header('X-Request-ID')
  return new InferenceError('bad_answer', `Cannot read the answer: ${found}`, {
    status: answer.status,
    requestId,
  })
}
