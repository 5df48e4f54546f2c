import { setTimeout as sleep } from 'node:timers/promises'
import {
  DiagLogLevel,
  diag,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  type SpanOptions,
  TraceFlags,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { type ExportResult, ExportResultCode, setGlobalErrorHandler } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources'
import {
  AlwaysOnSampler,
  BasicTracerProvider,
  BatchSpanProcessor,
  type IdGenerator,
  RandomIdGenerator,
  type ReadableSpan,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-base'
import type { TracingConfig } from '../config.ts'
import type { Trace } from '../engine/observer.ts'
import type { Logger } from '../log.ts'
import { Complaints } from './complaints.ts'

/** Spans that wait for the collector, those on their way included: some 2 KB each. */
const MAX_WAITING_SPANS = 2048
const MAX_SPANS_PER_EXPORT = 512
const EXPORT_INTERVAL_MS = 1000
/** Of one export, all tries together. */
const EXPORT_TIMEOUT_MS = 3000
/** Of the processor, which only gives up waiting: longer, or it would begin a second export beside the first. */
const GIVE_UP_AFTER_MS = 2 * EXPORT_TIMEOUT_MS
const MAX_ATTRIBUTE_CHARACTERS = 256

/** Counts what became of spans. */
export interface SpanTally {
  traceSpans(result: 'exported' | 'dropped', count: number): void
}

export interface PipelineOptions {
  readonly config: TracingConfig
  readonly version: string
  readonly tally: SpanTally
  readonly log: Logger
}

/**
 * OpenTelemetry's SDK, told everything: what it reads of the environment itself is overruled by what it is given here.
 * Bounded in memory; spans that find no room are to be dropped before they are made.
 */
export class SpanPipeline {
  readonly tracer: Tracer
  readonly #ids = new Ids()
  readonly #provider: BasicTracerProvider
  #waiting = 0

  constructor({ config, version, tally, log }: PipelineOptions) {
    const complaints = new Complaints(log)
    tellComplaints(complaints)
    const exporter = new CountedExporter(
      new OTLPTraceExporter({
        url: config.url,
        headers: { ...config.headers },
        timeoutMillis: EXPORT_TIMEOUT_MS,
        // At the end all that waits goes out at once.
        concurrencyLimit: MAX_WAITING_SPANS / MAX_SPANS_PER_EXPORT + 1,
      }),
      (count, error) => {
        this.#waiting -= count
        tally.traceSpans(error === null ? 'exported' : 'dropped', count)
        if (error === null) complaints.over()
        else complaints.tell(error)
      },
    )
    this.#provider = new BasicTracerProvider({
      sampler: new AlwaysOnSampler(), // what is not to be sampled does not come here
      idGenerator: this.#ids,
      resource: defaultResource().merge(
        resourceFromAttributes({ 'service.name': config.serviceName, 'service.version': version }),
      ),
      spanLimits: { attributeValueLengthLimit: MAX_ATTRIBUTE_CHARACTERS },
      spanProcessors: [
        new BatchSpanProcessor(exporter, {
          maxQueueSize: MAX_WAITING_SPANS,
          maxExportBatchSize: MAX_SPANS_PER_EXPORT,
          scheduledDelayMillis: EXPORT_INTERVAL_MS,
          exportTimeoutMillis: GIVE_UP_AFTER_MS,
        }),
      ],
    })
    this.tracer = this.#provider.getTracer('hailo-inference', version)
  }

  /** Of a trace that begins here. */
  newTraceId(): string {
    return this.#ids.newTraceId()
  }

  /** What a client got; below its caller's span, if there is one. */
  startServer(name: string, options: Omit<SpanOptions, 'kind'>, { id, parentSpanId }: Trace): Span {
    this.#ids.traceId = id
    const caller = { traceId: id, spanId: parentSpanId, traceFlags: TraceFlags.SAMPLED, isRemote: true }
    const context = parentSpanId === '' ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, caller)
    return this.tracer.startSpan(name, { ...options, kind: SpanKind.SERVER }, context)
  }

  hasRoomFor(spans: number): boolean {
    return this.#waiting + spans <= MAX_WAITING_SPANS
  }

  /** So many spans will be made now. */
  take(spans: number): void {
    this.#waiting += spans
  }

  async flush(timeoutMs: number): Promise<void> {
    const flushed = this.#provider.forceFlush().catch(() => {}) // it has been counted and told
    await Promise.race([flushed, sleep(timeoutMs)])
  }
}

/** Spans that begin a trace begin the one that their request was given. */
class Ids implements IdGenerator {
  readonly #random = new RandomIdGenerator()
  traceId = ''

  newTraceId(): string {
    return this.#random.generateTraceId()
  }

  generateTraceId(): string {
    return this.traceId
  }

  generateSpanId(): string {
    return this.#random.generateSpanId()
  }
}

/** Tells how each export ended. */
class CountedExporter implements SpanExporter {
  readonly #exporter: SpanExporter
  readonly #ended: (count: number, error: Error | null) => void

  constructor(exporter: SpanExporter, ended: (count: number, error: Error | null) => void) {
    this.#exporter = exporter
    this.#ended = ended
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#exporter.export(spans, result => {
      const failed = result.code !== ExportResultCode.SUCCESS
      this.#ended(spans.length, failed ? (result.error ?? new Error('no reason given')) : null)
      done(result)
    })
  }

  shutdown(): Promise<void> {
    return this.#exporter.shutdown()
  }
}

/** What the SDK says of itself goes to the log. How exports fail is told once, by who counts them. */
function tellComplaints(complaints: Complaints): void {
  const warn = (...words: unknown[]) => complaints.warn(words.map(String).join(' '))
  const ignore = () => {}
  diag.setLogger(
    { error: warn, warn, info: ignore, debug: ignore, verbose: ignore },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  )
  setGlobalErrorHandler(ignore)
}
