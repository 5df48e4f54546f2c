import type { HttpRequest, HttpResponse } from 'uWebSockets.js'
import { monotonicMs } from '../clock.ts'
import { LEVEL } from '../core/degradation.ts'
import type { Outcome } from '../core/outcome.ts'
import type { Slot } from '../core/slot.ts'
import { WINDOW_BYTES } from '../core/window.ts'
import type { Refused } from '../engine/engine.ts'
import type { Origin } from '../engine/observer.ts'
import { type InFlight, Stream, type Waiter } from '../engine/stream.ts'
import { prefersOctetStream } from './accept.ts'
import type { Body } from './body.ts'
import { BinaryResults, BulkUpload, JsonResults, tooManyWindows, type UploadOwner } from './bulk.ts'
import { codec, findWindow } from './codec.ts'
import { closesConnection, Exchange, type InferenceContext, lostFailure } from './exchange.ts'
import { encodeResult, type Failure } from './reply.ts'
import { BinaryWindowReader, JsonWindowReader } from './window-readers.ts'

/** A window as JSON takes some 20 KB; with indentation and other keys beside it, more. */
const MAX_BODY_BYTES = 256 * 1024
/** Of several, on average; one alone may have more. */
const MAX_WINDOW_JSON_BYTES = 64 * 1024
/** Requests of several windows at once, and their bodies together: the memory that they may come to take. */
const MAX_UPLOADS = 32
const MAX_UPLOAD_BYTES = 128 * 1024 * 1024
/** Taken for a chunked body, which does not say how long it will be. */
const CHUNKED_BYTES = 4 * 1024 * 1024

/** What one route does with a window: where it finds it in a JSON body, and how it tells the result. */
export interface Operation {
  readonly endpoint: string
  /** Keys of the JSON body that may hold the window, the first that is there wins. */
  readonly windowKeys: readonly string[]
  /** Writes a window of the server's own making instead of reading one from the body. */
  readonly makeWindow?: (window: Float32Array) => void
  /** Whether octet-stream goes in and out as well, and several windows at once. */
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

/** Answers one inference request: body → slot → worker → slot → reply. */
export class InferenceExchange extends Exchange implements Waiter {
  readonly #operation: Operation
  /** Else the body is JSON. */
  readonly #isOctetStream: boolean
  #inFlight: InFlight | null = null
  #upload: BulkUpload | null = null

  constructor(response: HttpResponse, request: HttpRequest, operation: Operation, context: InferenceContext) {
    super(response, request, operation.endpoint, context)
    this.#operation = operation
    this.#isOctetStream = operation.binary && isOfType(this.contentType, 'application/octet-stream')
    const failure = this.checkHead(request)
    const refused = failure === null ? this.#refusedEarly(request) : null
    if (failure !== null) this.failHead(failure, request)
    else if (refused !== null) this.refuse(refused)
    else this.#receive(request)
  }

  get origin(): Origin {
    return this
  }

  /** The engine's answer, once. */
  settle(outcome: Outcome, slot: Slot): void {
    this.#inFlight = null
    if (outcome === 'deadline_exceeded') return this.failLate('There is no result')
    if (outcome !== 'ok') return this.fail(lostFailure())
    const { binary, encode } = this.#operation
    if (binary && prefersOctetStream(this.accept)) {
      this.answerResult('application/octet-stream', slot.outputBytes, slot)
    } else this.answerResult('application/json', encode(slot.output, slot), slot)
  }

  protected override onGone(): void {
    this.#inFlight?.cancel()
    this.#upload?.cancel()
  }

  protected override checkHead(request: HttpRequest): Failure | null {
    const declared = Math.min(this.#declaredWindows, this.context.maxWindowsPerRequest)
    const failure = super.checkHead(request, Math.max(1, declared))
    if (failure !== null) return failure
    if (!this.#operation.makeWindow && !this.#isOctetStream && !isJson(this.contentType)) {
      const accepted = `application/json${this.#operation.binary ? ' or application/octet-stream' : ''}`
      return { code: 'unsupported_media_type', detail: `Cannot read this Content-Type, expected ${accepted}` }
    }
    return this.#checkDeclaredBytes()
  }

  #checkDeclaredBytes(): Failure | null {
    const bytes = this.declaredBytes
    if (!this.#operation.binary) return bytes > MAX_BODY_BYTES ? bodyTooLarge(bytes, MAX_BODY_BYTES) : null
    if (bytes > this.#limitBytes) return tooManyWindows(this.context.maxWindowsPerRequest)
    if (!this.#isOctetStream || bytes % WINDOW_BYTES === 0) return null
    return {
      code: 'invalid_window',
      detail: `Cannot read window: the body has ${bytes} bytes, expected ${WINDOW_BYTES} (little-endian float32[100][9]), or a multiple for several windows`,
    }
  }

  /**
   * What a window is refused with before its body is read, which uWebSockets throws away behind an answer. Null when it
   * is to come, and it is decided then. That costs every window a second question, so only where windows are shed, or
   * soon will be; and a body of JSON may hold several, which would wait for room.
   */
  #refusedEarly(request: HttpRequest): Refused | null {
    if (!this.#isOctetStream || this.declaredBytes !== WINDOW_BYTES) return null
    const { engine } = this.context
    if (engine.level < LEVEL.degraded || closesConnection(request)) return null
    const nowMs = monotonicMs()
    if (nowMs > this.deadlineMs) return null
    const place = engine.admit(this.times, nowMs)
    return place instanceof Stream ? null : place
  }

  #receive(request: HttpRequest): void {
    const limitBytes = this.#isOctetStream ? WINDOW_BYTES : MAX_BODY_BYTES
    this.collectBody(this.declaredBytes > limitBytes ? -1 : limitBytes, request)
  }

  protected override onLonger(receivedBytes: number, body: Body): void {
    if (this.#operation.binary) body.passOn(this.#startUpload())
    else this.fail(bodyTooLarge(receivedBytes, MAX_BODY_BYTES))
  }

  protected override onLate(body: Body): boolean {
    // No single window can be in time any more; several may come at any pace.
    if (this.namesDeadline || !this.#mayBeSeveral(body.collected)) return false
    body.passOn(this.#startUpload())
    return true
  }

  /** Several windows in one request, too many to wait for each other. Returns what takes the body. */
  #startUpload(): (part: Uint8Array, isLast: boolean) => void {
    const { response } = this
    const { engine, uploads, resultBytes, maxWindowsPerRequest } = this.context
    const refused = engine.refuseBulk()
    if (refused !== null) {
      this.refuse(refused)
      return () => {}
    }
    const bytes = this.declaredBytes || CHUNKED_BYTES
    const together = [...uploads].reduce((sum, upload) => sum + upload.bytes, bytes)
    if (uploads.size >= MAX_UPLOADS || (uploads.size > 0 && together > MAX_UPLOAD_BYTES)) {
      this.fail({
        code: 'overloaded',
        detail: `${uploads.size} requests of several windows are being answered, expected at most ${MAX_UPLOADS} and ${MAX_UPLOAD_BYTES} bytes at once`,
        headers: { 'Retry-After': '1' },
      })
      return () => {}
    }
    const declared = this.#declaredWindows
    const owner: UploadOwner = {
      origin: this,
      deadlineMs: this.namesDeadline ? this.deadlineMs : Number.POSITIVE_INFINITY,
      bytes,
      expected: declared,
      limitBytes: this.#limitBytes,
      pause: () => void response.pause(),
      resume: () => {
        if (!this.over) response.resume()
      },
      answer: answer => this.answer(answer),
      take: index => (index < Math.max(1, declared) ? 0 : this.takeFurther(1)),
      ended: count => {
        this.broughtWindows = count
      },
      fail: (failure, counted) => this.fail(failure, counted),
    }
    const ResultsAs = prefersOctetStream(this.accept) ? BinaryResults : JsonResults
    const results = new ResultsAs(resultBytes, Math.min(declared, maxWindowsPerRequest))
    const reader = this.#isOctetStream ? new BinaryWindowReader() : new JsonWindowReader()
    const upload = new BulkUpload(owner, reader, results, this.context)
    this.#upload = upload
    return (part, isLast) => upload.onPart(part, isLast)
  }

  /** Of a body of several windows. */
  get #limitBytes(): number {
    const windowBytes = this.#isOctetStream ? WINDOW_BYTES : MAX_WINDOW_JSON_BYTES
    return Math.max(MAX_BODY_BYTES, this.context.maxWindowsPerRequest * windowBytes)
  }

  /** 0 when the head does not tell. */
  get #declaredWindows(): number {
    return this.#isOctetStream ? Math.ceil(this.declaredBytes / WINDOW_BYTES) || 0 : 0
  }

  #mayBeSeveral(soFar: Buffer): boolean {
    if (!this.#operation.binary) return false
    if (this.#isOctetStream) return this.declaredBytes === 0
    return soFar.includes('"windows"')
  }

  protected override onWhole(body: Uint8Array, nowMs: number): void {
    const { engine } = this.context
    if (this.#holdsSeveral(body)) return this.#startUpload()(body, true)
    const { times } = this
    const place = engine.admit(times, nowMs)
    if (!(place instanceof Stream)) return this.refuse(place)
    const fault = this.#fill(body, place.ring.nextSlot!)
    if (fault !== null) return this.fail({ code: 'invalid_window', detail: fault })
    this.#inFlight = engine.submit(place, times, this)
  }

  /** Whether a JSON body has `windows` in place of a window. */
  #holdsSeveral(body: Uint8Array): boolean {
    const { binary, windowKeys } = this.#operation
    if (!binary || this.#isOctetStream) return false
    const text = Buffer.from(body.buffer, body.byteOffset, body.length)
    // Both far cheaper than to parse it twice: a window in front decides, and so does no word of several.
    const window = `{"${windowKeys[0]}"`
    if (text.toString('latin1', 0, window.length) === window || !text.includes('"windows"')) return false
    try {
      const document: unknown = JSON.parse(text.toString())
      return findWindow(document, windowKeys) === undefined && findWindow(document, ['windows']) !== undefined
    } catch {
      return false
    }
  }

  /** Writes the window into the slot. Returns what is wrong with it, null when it is good. */
  #fill(body: Uint8Array, slot: Slot): string | null {
    const { makeWindow, windowKeys } = this.#operation
    if (makeWindow) {
      makeWindow(slot.input)
      return null
    }
    return this.#isOctetStream ? codec.readWindow(body, slot) : codec.readBody(body, windowKeys, slot)
  }
}

function isJson(contentType: string): boolean {
  return contentType === '' || isOfType(contentType, 'application/json')
}

/** @param type in lower case, without parameters */
function isOfType(contentType: string, type: string): boolean {
  return contentType === type || contentType.split(';', 1)[0]!.trimEnd().toLowerCase() === type
}

function bodyTooLarge(bytes: number, limitBytes: number): Failure {
  return {
    code: 'body_too_large',
    detail: `The body has ${bytes} bytes or more, expected at most ${limitBytes}`,
  }
}
