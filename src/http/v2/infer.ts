import type { HttpRequest, HttpResponse } from 'uWebSockets.js'
import { monotonicMs } from '../../clock.ts'
import type { Outcome } from '../../core/outcome.ts'
import type { Slot } from '../../core/slot.ts'
import type { BulkSource } from '../../engine/bulk-lane.ts'
import { windowOf } from '../../engine/observer.ts'
import { type InFlight, Stream } from '../../engine/stream.ts'
import type { Told } from '../../served-models.ts'
import { codec } from '../codec.ts'
import {
  Exchange,
  type InferenceContext,
  lostFailure,
  type Provenance,
  provenanceOfAll,
  refusedFailure,
} from '../exchange.ts'
import { rateLimited } from '../rate-limit.ts'
import type { Answer, Failure } from '../reply.ts'
import { encodingOf, inflateBody } from './inflate.ts'
import type { OnePerTurn } from './one-per-turn.ts'
import { v2Error } from './reply.ts'
import { MAX_BATCH } from './schema.ts'
import type { Statistics } from './statistics.ts'
import {
  badWindow,
  type DecodedRequest,
  decodeRequest,
  encodeResponse,
  Undecodable,
  windowAt,
} from './tensors.ts'

/** A window takes 3,600 bytes in binary and some 20 KB as JSON; with indentation, more. */
const BODY_BYTES_PER_WINDOW = 32 * 1024
const MAX_BODY_BYTES = MAX_BATCH * BODY_BYTES_PER_WINDOW
/** More than the largest batch in binary: what has more is JSON, which takes long to decode. */
const LARGE_BODY_BYTES = 256 * 1024
/** From this priority on a request waits behind live traffic. Triton's 0 is "the default", 1 the highest. */
const BULK_PRIORITY = 2

/** The model as this protocol tells of it. */
export interface V2Context extends InferenceContext {
  readonly modelName: string
  readonly modelVersion: Told<string>
  /** Windows that one request may bring: never more than all rings hold together. */
  readonly maxBatch: number
  readonly statistics: Statistics
  /** Decodes large bodies. */
  readonly largeBodies: OnePerTurn
}

/**
 * Answers one inference request of the Open Inference Protocol: body → slots → workers → slots →
 * one reply. All windows get a result, or the request gets the error of the first that does not.
 */
export class V2Exchange extends Exchange implements BulkSource {
  declare protected readonly context: V2Context
  readonly #headerLength: string
  readonly #contentEncoding: string
  #request: DecodedRequest | null = null
  #decodeMs = 0
  /** Windows that were submitted, and those of them that have their result. */
  #submitted = 0
  #settled = 0
  #inFlight: (InFlight | null)[] = []
  #results: Float32Array | null = null
  /** What gave the results, and of which versions of the model. */
  readonly #sources = new Set<Provenance>()
  readonly #versions = new Set<string>()
  /** Ends the wait of windows that no ring has had room for. */
  #patience: NodeJS.Timeout | undefined

  constructor(response: HttpResponse, request: HttpRequest, endpoint: string, context: V2Context) {
    super(response, request, endpoint, context)
    this.#headerLength = request.getHeader('inference-header-content-length')
    this.#contentEncoding = request.getHeader('content-encoding')
    const failure = this.checkHead(request)
    if (failure !== null) {
      this.failHead(failure, request)
      return
    }
    // How long the client waits may stand in the body: until that is read, it gets all the time there is.
    if (!this.namesDeadline) this.deadlineMs = this.arrivedMs + context.maxDeadlineMs
    this.collectBody(MAX_BODY_BYTES, request)
  }

  protected override checkHead(request: HttpRequest): Failure | null {
    const failure = super.checkHead(request)
    if (failure !== null) return failure
    const { declaredBytes } = this
    if (declaredBytes > MAX_BODY_BYTES) return bodyTooLarge(declaredBytes)
    if (encodingOf(this.#contentEncoding) !== null) return null
    return {
      code: 'unsupported_media_type',
      detail: 'Cannot read this Content-Encoding, expected gzip, deflate or identity',
    }
  }

  protected override onGone(): void {
    this.#giveUp()
  }

  protected override failureAnswer(failure: Failure): Answer {
    return v2Error(failure)
  }

  override fail(failure: Failure): void {
    this.#giveUp()
    if (!this.over) this.context.statistics.failed(this.spentMs)
    super.fail(failure)
  }

  /** Called by the bulk lane when `stream` has room. */
  submitNext(stream: Stream): boolean {
    const { engine } = this.context
    const refused = engine.refuseAll()
    if (refused !== null) {
      this.fail(refusedFailure(refused))
      return false
    }
    return this.#submitTo(stream) && this.#submitted < this.#request!.count
  }

  protected override onLonger(receivedBytes: number): void {
    this.fail(bodyTooLarge(receivedBytes))
  }

  protected override onWhole(body: Uint8Array): void {
    const encoding = encodingOf(this.#contentEncoding)!
    if (encoding !== '') void this.#inflateAndInfer(body.slice(), encoding)
    else if (body.length > LARGE_BODY_BYTES) this.#inferLater(body.slice())
    else this.#infer(body)
  }

  async #inflateAndInfer(body: Uint8Array, encoding: string): Promise<void> {
    const inflated = await inflateBody(body, encoding, MAX_BODY_BYTES)
    if (this.over) return
    if (!(inflated instanceof Uint8Array)) this.fail(inflated)
    else if (inflated.length > LARGE_BODY_BYTES) this.#inferLater(inflated)
    else this.#infer(inflated)
  }

  #inferLater(body: Uint8Array): void {
    this.context.largeBodies.run(() => {
      if (this.over) return
      if (monotonicMs() > this.deadlineMs) this.failLate('The windows were not decoded')
      else this.#infer(body)
    })
  }

  #infer(body: Uint8Array): void {
    const startedMs = monotonicMs()
    try {
      this.#request = decodeRequest(body, this.#headerLength, this.context.maxBatch)
      const waitMs = this.takeFurther(this.#request.count - 1)
      if (waitMs > 0) return this.fail(rateLimited(waitMs))
      this.#setDeadline(this.#request)
      if (monotonicMs() > this.deadlineMs) return this.failLate('The windows came too late')
      this.#inFlight = new Array(this.#request.count).fill(null)
      if (this.#request.priority < BULK_PRIORITY) this.#submitAll(this.#request)
      else this.#wait({ ...this.#request, windows: this.#request.windows.slice() })
    } catch (error) {
      if (!(error instanceof Undecodable)) throw error
      this.fail(error.failure)
    }
    this.#decodeMs = monotonicMs() - startedMs
  }

  /** The nearer of header and body; the server's own when neither tells one. */
  #setDeadline({ timeoutMs }: DecodedRequest): void {
    const toldMs = this.namesDeadline ? this.deadlineMs - this.arrivedMs : Number.POSITIVE_INFINITY
    const allowedMs = Math.min(toldMs, timeoutMs ?? Number.POSITIVE_INFINITY)
    this.setDeadline('timeout', allowedMs === Number.POSITIVE_INFINITY ? this.context.deadlineMs : allowedMs)
  }

  #submitAll({ count }: DecodedRequest): void {
    while (this.#submitted < count) {
      const place = this.context.engine.admit(this.times)
      if (!(place instanceof Stream)) return this.fail(refusedFailure(place))
      if (!this.#submitTo(place)) return
    }
  }

  /** Behind live traffic. The windows are the exchange's own: the lane asks for them later. */
  #wait(request: DecodedRequest): void {
    const { engine } = this.context
    const refused = engine.refuseBulk()
    if (refused !== null) return this.fail(refusedFailure(refused))
    if (!engine.available) {
      // Nothing would ever have room.
      const refused = engine.admit(this.times)
      if (!(refused instanceof Stream)) return this.fail(refusedFailure(refused))
    }
    this.#request = request
    const leftMs = Math.max(1, Math.ceil(this.deadlineMs - monotonicMs()))
    this.#patience = setTimeout(() => this.failLate('There was no room behind live traffic'), leftMs)
    engine.bulk.offer(this)
  }

  /** False when the window is bad, which ends the request. */
  #submitTo(stream: Stream): boolean {
    const { windows, count } = this.#request!
    const index = this.#submitted
    const fault = codec.readWindow(windowAt(windows, index), stream.ring.nextSlot!)
    if (fault !== null) {
      this.fail(badWindow(fault, index, count).failure)
      return false
    }
    this.#inFlight[index] = this.context.engine.submit(stream, this.times, {
      origin: windowOf(this, index),
      settle: (outcome, slot) => this.#settle(index, outcome, slot),
    })
    this.#submitted++
    return true
  }

  #settle(index: number, outcome: Outcome, slot: Slot): void {
    this.#inFlight[index] = null
    if (outcome === 'deadline_exceeded') return this.failLate('There is no result')
    if (outcome !== 'ok') return this.fail(lostFailure())
    const { count } = this.#request!
    this.#results ??= new Float32Array(count * slot.output.length)
    this.#results.set(slot.output, index * slot.output.length)
    this.#sources.add(this.context.provenance.of(slot))
    this.#versions.add(this.context.modelVersion.of(slot))
    this.#settled++
    if (this.#settled === count) this.#reply(this.#request!, this.#results, slot)
  }

  /** @param last where the last result was: the request waited for it, so its times are the request's */
  #reply(request: DecodedRequest, results: Float32Array, last: Slot): void {
    clearTimeout(this.#patience)
    const { modelName, statistics } = this.context
    const startedMs = monotonicMs()
    const provenance = provenanceOfAll(this.#sources)
    const head = {
      model_name: modelName,
      model_version: [...this.#versions].join(', '),
      id: request.id,
      parameters: { inference_backend: provenance['X-Inference-Backend'].replace(', ', ',') },
    }
    const { body, jsonBytes } = encodeResponse(head, request, results)
    const headers: Record<string, string> =
      jsonBytes === null
        ? { ...provenance, 'Content-Type': 'application/json' }
        : {
            ...provenance,
            'Content-Type': 'application/octet-stream',
            'Inference-Header-Content-Length': String(jsonBytes),
          }
    const encode = monotonicMs() - startedMs
    this.answer({ status: 200, headers, body }, last)
    statistics.succeeded({
      total: this.spentMs,
      decode: this.#decodeMs,
      queue: last.queueWaitMs,
      infer: last.inferenceMs,
      encode,
    })
  }

  /** Nothing of this request shall be inferred any more. */
  #giveUp(): void {
    clearTimeout(this.#patience)
    this.context.engine.bulk.withdraw(this)
    for (const inFlight of this.#inFlight) inFlight?.cancel()
    this.#inFlight = []
  }
}

function bodyTooLarge(bytes: number): Failure {
  return {
    code: 'body_too_large',
    detail: `The body has ${bytes} bytes or more, expected at most ${MAX_BODY_BYTES}`,
  }
}
