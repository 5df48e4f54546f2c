import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { parseTraceParent } from '@opentelemetry/core'
import { monotonicMs } from '../clock.ts'
import type { TracingConfig } from '../config.ts'
import type { BackendKind } from '../core/backend.ts'
import type { Slot } from '../core/slot.ts'
import type { Origin, Witness } from '../engine/observer.ts'
import type { InFlight } from '../engine/stream.ts'
import type { Logger } from '../log.ts'
import { SpanPipeline, type SpanTally } from './span-pipeline.ts'
import { wallClock } from './wall-clock.ts'

/** A trace takes the main thread up to 0.2 ms, its export included: so many in a second, and no flood gets more. */
const MAX_TRACES_PER_SECOND = 100
/** The server's span, and one for each stage. */
const SPANS_PER_WINDOW = 6

export interface TracingOptions {
  readonly config: TracingConfig
  readonly configVersion: string
  /** Of the package. */
  readonly version: string
  /** 12 hex digits, or "stub". */
  readonly modelSha256: Readonly<Record<BackendKind, string>>
  /** What each error code is over HTTP. */
  readonly httpStatus: Readonly<Record<string, { readonly http: number }>>
  readonly tally: SpanTally
  readonly log: Logger
}

/** Makes the spans of what clients got, after the fact, of the times that are measured anyway. */
export class Tracing implements Witness {
  readonly #options: TracingOptions
  readonly #pipeline: SpanPipeline
  readonly #tracer: Tracer
  #secondEndsMs = 0
  #tracesThisSecond = 0

  constructor(options: TracingOptions) {
    this.#options = options
    this.#pipeline = new SpanPipeline(options)
    this.#tracer = this.#pipeline.tracer
  }

  windowAnswered(window: InFlight, slot: Slot, settledMs: number, answeredMs: number): void {
    const origin = window.waiter.origin!
    const parent = this.#parentOf(origin, SPANS_PER_WINDOW)
    if (parent === null) return
    const at = wallClock()
    const attributes = {
      ...this.#attributesOf(origin, 200),
      'hailo.backend': slot.backend,
      'hailo.model_sha256': this.#options.modelSha256[slot.backend],
    }
    const server = { kind: SpanKind.SERVER, startTime: at(window.arrivedMs), attributes }
    const span = this.#tracer.startSpan(origin.endpoint, server, parent)

    const context = trace.setSpan(parent, span)
    const takenMs = slot.publishedMs + slot.queueWaitMs
    let fromMs = window.arrivedMs
    const stage = (name: string, endMs: number) => {
      // float32 of the slot's times: a stage may seem to end a little before it began, or behind the whole.
      const untilMs = Math.min(Math.max(fromMs, endMs), answeredMs)
      this.#tracer.startSpan(name, { startTime: at(fromMs) }, context).end(at(untilMs))
      fromMs = untilMs
    }
    stage('admit', slot.publishedMs)
    stage('queue', takenMs)
    stage('infer', takenMs + slot.inferenceMs)
    stage('settle', settledMs)
    stage('encode', answeredMs)
    span.end(at(answeredMs))
  }

  windowFailed(code: string, origin: Origin): void {
    const parent = this.#parentOf(origin, 1)
    if (parent === null) return
    const at = wallClock()
    const attributes = {
      ...this.#attributesOf(origin, this.#options.httpStatus[code]?.http),
      'error.type': code,
    }
    const server = { kind: SpanKind.SERVER, startTime: at(origin.arrivedMs), attributes }
    const span = this.#tracer.startSpan(origin.endpoint, server, parent)
    span.setStatus({ code: SpanStatusCode.ERROR })
    span.end(at(monotonicMs()))
  }

  /** Sends what waits, as far as that takes no longer than `timeoutMs`. */
  flush(timeoutMs: number): Promise<void> {
    return this.#pipeline.flush(timeoutMs)
  }

  /**
   * What the spans of a request hang below; null when it is not to be traced. Its caller decides, and where there is
   * none that says so, chance.
   * @param spans so many would be made
   */
  #parentOf({ traceparent }: Origin, spans: number): Context | null {
    const { config, tally } = this.#options
    const caller = traceparent === '' ? null : parseTraceParent(traceparent)
    const isSampled =
      caller === null
        ? Math.random() < config.sampleRatio
        : (caller.traceFlags & TraceFlags.SAMPLED) === TraceFlags.SAMPLED
    if (!isSampled) return null
    if (!this.#pipeline.hasRoomFor(spans) || this.#isFlood()) {
      tally.traceSpans('dropped', spans)
      return null
    }
    this.#pipeline.take(spans)
    return caller === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, { ...caller, isRemote: true })
  }

  #isFlood(): boolean {
    const nowMs = monotonicMs()
    if (nowMs >= this.#secondEndsMs) {
      this.#secondEndsMs = nowMs + 1000
      this.#tracesThisSecond = 0
    }
    return ++this.#tracesThisSecond > MAX_TRACES_PER_SECOND
  }

  /** @param status over HTTP; frames of /stream have none */
  #attributesOf({ endpoint, requestId, stream, sequence }: Origin, status: number | undefined): Attributes {
    return {
      'http.route': endpoint,
      ...(stream === 0 && status !== undefined && { 'http.response.status_code': status }),
      'hailo.request_id': requestId,
      ...(stream > 0 && { 'hailo.stream': stream }),
      'hailo.sequence': sequence,
      'hailo.config_version': this.#options.configVersion,
    }
  }
}
