import type { BackendKind } from '../src/core/backend.ts'
import { CHANNELS, WINDOW_VALUES } from '../src/core/window.ts'
import { backoffMs } from './backoff.ts'
import { type ErrorCode, InferenceError } from './error.ts'
import { type Answer, errorOf, exchange, type Fetch, jsonOf } from './exchange.ts'
import { type Failed, type Inference, readJson, readRows } from './inference.ts'
import { startTimer } from './timer.ts'

export interface ClientOptions {
  readonly apiKey?: string
  /** For windows that name none. Without it the server's own holds, 40 ms unless configured. */
  readonly deadlineMs?: number
  /** Bounds the wait for any answer, so that a dead connection ends. Default 30,000. */
  readonly timeoutMs?: number
  /** JSON both ways in `infer()`, for whoever reads along. */
  readonly json?: boolean
  /** Default: the global one. */
  readonly fetch?: Fetch
}

export interface InferOptions {
  /**
   * When an answer stops being useful, counted by the server from the first byte of the request. With `retries`
   * it bounds all of them together, counted from the call.
   */
  readonly deadlineMs?: number
  /** How often to ask again when the server was busy, away or without a model. Default 0. */
  readonly retries?: number
  /** Gives the request up: the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

export interface BulkOptions extends InferOptions {
  /** At most the server's MAX_WINDOWS_PER_REQUEST. Default 64. */
  readonly windowsPerRequest?: number
}

export interface BulkResult {
  /** One for each window, in their order. */
  readonly results: (Inference | Failed)[]
  /** How many of them have no inference. */
  readonly failedCount: number
}

/** `GET /healthz`. These fields say who answers; there are more. */
export interface Health {
  readonly ok: boolean
  readonly status: string
  readonly model: string
  readonly version: string
  readonly mode: BackendKind
  readonly [field: string]: unknown
}

/** `GET /readyz` */
export interface Readiness {
  readonly ready: boolean
  /** Why not. */
  readonly reasons: readonly string[]
}

/** Asks a server over HTTP. */
export class InferenceClient {
  readonly #baseUrl: string
  readonly #options: ClientOptions
  readonly #fetch: Fetch

  /** @param baseUrl such as `http://127.0.0.1:9000`; a path in it is kept */
  constructor(baseUrl: string | URL, options: ClientOptions = {}) {
    const base = String(baseUrl)
    // Without the slash its last folder is lost when a path is resolved against it.
    this.#baseUrl = base.endsWith('/') ? base : `${base}/`
    this.#options = options
    // A browser's fetch refuses to be called as a method of anything else.
    this.#fetch = options.fetch ?? ((url, init) => globalThis.fetch(url, init))
  }

  /**
   * Infers one window.
   * @param window float32[100][9], raw: m/s² ×3, rad/s ×3, µT ×3. Do not write to it until the promise settles.
   * @throws InferenceError
   */
  async infer(window: Float32Array, options: InferOptions = {}): Promise<Inference> {
    if (window.length !== WINDOW_VALUES) throw wrongLength(window.length, String(WINDOW_VALUES))
    if (this.#options.json) return readJson(await this.#post(jsonOfWindow(window), options))
    const [result] = readRows(await this.#post(bytesOf(window), options), 1)
    if ('error' in result!)
      throw new InferenceError(result.error, 'The answer holds no result', { status: 200 })
    return result!
  }

  /**
   * Infers many windows: one request for every `windowsPerRequest` of them, one after the other. A window that fails
   * does not spoil the others.
   * @param windows of 900 values each, or all in one array of 900 × N. An iterable is read as its windows go out.
   * @throws InferenceError when a request fails for a reason that is not about its windows
   * @throws RangeError when `windowsPerRequest` is no whole number from 1
   */
  async inferMany(
    windows: Iterable<Float32Array> | AsyncIterable<Float32Array> | Float32Array,
    { windowsPerRequest = 64, ...options }: BulkOptions = {},
  ): Promise<BulkResult> {
    if (!Number.isInteger(windowsPerRequest) || windowsPerRequest < 1) {
      const found = `${windowsPerRequest} windows per request`
      throw new RangeError(`Cannot send ${found}, expected a whole number from 1`)
    }
    const results: (Inference | Failed)[] = []
    for await (const batch of batchesOf(windows, windowsPerRequest)) {
      for (const result of await this.#inferBatch(batch, options)) results.push(result)
    }
    return { results, failedCount: results.filter(result => 'error' in result).length }
  }

  /** How the server is, well or not. @throws InferenceError when it does not say */
  health(): Promise<Health> {
    return this.#get<Health>('healthz')
  }

  /** Whether the server wants windows. @throws InferenceError when it does not say */
  ready(): Promise<Readiness> {
    return this.#get<Readiness>('readyz')
  }

  async #inferBatch(batch: Float32Array, options: InferOptions): Promise<(Inference | Failed)[]> {
    const count = batch.length / WINDOW_VALUES
    try {
      return readRows(await this.#post(bytesOf(batch), options), count)
    } catch (error) {
      // When no window has a result, the server says why once.
      if (!(error instanceof InferenceError) || !ABOUT_WINDOWS.has(error.code)) throw error
      return new Array<Failed>(count).fill({ error: error.code })
    }
  }

  /** @returns an answer with status 200 */
  async #post(body: string | Uint8Array<ArrayBuffer>, options: InferOptions): Promise<Answer> {
    const { deadlineMs = this.#options.deadlineMs, retries = 0, signal } = options
    const startMs = performance.now()
    let leftMs = deadlineMs
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#postOnce(body, leftMs, signal)
      } catch (error) {
        if (!(error instanceof InferenceError) || attempt > retries || !PASSING.has(error.code)) throw error
        const waitMs = error.retryAfterMs ?? backoffMs(attempt)
        if (deadlineMs !== undefined) {
          leftMs = startMs + deadlineMs - performance.now() - waitMs
          if (leftMs <= 0) throw error
        }
        await pause(waitMs, signal)
      }
    }
  }

  async #postOnce(
    body: string | Uint8Array<ArrayBuffer>,
    deadlineMs: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Answer> {
    const type = typeof body === 'string' ? 'application/json' : 'application/octet-stream'
    const deadline = deadlineMs === undefined ? {} : { 'X-Deadline-Ms': String(deadlineMs) }
    const headers = { 'Content-Type': type, Accept: type, ...deadline, ...this.#credentials }
    const answer = await exchange(this.#fetch, {
      url: this.#urlOf('infer'),
      method: 'POST',
      headers,
      body,
      timeoutMs: this.#timeoutMs,
      signal,
    })
    if (answer.status !== 200) throw errorOf(answer)
    return answer
  }

  async #get<Body>(path: string): Promise<Body> {
    const answer = await exchange(this.#fetch, {
      url: this.#urlOf(path),
      method: 'GET',
      headers: { Accept: 'application/json', ...this.#credentials },
      timeoutMs: this.#timeoutMs,
    })
    const body = jsonOf(answer)
    // A 503 is an answer too: it says what is missing.
    const told = (answer.status === 200 || answer.status === 503) && Object.keys(body).length > 0
    if (!told || 'error' in body) throw errorOf(answer)
    return body as Body
  }

  #urlOf(path: string): string {
    return new URL(path, this.#baseUrl).href
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? 30_000
  }

  get #credentials(): Record<string, string> {
    const { apiKey } = this.#options
    return apiKey === undefined ? {} : { 'X-API-Key': apiKey }
  }
}

/** They say what became of the windows of a request; other codes, that the request was wrong or got nowhere. */
const ABOUT_WINDOWS: ReadonlySet<ErrorCode> = new Set([
  'invalid_window',
  'overloaded',
  'rate_limited',
  'model_unavailable',
  'draining',
  'deadline_exceeded',
])

/** They may be gone when asked again. */
const PASSING: ReadonlySet<ErrorCode> = new Set([
  'overloaded',
  'rate_limited',
  'model_unavailable',
  'draining',
  'disconnected',
])

async function* batchesOf(
  windows: Iterable<Float32Array> | AsyncIterable<Float32Array> | Float32Array,
  windowsPerBatch: number,
): AsyncIterable<Float32Array> {
  const batchValues = windowsPerBatch * WINDOW_VALUES
  if (windows instanceof Float32Array) {
    if (windows.length % WINDOW_VALUES !== 0) throw wrongLength(windows.length, `${WINDOW_VALUES} × N`)
    for (let at = 0; at < windows.length; at += batchValues) yield windows.subarray(at, at + batchValues)
    return
  }
  const batch = new Float32Array(batchValues)
  let length = 0
  for await (const window of windows) {
    if (window.length !== WINDOW_VALUES) throw wrongLength(window.length, String(WINDOW_VALUES))
    batch.set(window, length)
    length += WINDOW_VALUES
    if (length < batchValues) continue
    yield batch // used again: its request has ended when the next window is asked for
    length = 0
  }
  if (length > 0) yield batch.subarray(0, length)
}

function wrongLength(length: number, expected: string): InferenceError {
  const detail = `Cannot send windows: got ${length} values, expected ${expected} (float32[100][9] each)`
  return new InferenceError('invalid_window', detail)
}

/** A view: as on every machine that Node.js and browsers run on, float32 is little-endian. */
function bytesOf(values: Float32Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = values
  // fetch() takes no shared memory.
  if (!(buffer instanceof ArrayBuffer)) return bytesOf(values.slice())
  return new Uint8Array(buffer, byteOffset, byteLength)
}

function jsonOfWindow(window: Float32Array): string {
  const rows = []
  for (let at = 0; at < window.length; at += CHANNELS)
    rows.push(Array.from(window.subarray(at, at + CHANNELS)))
  return JSON.stringify({ x: rows })
}

/** @throws the signal's reason */
function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', end)
      if (signal?.aborted) reject(signal.reason)
      else resolve()
    }
    const timer = startTimer(end, milliseconds)
    signal?.addEventListener('abort', end)
  })
}
