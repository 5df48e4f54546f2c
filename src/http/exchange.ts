import type { HttpRequest, HttpResponse } from 'uWebSockets.js'
import { monotonicMs } from '../clock.ts'
import type { BackendKind } from '../core/backend.ts'
import type { Slot } from '../core/slot.ts'
import type { Engine, Refused } from '../engine/engine.ts'
import type { Access } from './access.ts'
import { Body, type BodyReader } from './body.ts'
import type { AnswerGate } from './gate.ts'
import { type Answer, errorAnswer, type Failure, retryAfter, send, UNAUTHORIZED } from './reply.ts'
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
  readonly provenance: Record<BackendKind, Provenance>
  /** What is told where there is no result. */
  readonly primary: BackendKind
  readonly configVersion: string
  readonly deadlineMs: number
  readonly maxDeadlineMs: number
  readonly maxWindowsPerRequest: number
  /** Of one result, float32[64 + motifs]. */
  readonly resultBytes: number
  /** Requests of several windows that are being answered. */
  readonly uploads: Set<{ readonly bytes: number; drain(): void }>
  readonly metrics: FrontDoorMetrics
  readonly turn: EventLoopTurn
  readonly gate: AnswerGate
}

export interface CollectedReader extends Omit<BodyReader, 'onPart'> {
  /** The deadline has passed before the body was complete. Whether it is taken part by part from here on. */
  onLate?(body: Body): boolean
}

/** One request for inference, from its head to its answer: what all routes that infer have in common. */
export abstract class Exchange {
  protected readonly response: HttpResponse
  protected readonly context: InferenceContext
  /** From the first byte of the request on, monotonic ms. */
  protected readonly arrivedMs: number
  protected readonly contentType: string
  protected readonly accept: string
  protected readonly requestId: string
  protected deadlineMs: number
  /** The client has said when its answer stops being useful. */
  protected namesDeadline = false
  readonly #endpoint: string
  readonly #headers: Record<string, string>
  /** Runs while a body that comes in parts is not complete. */
  #slowBody: NodeJS.Timeout | undefined
  /** Answered, or the client is gone. */
  #over = false
  /** The client is gone: the response must not be touched any more. */
  #gone = false

  /** @param endpoint the route's pattern, for the metrics: never what the client wrote */
  constructor(response: HttpResponse, request: HttpRequest, endpoint: string, context: InferenceContext) {
    this.response = response
    this.context = context
    this.#endpoint = endpoint
    this.arrivedMs = context.turn.arrivedMs()
    // The request can be read only now: uWebSockets takes it back when the handler returns.
    this.contentType = request.getHeader('content-type')
    this.accept = request.getHeader('accept')
    this.requestId = requestIdOf(request.getHeader('x-request-id'))
    this.#headers = this.#commonHeaders(request)
    this.deadlineMs = this.arrivedMs + context.deadlineMs
    response.onAborted(() => {
      this.#over = this.#gone = true
      clearTimeout(this.#slowBody)
      this.onGone()
    })
  }

  /** The client has gone without its answer: what waits for it is to be cancelled. */
  protected abstract onGone(): void

  get over(): boolean {
    return this.#over
  }

  /** From the first byte of the request to now. */
  get spentMs(): number {
    return monotonicMs() - this.arrivedMs
  }

  /** What can be refused before the body is read: a missing key, a closed engine, a wrong deadline. */
  protected checkHead(request: HttpRequest): Failure | null {
    const { access, engine } = this.context
    if (access.needsKey) {
      const credentials = {
        apiKey: request.getHeader('x-api-key'),
        authorization: request.getHeader('authorization'),
      }
      if (!access.allows(credentials)) return UNAUTHORIZED
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

  /** Collects the body; one that is not complete by the deadline is answered then. */
  protected collectBody(limitBytes: number, reader: CollectedReader): Body {
    const body = new Body(this.response, limitBytes, {
      onBody: body => {
        clearTimeout(this.#slowBody)
        if (this.#over) return
        if (monotonicMs() > this.deadlineMs) this.failLate('The body came too late')
        else reader.onBody(body)
      },
      onPart: () => {
        const leftMs = Math.max(0, Math.ceil(this.deadlineMs - monotonicMs()))
        this.#slowBody ??= setTimeout(() => {
          if (reader.onLate?.(body)) return
          body.drop()
          this.failLate('The body is not complete')
        }, leftMs)
      },
      onTooLarge: (...received) => {
        clearTimeout(this.#slowBody)
        if (!this.#over) reader.onTooLarge(...received)
      },
    })
    return body
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
    if (!counted) this.context.metrics.failed(failure.code)
    // All of its time was waiting: there is no result that the model gave.
    const timing = { 'Server-Timing': serverTiming(this.spentMs, 0) }
    this.answer(this.failureAnswer({ ...failure, headers: { ...failure.headers, ...timing } }))
  }

  /** How this route tells what went wrong. */
  protected failureAnswer(failure: Failure): Answer {
    return errorAnswer(failure, {
      requestId: this.requestId,
      accept: this.accept,
      modelAvailable: this.context.engine.available,
    })
  }

  /** @param slot where the result was, which tells what gave it and how long that took; null without one result */
  answer({ status, headers, body, close = false }: Answer, slot: Slot | null = null): void {
    if (this.#over) return
    this.#over = true
    clearTimeout(this.#slowBody)
    const { engine, metrics, gate, provenance } = this.context
    if (slot !== null) {
      Object.assign(this.#headers, provenance[slot.backend])
      this.#headers['Server-Timing'] = serverTiming(slot.queueWaitMs, slot.inferenceMs)
    }
    const answer = {
      status,
      headers: Object.assign(this.#headers, headers),
      body,
      close: close || engine.draining,
    }
    gate.pass(() => {
      if (!this.#gone) send(this.response, answer, () => this.#gone)
    })
    metrics.answered('POST', this.#endpoint, status, this.spentMs / 1000)
  }

  /** What every answer of this route carries, whatever the outcome. */
  #commonHeaders(request: HttpRequest): Record<string, string> {
    const { access, provenance, primary, configVersion } = this.context
    const headers: Record<string, string> = {
      'X-Request-ID': this.requestId,
      ...provenance[primary],
      'X-Config-Version': configVersion,
    }
    const correlationId = request.getHeader('x-correlation-id')
    if (isEchoable(correlationId)) headers['X-Correlation-ID'] = correlationId
    if (access.usesCors) Object.assign(headers, access.corsHeaders(request.getHeader('origin')))
    return headers
  }
}

export function serverTiming(queueMs: number, inferMs: number): string {
  return `queue;dur=${queueMs.toFixed(3)}, infer;dur=${inferMs.toFixed(3)}`
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
