import type { HttpRequest, HttpResponse } from 'uWebSockets.js'
import type { Outcome } from '../core/outcome.ts'
import type { Slot } from '../core/slot.ts'
import { LATENT_DIMS, parseWindow, readWindow } from '../core/window.ts'
import { type InFlight, Stream, type Waiter } from '../engine/stream.ts'
import { prefersOctetStream } from './accept.ts'
import { Exchange, type InferenceContext, lostFailure, refusedFailure } from './exchange.ts'
import type { Failure } from './reply.ts'

/** A window as JSON takes some 20 KB; with indentation and other keys beside it, more. */
const MAX_BODY_BYTES = 256 * 1024

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
  encode: encodeResult,
}

/** Latent and motif scores under the names of `POST /infer`. */
export function encodeResult(output: Float32Array): string {
  return `{"latent":[${output.subarray(0, LATENT_DIMS).join()}],"motif_scores":[${output.subarray(LATENT_DIMS).join()}]}`
}

/** Answers one inference request: body → slot → worker → slot → reply. */
export class InferenceExchange extends Exchange implements Waiter {
  readonly #operation: Operation
  #inFlight: InFlight | null = null

  constructor(response: HttpResponse, request: HttpRequest, operation: Operation, context: InferenceContext) {
    super(response, request, operation.endpoint, context)
    this.#operation = operation
    const failure = this.checkHead(request)
    if (failure !== null) this.fail(failure)
    else {
      this.collectBody(MAX_BODY_BYTES, {
        onBody: body => this.#onBody(body),
        onTooLarge: bytes => this.fail(bodyTooLarge(bytes)),
      })
    }
  }

  /** The engine's answer, once. */
  settle(outcome: Outcome, slot: Slot): void {
    this.#inFlight = null
    if (outcome === 'deadline_exceeded') return this.failLate('There is no result')
    if (outcome !== 'ok') return this.fail(lostFailure())
    const { binary, encode } = this.#operation
    const [type, body] =
      binary && prefersOctetStream(this.accept)
        ? ['application/octet-stream', slot.outputBytes]
        : ['application/json', encode(slot.output, slot)]
    this.answer({ status: 200, headers: { 'Content-Type': type }, body }, slot)
  }

  protected override onGone(): void {
    this.#inFlight?.cancel()
  }

  protected override checkHead(request: HttpRequest): Failure | null {
    const failure = super.checkHead(request)
    if (failure !== null) return failure
    const declaredBytes = Number(request.getHeader('content-length'))
    if (declaredBytes > MAX_BODY_BYTES) return bodyTooLarge(declaredBytes)
    if (!this.#operation.makeWindow && !this.#isJson && !this.#isOctetStream) {
      const accepted = `application/json${this.#operation.binary ? ' or application/octet-stream' : ''}`
      return { code: 'unsupported_media_type', detail: `Cannot read this Content-Type, expected ${accepted}` }
    }
    return null
  }

  get #isJson(): boolean {
    return this.contentType === '' || /^application\/json *(;|$)/i.test(this.contentType)
  }

  get #isOctetStream(): boolean {
    return this.#operation.binary && /^application\/octet-stream *(;|$)/i.test(this.contentType)
  }

  #onBody(body: Uint8Array): void {
    const { engine } = this.context
    const place = engine.admit(this.deadlineMs)
    if (!(place instanceof Stream)) return this.fail(refusedFailure(place))
    const fault = this.#fill(body, place.ring.nextSlot!)
    if (fault !== null) return this.fail({ code: 'invalid_window', detail: fault })
    const times = { arrivedMs: this.arrivedMs, deadlineMs: this.deadlineMs }
    this.#inFlight = engine.submit(place, times, this)
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
