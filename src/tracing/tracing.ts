import { type Attributes, ROOT_CONTEXT, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api'
import { parseTraceParent } from '@opentelemetry/core'
import { monotonicMs } from '../clock.ts'
import type { TracingConfig } from '../config.ts'
import type { Slot } from '../core/slot.ts'
import type { Origin, Trace, Witness } from '../engine/observer.ts'
import type { InFlight } from '../engine/stream.ts'
import type { Logger } from '../log.ts'
import { SpanPipeline, type SpanTally } from './span-pipeline.ts'
import { wallClock } from './wall-clock.ts'

/** A window's spans take the main thread up to 0.2 ms, export included: so many in a second, and no flood gets more. */
const MAX_TRACED_PER_SECOND = 100
/** The server's span, and one for each stage. */
const SPANS_PER_WINDOW = 6

export interface TracingOptions {
  readonly config: TracingConfig
  readonly configVersion: string
  /** Of the package. */
  readonly version: string
  /** Of what gave a result: 12 hex digits, or "stub". */
  readonly modelSha256: (slot: Slot) => string
  /** What each error code is over HTTP. */
  readonly httpStatus: Readonly<Record<string, { readonly http: number }>>
  readonly tally: SpanTally
  readonly log: Logger
}

/** Makes the spans of what clients got, after the fact, of the times that are measured anyway. */
export class Tracing implements Witness {
  readonly #options: TracingOptions
  readonly #pipeline: SpanPipeline
  #secondEndsMs = 0
  #tracedThisSecond = 0

  constructor(options: TracingOptions) {
    this.#options = options
    this.#pipeline = new SpanPipeline(options)
  }

  /**
   * The trace of a request: its caller's, who decides whether it is sampled; where there is none, chance decides
   * whether one begins.
   */
  begin(traceparent: string): Trace | null {
    const caller = traceparent === '' ? null : parseTraceParent(traceparent)
    if (caller !== null) {
      const sampled = (caller.traceFlags & TraceFlags.SAMPLED) === TraceFlags.SAMPLED
      return { id: caller.traceId, parentSpanId: caller.spanId, sampled }
    }
    if (Math.random() >= this.#options.config.sampleRatio) return null
    return { id: this.#pipeline.newTraceId(), parentSpanId: '', sampled: true }
  }

  windowAnswered(window: InFlight, slot: Slot, settledMs: number, answeredMs: number): void {
    const origin = window.waiter.origin!
    if (!this.#takes(origin.trace, SPANS_PER_WINDOW)) return
    const at = wallClock()
    const attributes = {
      ...this.#attributesOf(origin, 200),
      'hailo.backend': slot.backend,
      'hailo.model_sha256': this.#options.modelSha256(slot),
    }
    const options = { startTime: at(window.arrivedMs), attributes }
    const span = this.#pipeline.startServer(origin.endpoint, options, origin.trace)

    const context = trace.setSpan(ROOT_CONTEXT, span)
    const takenMs = slot.publishedMs + slot.queueWaitMs
    let fromMs = window.arrivedMs
    const stage = (name: string, endMs: number) => {
      // float32 of the slot's times: a stage may seem to end a little before it began, or behind the whole.
      const untilMs = Math.min(Math.max(fromMs, endMs), answeredMs)
      this.#pipeline.tracer.startSpan(name, { startTime: at(fromMs) }, context).end(at(untilMs))
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
    if (!this.#takes(origin.trace, 1)) return
    const at = wallClock()
    const attributes = {
      ...this.#attributesOf(origin, this.#options.httpStatus[code]?.http),
      'error.type': code,
    }
    const options = { startTime: at(origin.arrivedMs), attributes }
    const span = this.#pipeline.startServer(origin.endpoint, options, origin.trace)
    span.setStatus({ code: SpanStatusCode.ERROR })
    span.end(at(monotonicMs()))
  }

  /** Sends what waits, as far as that takes no longer than `timeoutMs`. */
  flush(timeoutMs: number): Promise<void> {
    return this.#pipeline.flush(timeoutMs)
  }

  /** False when no spans are to be made of it: it is not sampled, or there is no room. @param spans so many would be made */
  #takes(trace: Trace | null, spans: number): trace is Trace {
    if (trace === null || !trace.sampled) return false
    if (!this.#pipeline.hasRoomFor(spans) || this.#isFlood()) {
      this.#options.tally.traceSpans('dropped', spans)
      return false
    }
    this.#pipeline.take(spans)
    return true
  }

  #isFlood(): boolean {
    const nowMs = monotonicMs()
    if (nowMs >= this.#secondEndsMs) {
      this.#secondEndsMs = nowMs + 1000
      this.#tracedThisSecond = 0
    }
    return ++this.#tracedThisSecond > MAX_TRACED_PER_SECOND
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
