import type { HttpRequest, HttpResponse } from 'uWebSockets.js'
import { monotonicMs } from '../clock.ts'
import type { BackendKind } from '../core/backend.ts'
import type { Outcome } from '../core/outcome.ts'
import type { Slot } from '../core/slot.ts'
import { LATENT_DIMS, parseWindow, readWindow } from '../core/window.ts'
import type { Engine, Refused } from '../engine/engine.ts'
import { type InFlight, Stream, type Waiter } from '../engine/stream.ts'
import { prefersOctetStream } from './accept.ts'
import type { Access } from './access.ts'
import { readBody } from './body.ts'
import type { AnswerGate } from './gate.ts'
import { type Answer, errorAnswer, type Failure, retryAfter, send, UNAUTHORIZED } from './reply.ts'
import { isEchoable, requestIdOf } from './request-id.ts'
import type { FrontDoorMetrics } from './service.ts'
import type { EventLoopTurn } from './turn.ts'

/** A window as JSON takes some 20 KB; with indentation and other keys beside it, more. */
const MAX_BODY_BYTES = 256 * 1024

/** Headers that tell what gave a result. */
export interface Provenance {
  readonly 'X-Inference-Backend': BackendKind
  /** 12 hex digits, or "stub". */
  readonly 'X-Model-Sha256': string
}

export interface InferenceContext {
  readonly engine: Engine
  readonly access: Access
  readonly provenance: Record<BackendKind, Provenance>
  /** What is told where there is no result. */
  readonly primary: BackendKind
  readonly configVersion: string
  readonly deadlineMs: number
  readonly maxDeadlineMs: number
  readonly metrics: FrontDoorMetrics
  readonly turn: EventLoopTurn
  readonly gate: AnswerGate
}

/** What one route does with a window: where it finds it in a JSON body, and how it tells the result. */
export interface Operation {
  readonly endpoint: string
  /** Keys of the JSON body that may hold the window, the first that is there wins. */
  readonly windowKeys: readonly string[]
  /** Writes a window of the server's own making instead of reading one from the body. */
  readonly makeWindow?: (window: Float32Array) => void
  /** Whether octet-stream goes in and out as well. */
  readonly binary: boolean
  /** @param output float32[64 + motifs], valid during the call only */
  readonly encode: (output: Float32Array, slot: Slot) => string
}

/** `POST /infer`, and what EdgeInfer's defaults make of that path. */
export const INFER: Omit<Operation, 'endpoint'> = {
  windowKeys: ['x'],
  binary: true,
  encode: output =>
    `{"latent":[${output.subarray(0, LATENT_DIMS).join()}],"motif_scores":[${output.subarray(LATENT_DIMS).join()}]}`,
}

/** Answers one inference request: body → slot → worker → slot → reply. */
export class InferenceExchange implements Waiter {
  readonly #response: HttpResponse
  readonly #context: InferenceContext
  readonly #operation: Operation
  readonly #arrivedMs: number
  readonly #contentType: string
  readonly #accept: string
  readonly #requestId: string
  readonly #headers: Record<string, string>
  #deadlineMs: number
  #inFlight: InFlight | null = null
  /** Runs while a body that comes in parts is not complete. */
  #slowBody: NodeJS.Timeout | undefined
  /** Answered, or the client is gone. */
  #over = false
  /** The client is gone: the response must not be touched any more. */
  #gone = false

  constructor(response: HttpResponse, request: HttpRequest, operation: Operation, context: InferenceContext) {
    this.#response = response
    this.#operation = operation
    this.#context = context
    this.#arrivedMs = context.turn.arrivedMs()
    // The request can be read only now: uWebSockets takes it back when this call returns.
    this.#contentType = request.getHeader('content-type')
    this.#accept = request.getHeader('accept')
    this.#requestId = requestIdOf(request.getHeader('x-request-id'))
    this.#headers = this.#commonHeaders(request)
    this.#deadlineMs = this.#arrivedMs + context.deadlineMs
    response.onAborted(() => {
      this.#over = this.#gone = true
      clearTimeout(this.#slowBody)
      this.#inFlight?.cancel()
    })

    const failure = this.#checkHead(request)
    if (failure !== null) this.#fail(failure)
    else {
      readBody(response, MAX_BODY_BYTES, {
        onBody: body => this.#onBody(body),
        onPart: () => this.#expectTheRest(),
        onTooLarge: bytes => this.#fail(bodyTooLarge(bytes)),
      })
    }
  }

  /** The engine's answer, once. */
  settle(outcome: Outcome, slot: Slot): void {
    this.#inFlight = null
    if (outcome === 'deadline_exceeded') return this.#failLate('There is no result')
    if (outcome !== 'ok') {
      return this.#fail({
        code: outcome,
        detail: 'The worker that had this window was lost, or the model gave no usable result for it',
        headers: { 'Retry-After': '1' },
      })
    }
    Object.assign(this.#headers, this.#context.provenance[slot.backend])
    const timing = serverTiming(slot.queueWaitMs, slot.inferenceMs)
    if (this.#operation.binary && prefersOctetStream(this.#accept)) {
      return this.#answer({
        status: 200,
        headers: { 'Content-Type': 'application/octet-stream', 'Server-Timing': timing },
        body: slot.outputBytes,
      })
    }
    this.#answer({
      status: 200,
      headers: { 'Content-Type': 'application/json', 'Server-Timing': timing },
      body: this.#operation.encode(slot.output, slot),
    })
  }

  /** From the first byte of the request to now. */
  get #spentMs(): number {
    return monotonicMs() - this.#arrivedMs
  }

  /** What every answer of this route carries, whatever the outcome. */
  #commonHeaders(request: HttpRequest): Record<string, string> {
    const { access, provenance, primary, configVersion } = this.#context
    const headers: Record<string, string> = {
      'X-Request-ID': this.#requestId,
      ...provenance[primary],
      'X-Config-Version': configVersion,
    }
    const correlationId = request.getHeader('x-correlation-id')
    if (isEchoable(correlationId)) headers['X-Correlation-ID'] = correlationId
    if (access.usesCors) Object.assign(headers, access.corsHeaders(request.getHeader('origin')))
    return headers
  }

  /** What can be refused before the body is read. */
  #checkHead(request: HttpRequest): Failure | null {
    const { access, engine, deadlineMs, maxDeadlineMs } = this.#context
    if (access.needsKey) {
      const credentials = {
        apiKey: request.getHeader('x-api-key'),
        authorization: request.getHeader('authorization'),
      }
      if (!access.allows(credentials)) return UNAUTHORIZED
    }
    const refused = engine.refuseAll()
    if (refused !== null) return refusedFailure(refused)
    const declaredBytes = Number(request.getHeader('content-length'))
    if (declaredBytes > MAX_BODY_BYTES) return bodyTooLarge(declaredBytes)
    if (!this.#operation.makeWindow && !this.#isJson && !this.#isOctetStream) {
      const accepted = `application/json${this.#operation.binary ? ' or application/octet-stream' : ''}`
      return { code: 'unsupported_media_type', detail: `Cannot read this Content-Type, expected ${accepted}` }
    }
    const deadline = request.getHeader('x-deadline-ms')
    if (deadline !== '') {
      const milliseconds = Number(deadline)
      if (!(milliseconds > 0)) {
        return {
          code: 'invalid_request',
          detail: `Cannot read X-Deadline-Ms, expected a number of milliseconds above 0, for example ${deadlineMs}`,
        }
      }
      this.#deadlineMs = this.#arrivedMs + Math.min(milliseconds, maxDeadlineMs)
    }
    return null
  }

  get #isJson(): boolean {
    return this.#contentType === '' || /^application\/json *(;|$)/i.test(this.#contentType)
  }

  get #isOctetStream(): boolean {
    return this.#operation.binary && /^application\/octet-stream *(;|$)/i.test(this.#contentType)
  }

  #expectTheRest(): void {
    const leftMs = Math.max(0, Math.ceil(this.#deadlineMs - monotonicMs()))
    this.#slowBody ??= setTimeout(() => this.#failLate('The body is not complete'), leftMs)
  }

  #onBody(body: Uint8Array): void {
    clearTimeout(this.#slowBody)
    if (this.#over) return
    if (monotonicMs() > this.#deadlineMs) return this.#failLate('The body came too late')
    const place = this.#context.engine.admit(this.#deadlineMs)
    if (!(place instanceof Stream)) return this.#fail(refusedFailure(place))
    const fault = this.#fill(body, place.ring.nextSlot!)
    if (fault !== null) return this.#fail({ code: 'invalid_window', detail: fault })
    const times = { arrivedMs: this.#arrivedMs, deadlineMs: this.#deadlineMs }
    this.#inFlight = this.#context.engine.submit(place, times, this)
  }

  /** Writes the window into the slot. Returns what is wrong with it, null when it is good. */
  #fill(body: Uint8Array, slot: Slot): string | null {
    const { makeWindow, windowKeys } = this.#operation
    if (makeWindow) {
      makeWindow(slot.input)
      return null
    }
    if (this.#isOctetStream) return readWindow(body, slot)
    let document: unknown
    try {
      document = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.length).toString())
    } catch {
      return `Cannot parse window: the body of ${body.length} bytes is not valid JSON, expected {"${windowKeys[0]}": [100 rows of 9 numbers]}`
    }
    const rows = findWindow(document, windowKeys)
    if (rows === undefined) {
      return `Cannot parse window: the body has no key "${windowKeys.join('" or "')}", expected {"${windowKeys[0]}": [100 rows of 9 numbers]}`
    }
    return parseWindow(rows, slot.input)
  }

  #failLate(what: string): void {
    const spentMs = this.#spentMs.toFixed(1)
    const allowedMs = (this.#deadlineMs - this.#arrivedMs).toFixed(1)
    this.#fail({
      code: 'deadline_exceeded',
      detail: `${what} after ${spentMs} ms, expected within the deadline of ${allowedMs} ms`,
    })
  }

  #fail(failure: Failure): void {
    if (this.#over) return
    const { engine, metrics } = this.#context
    metrics.failed(failure.code)
    const { code, detail, headers } = failure
    const asker = { requestId: this.#requestId, accept: this.#accept, modelAvailable: engine.available }
    // All of its time was waiting: there is no result that the model gave.
    const timing = { 'Server-Timing': serverTiming(this.#spentMs, 0) }
    this.#answer(errorAnswer({ code, detail, headers: { ...headers, ...timing } }, asker))
  }

  #answer({ status, headers, body, close = false }: Answer): void {
    this.#over = true
    clearTimeout(this.#slowBody)
    const { engine, metrics, gate } = this.#context
    const answer = {
      status,
      headers: Object.assign(headers, this.#headers),
      body,
      close: close || engine.draining,
    }
    gate.pass(() => {
      if (!this.#gone) send(this.#response, answer)
    })
    metrics.answered('POST', this.#operation.endpoint, status, this.#spentMs / 1000)
  }
}

function serverTiming(queueMs: number, inferMs: number): string {
  return `queue;dur=${queueMs.toFixed(3)}, infer;dur=${inferMs.toFixed(3)}`
}

function refusedFailure({ code, detail, retryAfterMs }: Refused): Failure {
  return { code, detail, headers: { 'Retry-After': retryAfter(retryAfterMs) } }
}

function bodyTooLarge(bytes: number): Failure {
  return {
    code: 'body_too_large',
    detail: `The body has ${bytes} bytes or more, expected at most ${MAX_BODY_BYTES}`,
  }
}

function findWindow(document: unknown, keys: readonly string[]): unknown {
  if (typeof document !== 'object' || document === null) return undefined
  const key = keys.find(key => Object.hasOwn(document, key))
  return key === undefined ? undefined : (document as Record<string, unknown>)[key]
}
