import type { HttpRequest, HttpResponse } from 'uWebSockets.js'
import { monotonicMs } from '../clock.ts'
import type { BackendKind } from '../core/backend.ts'
import type { Slot } from '../core/slot.ts'
import { WINDOW_BYTES } from '../core/window.ts'
import type { Engine, Refused } from '../engine/engine.ts'
import type { BeginTrace, Origin, Trace, Witness } from '../engine/observer.ts'
import type { WindowTimes } from '../engine/stream.ts'
import type { Model } from '../model.ts'
import type { Source, Told } from '../served-models.ts'
import type { Access } from './access.ts'
import { Body, type BodyReader } from './body.ts'
import { callerOf, credentialsOf } from './caller.ts'
import type { AnswerGate } from './gate.ts'
import type { Allowance, RateLimits } from './rate-limit.ts'
import {
  type Answer,
  errorAnswer,
  type Failure,
  FORBIDDEN,
  lengthOf,
  linesOf,
  overloadedBody,
  REPLY,
  retryAfter,
  send,
  sendPrepared,
  wantsProblem,
} from './reply.ts'
import { isEchoable, requestIdOf } from './request-id.ts'
import type { FrontDoorMetrics } from './service.ts'
import type { EventLoopTurn } from './turn.ts'

/** Headers that tell what gave a result. */
export interface Provenance {
  readonly 'X-Inference-Backend': BackendKind
  /** 12 hex digits, or "stub". */
  readonly 'X-Model-Sha256': string
}

export interface InferenceContext {
  readonly engine: Engine
  readonly access: Access
  /** Null: every client may send as much as it likes. */
  readonly limits: RateLimits | null
  readonly provenance: Told<Provenance>
  readonly resultHeads: Told<Record<ResultType, string>>
  readonly overloadedHead: Told<string>
  /** What is told to answer where there is no result. */
  readonly withoutResult: () => Source
  readonly configVersion: string
  readonly deadlineMs: number
  readonly maxDeadlineMs: number
  readonly maxWindowsPerRequest: number
  /** Of one result, float32[64 + motifs]. */
  readonly resultBytes: number
  /** Requests of several windows that are being answered. */
  readonly uploads: Set<{ readonly bytes: number; drain(): void }>
  readonly metrics: FrontDoorMetrics
  readonly witness: Witness
  /** Null: nobody traces, and traceparent is not even read. */
  readonly beginTrace: BeginTrace | null
  readonly turn: EventLoopTurn
  readonly gate: AnswerGate
}

/** So long an answer waits for the rest of the body, where the client wants its connection closed. */
const READ_ON_MS = 2000

/** One request for inference, from its head to its answer: what all routes that infer have in common. */
export abstract class Exchange implements BodyReader, Origin {
  protected readonly response: HttpResponse
  protected readonly context: InferenceContext
  /** From the first byte of the request on, monotonic ms. */
  readonly arrivedMs: number
  readonly endpoint: string
  readonly requestId: string
  readonly stream = 0
  readonly sequence: number = 0
  readonly trace: Trace | null
  /** Of the body; 0 when it is chunked. */
  protected readonly declaredBytes: number
  protected readonly contentType: string
  protected readonly accept: string
  /** The client's own; empty when it sent none, or none that can be echoed. */
  readonly #correlationId: string
  /** Empty when no page asks. */
  readonly #origin: string
  protected deadlineMs: number
  /** The client has said when its answer stops being useful. */
  protected namesDeadline = false
  /** Null when there is no limit. */
  #allowance: Allowance | null = null
  /** Windows that were taken from the allowance for what the head told. */
  #taken = 1
  /** Windows that the body has brought. */
  protected broughtWindows = 1
  #body: Body | null = null
  /** Runs while a body that comes in parts is not complete. */
  #slowBody: NodeJS.Timeout | undefined
  /** The client asked for its connection to be closed behind the answer. Not known of a single window, which mostly comes whole. */
  #closes = false
  /** Answered, or the client is gone. */
  #over = false
  /** The client is gone: the response must not be touched any more. */
  #gone = false

  /** @param endpoint the route's pattern, for the metrics: never what the client wrote */
  constructor(response: HttpResponse, request: HttpRequest, endpoint: string, context: InferenceContext) {
    this.response = response
    this.context = context
    this.endpoint = endpoint
    this.arrivedMs = context.turn.arrivedMs()
    // The request can be read only now: uWebSockets takes it back when the handler returns.
    this.contentType = request.getHeader('content-type')
    this.accept = request.getHeader('accept')
    this.declaredBytes = Number(request.getHeader('content-length'))
    this.requestId = requestIdOf(request.getHeader('x-request-id'))
    this.trace = context.beginTrace?.(request.getHeader('traceparent')) ?? null
    const correlationId = request.getHeader('x-correlation-id')
    this.#correlationId = isEchoable(correlationId) ? correlationId : ''
    this.#origin =
      context.access.usesCors || !isPreflighted(this.contentType) ? request.getHeader('origin') : ''
    this.deadlineMs = this.arrivedMs + context.deadlineMs
    response.onAborted(() => {
      this.#over = this.#gone = true
      clearTimeout(this.#slowBody)
      this.onGone()
      this.#giveBackUnused()
    })
  }

  /** The client has gone without its answer: what waits for it is to be cancelled. */
  protected abstract onGone(): void

  get over(): boolean {
    return this.#over
  }

  /** Of its windows. */
  protected get times(): WindowTimes {
    return { arrivedMs: this.arrivedMs, deadlineMs: this.deadlineMs }
  }

  /** From the first byte of the request to now. */
  get spentMs(): number {
    return monotonicMs() - this.arrivedMs
  }

  /**
   * What can be refused before the body is read: a page of another origin, a missing key, too many windows, a closed engine, a wrong deadline.
   * @param windows that the body will bring, as far as its head tells
   */
  protected checkHead(request: HttpRequest, windows = 1): Failure | null {
    const { access, engine, limits } = this.context
    if (this.#origin !== '' && !access.admits(this.#origin, request.getHeader('host'))) return FORBIDDEN
    if (access.needsKey || limits !== null) {
      const { context, response } = this
      const { allowance, refusal } = callerOf(request, response, credentialsOf(request), windows, context)
      if (refusal !== null) return refusal
      this.#allowance = allowance
      this.#taken = windows
    }
    const refused = engine.refuseAll()
    if (refused !== null) return refusedFailure(refused)
    const deadline = request.getHeader('x-deadline-ms')
    return deadline === '' ? null : this.setDeadline('X-Deadline-Ms', Number(deadline))
  }

  /** @param name what the client calls it @param milliseconds from the first byte of the request, whatever was sent */
  protected setDeadline(name: string, milliseconds: number): Failure | null {
    const { deadlineMs, maxDeadlineMs } = this.context
    if (!(milliseconds > 0)) {
      return {
        code: 'invalid_request',
        detail: `Cannot read ${name}, expected a number of milliseconds above 0, for example ${deadlineMs}`,
      }
    }
    this.deadlineMs = this.arrivedMs + Math.min(milliseconds, maxDeadlineMs)
    this.namesDeadline = true
    return null
  }

  /**
   * Takes windows that the body brought beyond what its head had told from the client's rate.
   * @returns 0, or the ms after which it can be tried again: they are refused
   */
  protected takeFurther(windows: number): number {
    if (windows === 0 || this.#allowance === null) return 0
    const waitMs = this.#allowance.takeFurther(windows)
    if (waitMs > 0) this.context.metrics.refused('rate_limited', 'rate_limited')
    return waitMs
  }

  /** What a head has told of and its body has not brought is not owed. One window is: the request itself. */
  #giveBackUnused(): void {
    const unused = this.#taken - Math.max(1, this.broughtWindows)
    if (unused <= 0) return
    this.#taken -= unused
    this.#allowance?.giveBack(unused)
  }

  /** Refuses what checkHead() found, in the request's own handler. */
  protected failHead(failure: Failure, request: HttpRequest): void {
    this.#closes = closesConnection(request)
    this.fail(failure)
  }

  /** Collects the body, up to `limitBytes`; one that is not complete by the deadline is answered then. */
  protected collectBody(limitBytes: number, request: HttpRequest): void {
    this.#closes = this.declaredBytes !== WINDOW_BYTES && closesConnection(request)
    this.#body = new Body(this.response, limitBytes, this, this.context.gate)
  }

  onBody(body: Uint8Array): void {
    clearTimeout(this.#slowBody)
    if (this.#over) return
    const nowMs = monotonicMs()
    if (nowMs > this.deadlineMs) this.failLate('The body came too late')
    else this.onWhole(body, nowMs)
  }

  onPart(): void {
    if (this.#over) return
    const leftMs = Math.max(0, Math.ceil(this.deadlineMs - monotonicMs()))
    this.#slowBody ??= setTimeout(() => {
      if (this.onLate(this.#body!)) return
      this.#body!.drop()
      this.failLate('The body is not complete')
    }, leftMs)
  }

  onTooLarge(receivedBytes: number): void {
    clearTimeout(this.#slowBody)
    if (!this.#over) this.onLonger(receivedBytes, this.#body!)
  }

  /** The whole body is there, for the length of the call only. @param nowMs monotonic ms */
  protected abstract onWhole(body: Uint8Array, nowMs: number): void

  /** More than the limit has come. The rest is thrown away, unless it is passed on. */
  protected abstract onLonger(receivedBytes: number, body: Body): void

  /** The deadline has passed before the body was complete. Whether it is taken part by part from here on. */
  protected onLate(_body: Body): boolean {
    return false
  }

  failLate(what: string): void {
    const allowedMs = (this.deadlineMs - this.arrivedMs).toFixed(1)
    this.fail({
      code: 'deadline_exceeded',
      detail: `${what} after ${this.spentMs.toFixed(1)} ms, expected within the deadline of ${allowedMs} ms`,
    })
  }

  /** @param counted what failed has been counted before */
  fail(failure: Failure, counted = false): void {
    if (this.#over) return
    if (!counted) this.context.witness.windowFailed(failure.code, this)
    // All of its time was waiting: there is no result that the model gave.
    const timing = { 'Server-Timing': serverTiming(this.spentMs, 0) }
    this.answer(this.failureAnswer({ ...failure, headers: { ...failure.headers, ...timing } }))
  }

  /**
   * The engine does not take the window. Under overload most answers are this one, and what they cost is missing to
   * those who are admitted: its parts were made before. Says the same as fail().
   */
  protected refuse(refused: Refused): void {
    const { witness, overloadedHead, withoutResult } = this.context
    if (this.#over) return
    if (refused.code !== 'overloaded' || this.#isUnusual || wantsProblem(this.accept)) {
      return this.fail(refusedFailure(refused))
    }
    witness.windowFailed(refused.code, this)
    this.#end(REPLY.overloaded.http)
    const head = `${this.#headFrom(overloadedHead.of(withoutResult()), this.spentMs, 0)}\r\nRetry-After: ${retryAfter(refused.retryAfterMs)}`
    const body = overloadedBody(refused.detail, this.requestId)
    this.#pass(body.length, () => sendPrepared(this.response, head, body))
  }

  /** How this route tells what went wrong. */
  protected failureAnswer(failure: Failure): Answer {
    return errorAnswer(failure, {
      requestId: this.requestId,
      accept: this.accept,
      modelAvailable: this.context.engine.available,
    })
  }

  /** @param slot where the last result was, which tells what gave it and how long that took; null without one result */
  answer({ status, headers, body, close = false }: Answer, slot: Slot | null = null): void {
    if (!this.#end(status)) return
    const { engine } = this.context
    const answer = {
      status,
      headers: { ...this.#commonHeaders(slot), ...headers },
      body,
      close: close || engine.draining,
    }
    this.#pass(lengthOf(body), () => send(this.response, answer, () => this.#gone))
  }

  /**
   * Sends as soon as that can be done. Behind the answer to a client that asked for it uWebSockets closes the connection
   * at once, and one that still sends is reset: it may never read why. So what it sends is read first, and thrown away.
   * @param bytes of the answer's body
   */
  #pass(bytes: number, send: () => void): void {
    const { gate } = this.context
    const pass = () => {
      clearTimeout(this.#slowBody)
      gate.pass(bytes, () => {
        if (!this.#gone) send()
      })
    }
    if (!this.#closes) return pass()
    // Without one this is the handler of the head, where a body can still be asked for.
    this.#body ??= new Body(this.response, -1, this, gate)
    if (this.#body.isComplete) return pass()
    this.#slowBody = setTimeout(pass, READ_ON_MS)
    this.#body.onComplete(pass)
  }

  /** A window's result: what most answers are, so its head is put together from what was made before. */
  protected answerResult(contentType: ResultType, body: string | Uint8Array, slot: Slot): void {
    const { gate, resultHeads } = this.context
    if (gate.isShut || this.#isUnusual) {
      const kept = typeof body === 'string' ? body : body.slice()
      return this.answer({ status: 200, headers: { 'Content-Type': contentType }, body: kept }, slot)
    }
    if (!this.#end(200)) return
    const start = resultHeads.of(slot)[contentType]
    sendPrepared(this.response, this.#headFrom(start, slot.queueWaitMs, slot.inferenceMs), body)
  }

  /** The answer closes its connection, or has headers that depend on who asks. */
  get #isUnusual(): boolean {
    return this.context.engine.draining || this.context.access.usesCors
  }

  /** @param start what was made before, see headStart() */
  #headFrom(start: string, queueMs: number, inferMs: number): string {
    const correlation = this.#correlationId === '' ? '' : `\r\nX-Correlation-ID: ${this.#correlationId}`
    return `${start}${this.requestId}\r\nServer-Timing: ${serverTiming(queueMs, inferMs)}${correlation}`
  }

  /** Nothing more will be answered. False when that was so before. */
  #end(status: number): boolean {
    if (this.#over) return false
    this.#over = true
    clearTimeout(this.#slowBody)
    this.#giveBackUnused()
    this.context.metrics.answered('POST', this.endpoint, status, this.spentMs / 1000)
    return true
  }

  /** What every answer of this route carries, whatever the outcome. */
  #commonHeaders(slot: Slot | null): Record<string, string> {
    const { access, provenance, withoutResult, configVersion } = this.context
    const headers: Record<string, string> = {
      'X-Request-ID': this.requestId,
      ...provenance.of(slot ?? withoutResult()),
      'X-Config-Version': configVersion,
    }
    if (this.#correlationId !== '') headers['X-Correlation-ID'] = this.#correlationId
    if (access.usesCors) Object.assign(headers, access.corsHeaders(this.#origin))
    if (slot !== null) headers['Server-Timing'] = serverTiming(slot.queueWaitMs, slot.inferenceMs)
    return headers
  }
}

/** What a result is told in. */
export const RESULT_TYPES = ['application/octet-stream', 'application/json'] as const
export type ResultType = (typeof RESULT_TYPES)[number]

/** Whether browsers ask before a page of another origin sends this: then nobody else needs to look where it comes from. */
function isPreflighted(contentType: string): boolean {
  return contentType.startsWith('application/octet-stream') || contentType.startsWith('application/json')
}

/** As uWebSockets reads it. */
export function closesConnection(request: HttpRequest): boolean {
  return request.getHeader('connection').length === 'close'.length
}

export function provenanceOf({ sha256 }: Model, backend: BackendKind): Provenance {
  return { 'X-Inference-Backend': backend, 'X-Model-Sha256': sha256.slice(0, 12) }
}

/** Names all that gave a part of one answer: one that holds results of two says so. */
export function provenanceOfAll(sources: Iterable<Provenance>): Record<keyof Provenance, string> {
  const all = (header: keyof Provenance) =>
    [...new Set(Array.from(sources, source => source[header]))].join(', ')
  return { 'X-Inference-Backend': all('X-Inference-Backend'), 'X-Model-Sha256': all('X-Model-Sha256') }
}

export function resultHeads(provenance: Provenance, configVersion: string): Record<ResultType, string> {
  const headOf = (type: ResultType) => headStart('200 OK', type, provenance, configVersion)
  return Object.fromEntries(RESULT_TYPES.map(type => [type, headOf(type)])) as Record<ResultType, string>
}

export function overloadedHead(provenance: Provenance, configVersion: string): string {
  return headStart(
    `${REPLY.overloaded.http} Too Many Requests`,
    'application/json',
    provenance,
    configVersion,
  )
}

/** A head up to where its request's own id goes, made once for all. */
function headStart(status: string, type: ResultType, provenance: Provenance, configVersion: string): string {
  const headers = { ...provenance, 'X-Config-Version': configVersion, 'Content-Type': type }
  return `${status}${linesOf(headers)}\r\nX-Request-ID: `
}

export function serverTiming(queueMs: number, inferMs: number): string {
  return `queue;dur=${inMicroseconds(queueMs)}, infer;dur=${inMicroseconds(inferMs)}`
}

const THOUSANDTHS = Array.from({ length: 1000 }, (_, index) => String(index).padStart(3, '0'))

/** Milliseconds with three decimals. toFixed() takes longer than all the rest of a head. */
function inMicroseconds(milliseconds: number): string {
  const microseconds = Math.round(milliseconds * 1000)
  return `${Math.floor(microseconds / 1000)}.${THOUSANDTHS[microseconds % 1000] ?? '000'}`
}

export function refusedFailure({ code, detail, retryAfterMs }: Refused): Failure {
  return { code, detail, headers: { 'Retry-After': retryAfter(retryAfterMs) } }
}

/** What a window without a result is told of it. */
export function lostFailure(): Failure {
  return {
    code: 'model_unavailable',
    detail: 'The worker that had this window was lost, or the model gave no usable result for it',
    headers: { 'Retry-After': '1' },
  }
}
