import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import { Counter, Gauge, type Metric, Registry } from 'prom-client'
import { monotonicMs } from './clock.ts'
import type { Config } from './config.ts'
import {
  BACKEND_FAILURES,
  BACKENDS,
  type BackendKind,
  type DeviceReport,
  perBackend,
} from './core/backend.ts'
import { BATCH_SIZE_EDGES } from './core/counters.ts'
import type { Outcome } from './core/outcome.ts'
import type { Slot } from './core/slot.ts'
import { LATENT_DIMS, SENSORS, TIMESTEPS } from './core/window.ts'
import { deviceName, type Fallback } from './engine/backend-status.ts'
import type { Engine } from './engine/engine.ts'
import {
  type DeviceChange,
  LOSS_CAUSES,
  type Observer,
  REFUSAL_REASONS,
  type RefusalCode,
  type RefusalReason,
  type Witness,
  type WorkerLoss,
} from './engine/observer.ts'
import type { InFlight } from './engine/stream.ts'
import type { Logger } from './log.ts'
import type { Model } from './model.ts'
import { CounterRow, HistogramRow, histogramOf, RowTable } from './tally.ts'
import { DROP_REASONS, KEPT_REASONS, type TelemetryCounters } from './telemetry/counters.ts'

/** Seconds. 0.045 is where EdgeInfer hangs up. */
const DURATION_EDGES = [
  0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.045, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
  10,
]
/** Seconds, of parts of a window's time: some take microseconds. */
const STAGE_EDGES = [
  0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04,
  0.045, 0.1, 0.25, 1,
]
/** What an answered window's time is spent on, in this order. */
const STAGES = ['admit', 'queue', 'infer', 'settle', 'encode'] as const
const OPERATION = 'tcn_vae_inference'
/** The second key of rows that have one label. */
const ONLY = ''
const LAG_RESOLUTION_MS = 20
const LAG_INTERVAL_MS = 10_000
/** How much one answer moves the recent latency. */
const LATENCY_WEIGHT = 0.05

/** What the gauges that never change say. */
export interface MetricFacts {
  readonly config: Config
  readonly model: Model
  /** Null: nothing answers in place of the model. */
  readonly fallback: Model | null
  /** Whether the model is the one that was expected. */
  readonly configOk: boolean
  readonly version: string
  /** Every error code there is: each has its row from the start. */
  readonly errorCodes: readonly string[]
  /** Every type of frame of `/stream`, by who sends it. */
  readonly frameTypes: { readonly in: readonly string[]; readonly out: readonly string[] }
}

/** Every metric, with its unit, labels and edges. No label takes a value that a client can choose. */
export class Metrics implements Observer, Witness {
  /** Mean time of the last answers, ms; null before the first. */
  recentLatencyMs: number | null = null
  /** Unix time, ms; 0 before the first. */
  lastInferenceMs = 0
  readonly #log: Logger
  readonly #text = new Registry()
  readonly #openMetrics = new Registry<typeof Registry.OPENMETRICS_CONTENT_TYPE>()
  readonly #lag: IntervalHistogram = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS })
  #lagSeconds = 0
  /** Of windows with a result. */
  readonly #resultRows: Readonly<Record<BackendKind, { inferences: CounterRow; durations: HistogramRow }>>
  #smallestCosine = 1

  // What is counted for every window, in rows; the rest is left to prom-client.
  readonly #stages = Object.fromEntries(
    STAGES.map(stage => [stage, new HistogramRow({ stage }, STAGE_EDGES)]),
  ) as Record<(typeof STAGES)[number], HistogramRow>
  readonly #inferences = new RowTable(
    (status, model) => new CounterRow({ operation: OPERATION, status, model }),
  )
  readonly #durations = new RowTable(
    (operation, model) => new HistogramRow({ operation, model }, DURATION_EDGES),
  )
  readonly #queueWait = new HistogramRow({}, DURATION_EDGES)
  readonly #errors = new RowTable((error_type, _) => new CounterRow({ error_type }))
  readonly #rejected = new RowTable((reason, _) => new CounterRow({ reason }))
  readonly #answers = new RowTable((method, endpoint) => new AnswerRows(method, endpoint))
  readonly #frames = new RowTable((direction, type) => new CounterRow({ direction, type }))
  readonly #cancelled = this.#counter(
    'hailo_cancelled_total',
    'Windows given up before they ended: their client went away, or another window of their request failed',
    [],
  )
  readonly #restarts = this.#counter('hailo_worker_restarts_total', 'Workers replaced, by cause', [
    'worker',
    'cause',
  ])
  readonly #fallbacks = this.#counter(
    'hailo_fallback_total',
    'How often a worker began to answer with the fallback, by what had kept the primary from it',
    ['from', 'to', 'cause'],
  )
  readonly #streaming = this.#gauge('hailo_ws_connections', 'Clients of /stream that are connected')
  readonly #healthChecks = this.#counter('hailo_health_checks_total', 'Answers of /healthz', ['status'])
  readonly #goldenCosine = this.#gauge(
    'hailo_golden_cosine',
    'Smallest cosine between the latents of this backend and those of the trained model, at start',
  )
  readonly #warmUp = this.#gauge('hailo_warmup_duration_seconds', 'Time from start to ready')
  readonly #facts: MetricFacts
  /** What each worker was last lost with, in words. */
  readonly #lastLosses = new Map<number, string>()

  constructor(facts: MetricFacts, log: Logger) {
    this.#facts = facts
    this.#log = log
    this.#openMetrics.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
    this.#lag.enable()
    setInterval(() => {
      this.#lagSeconds = Math.max(0, this.#lag.percentile(99) / 1e9 - LAG_RESOLUTION_MS / 1000)
      this.#lag.reset()
    }, LAG_INTERVAL_MS).unref()

    const { config, model, fallback, version, configOk } = facts
    this.#gauge('hailo_sidecar_start_time_seconds', 'Unix time of the start').set(Date.now() / 1000)
    this.#gauge('hailo_build_info', 'The build', ['version', 'hef_sha', 'config']).set(
      { version, hef_sha: model.sha256, config: config.configVersion },
      1,
    )
    this.#gauge('hailo_config_ok', '1 when the model is the expected one', ['expected', 'actual']).set(
      { expected: config.expectedSha256 ?? '', actual: model.sha256 },
      configOk ? 1 : 0,
    )
    // Rows that a rate() needs from the start, not from the first failure on.
    for (const { name } of this.#models) {
      for (const status of ['success', 'error', 'rejected']) {
        this.#inferences.at(status, name)
      }
      this.#durations.at(OPERATION, name)
    }
    if (fallback !== null) {
      const pair = { from: model.plan.kind, to: fallback.plan.kind }
      for (const cause of BACKEND_FAILURES) this.#fallbacks.inc({ ...pair, cause }, 0)
    }
    for (const code of facts.errorCodes) this.#errors.at(code, ONLY)
    for (const direction of ['in', 'out'] as const) {
      for (const type of facts.frameTypes[direction]) this.#frames.at(direction, type)
    }
    for (const reason of REFUSAL_REASONS) this.#rejected.at(reason, ONLY)
    for (const status of ['healthy', 'unhealthy']) this.#healthChecks.inc({ status }, 0)
    for (let worker = 0; worker < config.workers; worker++) {
      for (const cause of LOSS_CAUSES) this.#restarts.inc({ worker, cause }, 0)
    }
    this.#registerRows()
    this.#resultRows = perBackend(backend => ({
      inferences: this.#inferences.at('success', this.#nameOf(backend)),
      durations: this.#durations.at(OPERATION, this.#nameOf(backend)),
    }))
  }

  /** Each once: the fallback may be the same model. */
  get #models(): Model[] {
    const { model, fallback } = this.#facts
    return fallback === null || fallback.name === model.name ? [model] : [model, fallback]
  }

  /** Of the model that gave a result. */
  #nameOf(backend: BackendKind): string {
    const { model, fallback } = this.#facts
    return (fallback?.plan.kind === backend ? fallback : model).name
  }

  /** Adds what is read from the engine at scrape time: cursors and the workers' own counters. */
  watch(engine: Engine): void {
    const { streams } = engine
    const sum = (read: (stream: (typeof streams)[number]) => number) =>
      streams.reduce((total, stream) => total + read(stream), 0)

    this.#gauge('hailo_model_loaded', '1 while a worker has the model', ['model', 'version'], gauge => {
      const { answering } = engine.backends
      const loaded = new Set(engine.available ? answering.map(backend => this.#nameOf(backend)) : [])
      for (const { name, version } of this.#models)
        gauge.set({ model: name, version }, loaded.has(name) ? 1 : 0)
    })
    this.#gauge('hailo_model_info', 'The model', ['model', 'hef_path', 'motifs', 'device'], gauge => {
      const { config, model } = this.#facts
      const labels = { model: model.name, hef_path: model.path ?? '', motifs: config.motifCount }
      gauge.reset()
      // Without the reason when there is none: it may hold any words.
      gauge.set({ ...labels, device: deviceName(config.mode, { ...engine.backends, fault: null }) }, 1)
    })
    this.#gauge('hailo_inference_mode', '1 for each backend that answers now', ['mode'], gauge => {
      const { answering } = engine.backends
      for (const mode of BACKENDS) gauge.set({ mode }, answering.includes(mode) ? 1 : 0)
    })
    this.#deviceGauge(
      engine,
      'hailo_device_temperature_celsius',
      'Of the chip',
      device => device.temperatureCelsius,
    )
    this.#deviceGauge(
      engine,
      'hailo_device_utilization_percent',
      'Time that the device was busy',
      device => device.utilisationPercent,
    )
    this.#deviceGauge(
      engine,
      'hailo_device_clock_hertz',
      'Of the neural network core; it is lowered when the chip is hot',
      ({ clockMhz }) => clockMhz && clockMhz * 1e6,
    )
    this.#deviceGauge(
      engine,
      'hailo_device_generation',
      'How often this process has opened the device',
      device => device.generation,
    )
    this.#gauge('hailo_queue_depth', 'Windows in flight', [], gauge =>
      gauge.set(sum(({ ring }) => ring.inFlight)),
    )
    this.#gauge('hailo_queue_capacity', 'Slots in all rings', [], gauge =>
      gauge.set(sum(({ ring }) => ring.capacity)),
    )
    this.#gauge(
      'hailo_backpressure_level',
      '0 there is room, 1 a ring is more than half full, 2 windows were shed within the last second',
      [],
      gauge => gauge.set(engine.level),
    )
    this.#gauge(
      'hailo_worker_heartbeat_age_seconds',
      'Since the worker last came round',
      ['worker'],
      gauge => {
        const nowMs = monotonicMs()
        streams.forEach(({ counters }, worker) => {
          if (counters.heartbeatMs > 0) gauge.set({ worker }, (nowMs - counters.heartbeatMs) / 1000)
        })
      },
    )
    this.#gauge('hailo_event_loop_lag_seconds', 'Main thread, 99th percentile of 10 s', [], gauge =>
      gauge.set(this.#lagSeconds),
    )
    this.#derived(
      'hailo_samples_processed_total',
      'What the workers have processed, in several units',
      ['metric'],
      counter => {
        const windows = sum(({ counters }) => counters.inferred)
        counter.inc({ metric: 'samples_processed' }, windows * TIMESTEPS)
        counter.inc({ metric: 'latent_vectors' }, windows)
        counter.inc({ metric: 'motif_predictions' }, windows)
        counter.inc({ metric: 'latent_dimensions' }, windows * LATENT_DIMS)
        counter.inc({ metric: 'motif_classes' }, windows * this.#facts.config.motifCount)
      },
    )
    this.#derived(
      'hailo_input_suspect_units_total',
      'Windows whose mean is more than 6 sigma off, by sensor: mostly degrees sent for radians',
      ['sensor'],
      counter => {
        SENSORS.forEach(({ name }, sensor) => {
          counter.inc(
            { sensor: name },
            sum(({ counters }) => counters.suspect(sensor)),
          )
        })
      },
    )
    this.#derived(
      'hailo_windows_passed_over_total',
      'Windows that expired or lost their client while they waited, at no cost to the model',
      [],
      counter => counter.inc(sum(({ counters }) => counters.passedOver)),
    )
    this.#register(
      histogramOf('hailo_batch_size', 'Windows that one run of the model took', BATCH_SIZE_EDGES, () => {
        const perBucket = (bucket: number) => sum(({ counters }) => counters.batches[bucket]!)
        const counts = Float64Array.from({ length: BATCH_SIZE_EDGES.length + 1 }, (_, bucket) =>
          perBucket(bucket),
        )
        return [{ labels: {}, counts, sum: sum(({ counters }) => counters.batched) }]
      }),
    )
  }

  /** Adds what the thread of telemetry counts. Its rows are there without telemetry too: nothing was lost then. */
  watchTelemetry(counters: TelemetryCounters): void {
    this.#derived('hailo_telemetry_lines_total', 'Lines of telemetry written', [], counter =>
      counter.inc(counters.lines),
    )
    this.#derived(
      'hailo_telemetry_kept_total',
      'Windows kept with their samples, by what makes them worth a label; of several reasons each counts',
      ['reason'],
      counter => {
        for (const reason of KEPT_REASONS) counter.inc({ reason }, counters.kept(reason))
      },
    )
    this.#derived(
      'hailo_telemetry_dropped_total',
      'Lines and windows of telemetry lost: their queue was full, or the disk did not take them',
      ['reason'],
      counter => {
        for (const reason of DROP_REASONS) counter.inc({ reason }, counters.dropped(reason))
      },
    )
    this.#gauge('hailo_telemetry_disk_bytes', 'Of all files of telemetry', [], gauge =>
      gauge.set(counters.diskBytes),
    )
    this.#gauge('hailo_telemetry_disk_budget_bytes', 'What they may have; 0 without telemetry', [], gauge =>
      gauge.set(counters.budgetBytes),
    )
    this.#derived(
      'hailo_telemetry_removed_files_total',
      'Files of telemetry removed to stay within the budget',
      [],
      counter => counter.inc(counters.removedFiles),
    )
  }

  inferenceEnded(outcome: Outcome, durationMs: number, slot: Slot | null): void {
    if (slot !== null) this.#queueWait.observe(slot.queueWaitMs / 1000)
    if (outcome !== 'ok' || slot === null) {
      this.#inferences.at('error', this.#facts.model.name).count++
      return
    }
    const rows = this.#resultRows[slot.backend]
    rows.inferences.count++
    rows.durations.observe(durationMs / 1000)
    const recentMs = this.recentLatencyMs ?? durationMs
    this.recentLatencyMs = recentMs + LATENCY_WEIGHT * (durationMs - recentMs)
    this.lastInferenceMs = Date.now()
  }

  refused(_code: RefusalCode, reason: RefusalReason): void {
    this.#rejected.at(reason, ONLY).count++
    this.#inferences.at('rejected', this.#facts.model.name).count++
  }

  cancelled(): void {
    this.#cancelled.inc()
  }

  workerLost(worker: number, { cause, error, fault }: WorkerLoss): void {
    this.#restarts.inc({ worker, cause })
    const loss = { worker, cause, err: error ?? undefined, fault: fault?.cause, detail: fault?.detail }
    // A device that is not there is tried every few seconds, maybe for days: that is told once.
    const words = JSON.stringify([cause, fault])
    const again = fault !== null && this.#lastLosses.get(worker) === words
    this.#lastLosses.set(worker, words)
    if (again) this.#log.debug(loss, 'worker lost once more, starting another')
    else this.#log.error(loss, 'worker lost, starting another')
  }

  poolFailed(error: unknown): void {
    this.#log.error({ err: error }, 'a worker thread without a stream failed')
  }

  workerServing(worker: number, backend: BackendKind): void {
    this.#lastLosses.delete(worker)
    this.#log.info({ worker, backend }, 'worker serves')
  }

  fallbackStarted(worker: number, { from, to, cause, detail }: Fallback): void {
    this.#fallbacks.inc({ from, to, cause })
    this.#log.error({ worker, from, to, cause, detail }, 'fallback: another backend answers')
  }

  fallbackEnded(worker: number, { from, to, sinceMs }: Fallback): void {
    const seconds = (monotonicMs() - sinceMs) / 1000
    this.#log.info({ worker, from, to, seconds }, 'fallback over')
  }

  deviceChanged(change: DeviceChange, device: DeviceReport): void {
    const good = change === 'found' || change === 'no longer throttled'
    this.#log[good ? 'info' : 'warn']({ device }, `device ${change}`)
  }

  /** @param method one of a closed list @param endpoint the route's pattern, never what the client wrote */
  answered(method: string, endpoint: string, status: number, seconds: number): void {
    const rows = this.#answers.at(method, endpoint)
    rows.byStatus.at('', status).count++
    rows.duration.observe(seconds)
  }

  windowAnswered(window: InFlight, slot: Slot, settledMs: number, answeredMs: number): void {
    const { admit, queue, infer, settle, encode } = this.#stages
    const finishedMs = slot.publishedMs + slot.queueWaitMs + slot.inferenceMs
    admit.observe(Math.max(0, slot.publishedMs - window.arrivedMs) / 1000)
    queue.observe(slot.queueWaitMs / 1000)
    infer.observe(slot.inferenceMs / 1000)
    settle.observe(Math.max(0, settledMs - finishedMs) / 1000)
    encode.observe((answeredMs - settledMs) / 1000)
  }

  windowFailed(code: string): void {
    this.#errors.at(code, ONLY).count++
  }

  /** @param type one of a closed list */
  framed(direction: 'in' | 'out', type: string): void {
    this.#frames.at(direction, type).count++
  }

  frames(direction: 'in' | 'out', type: string): CounterRow {
    return this.#frames.at(direction, type)
  }

  streaming(connections: number): void {
    this.#streaming.set(connections)
  }

  healthChecked(healthy: boolean): void {
    this.#healthChecks.inc({ status: healthy ? 'healthy' : 'unhealthy' })
  }

  /** @param cosine the smallest of one backend; of several, the worst is told */
  goldenChecked(cosine: number): void {
    this.#smallestCosine = Math.min(this.#smallestCosine, cosine)
    this.#goldenCosine.set(this.#smallestCosine)
  }

  warmedUp(seconds: number): void {
    this.#warmUp.set(seconds)
  }

  /** @param accept decides between OpenMetrics and the older text format */
  async scrape(accept: string): Promise<{ contentType: string; text: string }> {
    const registry = accept.includes('application/openmetrics-text') ? this.#openMetrics : this.#text
    return { contentType: registry.contentType, text: await registry.metrics() }
  }

  /** A gauge that has a row while there is a device that tells the value. */
  #deviceGauge(
    engine: Engine,
    name: string,
    help: string,
    read: (device: DeviceReport) => number | null,
  ): void {
    this.#gauge(name, help, ['device_id'], gauge => {
      gauge.reset()
      const { device } = engine.backends
      const value = device && read(device)
      if (value !== null) gauge.set({ device_id: device!.id }, value)
    })
  }

  #counter<Label extends string>(name: string, help: string, labelNames: Label[]): Counter<Label> {
    const counter = new Counter({ name, help, labelNames, registers: [] })
    this.#register(counter)
    return counter
  }

  /** Names what is counted in rows. */
  #registerRows(): void {
    this.#counted(
      'hailo_inference_requests_total',
      'Windows by how they ended: success, error (admitted, no result) or rejected (not admitted). Bad windows are not among them',
      ['operation', 'status', 'model'],
      () => this.#inferences.all(),
    )
    this.#counted(
      'hailo_inference_errors_total',
      'Inference requests answered with an error, by its code; bad windows are invalid_window',
      ['error_type'],
      () => this.#errors.all(),
    )
    this.#counted('hailo_rejected_total', 'Windows not admitted, by reason', ['reason'], () =>
      this.#rejected.all(),
    )
    this.#counted(
      'hailo_http_requests_total',
      'HTTP requests answered',
      ['method', 'endpoint', 'status_code'],
      () => this.#answers.all().flatMap(({ byStatus }) => byStatus.all()),
    )
    this.#counted(
      'hailo_ws_frames_total',
      'Frames of /stream, in from clients and out to them',
      ['direction', 'type'],
      () => this.#frames.all(),
    )
    this.#histogram(
      'hailo_inference_duration_seconds',
      'From the first byte of a request to its result, for windows that got one',
      () => this.#durations.all(),
    )
    this.#register(
      histogramOf(
        'hailo_stage_duration_seconds',
        'Of answered windows: admit until published, queue until taken, infer until finished, settle until the main thread came to it, encode until the answer was made',
        STAGE_EDGES,
        () => Object.values(this.#stages),
      ),
    )
    this.#histogram('hailo_queue_wait_seconds', 'From published to taken by the worker', () => [
      this.#queueWait,
    ])
    this.#histogram('hailo_http_request_duration_seconds', 'From first byte to answer', () =>
      this.#answers.all().map(({ duration }) => duration),
    )
  }

  #counted(name: string, help: string, labelNames: string[], rows: () => CounterRow[]): void {
    this.#derived(name, help, labelNames, counter => {
      for (const { labels, count } of rows()) counter.inc({ ...labels }, count)
    })
  }

  /** A counter whose values are counted elsewhere and copied at scrape time. */
  #derived<Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    copy: (counter: Counter<Label>) => void,
  ): void {
    const counter = new Counter<Label>({
      name,
      help,
      labelNames,
      registers: [],
      collect() {
        this.reset()
        copy(this)
      },
    })
    this.#register(counter)
  }

  #gauge<Label extends string>(
    name: string,
    help: string,
    labelNames: Label[] = [],
    read?: (gauge: Gauge<Label>) => void,
  ): Gauge<Label> {
    const gauge = new Gauge<Label>({
      name,
      help,
      labelNames,
      registers: [],
      collect() {
        read?.(this)
      },
    })
    this.#register(gauge)
    return gauge
  }

  #histogram(name: string, help: string, rows: () => HistogramRow[]): void {
    this.#register(histogramOf(name, help, DURATION_EDGES, rows))
  }

  #register(metric: Metric): void {
    this.#text.registerMetric(metric)
    this.#openMetrics.registerMetric(forOpenMetrics(metric))
  }
}

/**
 * OpenMetrics names a counter without `_total`. prom-client renames the metric itself when it prints
 * that format, and the text format would lose the suffix too: so it is given an object of its own.
 */
function forOpenMetrics(metric: Metric): Metric {
  const { name, type } = metric as unknown as { name: string; type: string }
  const familyName = type === 'counter' ? name.replace(/_total$/, '') : name
  const get = async () => ({ ...(await metric.get()), name: familyName })
  return { name: familyName, type, get } as unknown as Metric
}

/** What is counted of the answers of one method and route. */
class AnswerRows {
  readonly byStatus: RowTable<CounterRow>
  readonly duration: HistogramRow

  constructor(method: string, endpoint: string | number) {
    this.byStatus = new RowTable((_, status_code) => new CounterRow({ method, endpoint, status_code }))
    this.duration = new HistogramRow({ method, endpoint }, DURATION_EDGES)
  }
}
