import { monotonicMs } from './clock.ts'
import type { Config } from './config.ts'
import { BACKEND_FAILURES, type BackendKind, type DeviceReport } from './core/backend.ts'
import { LEVELS, type Pressure } from './core/degradation.ts'
import type { Outcome } from './core/outcome.ts'
import type { Slot } from './core/slot.ts'
import type { Fallback } from './engine/backend-status.ts'
import type { LevelChange } from './engine/load-watch.ts'
import {
  type DeviceChange,
  LOSS_CAUSES,
  type Observer,
  REFUSAL_REASONS,
  type RefusalCode,
  type RefusalReason,
  type TurnedAway,
  type Witness,
  type WorkerLoss,
} from './engine/observer.ts'
import type { InFlight } from './engine/stream.ts'
import type { Logger } from './log.ts'
import { type WatchedEngine, watchEngine } from './metrics/engine.ts'
import { GoldenMetrics } from './metrics/golden.ts'
import { addProcessMetrics } from './metrics/process.ts'
import { MetricRegistry } from './metrics/registry.ts'
import { ReloadMetrics } from './metrics/reload.ts'
import { watchTelemetry } from './metrics/telemetry.ts'
import { TlsMetrics } from './metrics/tls.ts'
import type { ServedModels, Told } from './served-models.ts'
import { CounterRow, HistogramRow, RowTable } from './tally.ts'
import type { TelemetryCounters } from './telemetry/counters.ts'

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
/** How much one answer moves the recent latency. */
const LATENCY_WEIGHT = 0.05

/** What the gauges that never change say. */
export interface MetricFacts {
  readonly config: Config
  readonly models: ServedModels
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
  /** For those who count something of their own. */
  readonly registry = new MetricRegistry()
  readonly golden: GoldenMetrics
  readonly reloads: ReloadMetrics
  /** Null: there is no certificate. */
  readonly tls: TlsMetrics | null
  readonly #log: Logger
  /** Monotonic; 0 before the first. */
  #lastAnsweredMs = 0
  #lastTold = { answeredMs: 0, unixMs: 0 }
  /** Of windows with a result. */
  readonly #resultRows: Told<{ inferences: CounterRow; durations: HistogramRow }>

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
  readonly #traceSpans = new RowTable((result, _) => new CounterRow({ result }))
  readonly #cancelled = this.registry.counter(
    'hailo_cancelled_total',
    'Windows given up before they ended: their client went away, or another window of their request failed',
  )
  readonly #restarts = this.registry.counter('hailo_worker_restarts_total', 'Workers replaced, by cause', [
    'worker',
    'cause',
  ])
  readonly #fallbacks = this.registry.counter(
    'hailo_fallback_total',
    'How often a worker began to answer with the fallback, by what had kept the primary from it',
    ['from', 'to', 'cause'],
  )
  readonly #streaming = this.registry.gauge('hailo_ws_connections', 'Clients of /stream that are connected')
  readonly #turnedAway = this.registry.counter(
    'hailo_connections_refused_total',
    'Connections closed as they came: MAX_CONNECTIONS were open (limit), or the service let nobody in at its backpressure level (level)',
    ['reason'],
  )
  readonly #levelChanges = this.registry.counter(
    'hailo_backpressure_changes_total',
    'Changes of the backpressure level, by the one that was reached',
    ['level'],
  )
  readonly #thinned = this.registry.counter(
    'hailo_stream_thinned_total',
    'Windows of /stream that were left out under load, as their client has agreed to',
  )
  readonly #healthChecks = this.registry.counter('hailo_health_checks_total', 'Answers of /healthz', [
    'status',
  ])
  readonly #warmUp = this.registry.gauge('hailo_warmup_duration_seconds', 'Time from start to ready')
  readonly #facts: MetricFacts
  /** Null before watch(). */
  #engine: WatchedEngine | null = null
  /** What each worker was last lost with, in words. */
  readonly #lastLosses = new Map<number, string>()

  constructor(facts: MetricFacts, log: Logger) {
    this.#facts = facts
    this.#log = log
    const { config, models } = facts
    this.golden = new GoldenMetrics(this.registry, config.workers, log)
    this.tls = config.tls && new TlsMetrics(this.registry)
    this.registry.gauge('hailo_sidecar_start_time_seconds', 'Unix time of the start').set(Date.now() / 1000)
    this.#tellModel()
    // Rows that a rate() needs from the start, not from the first failure on.
    this.#addModelRows()
    if (config.fallback !== null) {
      const pair = { from: config.mode, to: config.fallback }
      for (const cause of BACKEND_FAILURES) this.#fallbacks.inc({ ...pair, cause }, 0)
    }
    for (const code of facts.errorCodes) this.#errors.at(code, ONLY)
    for (const direction of ['in', 'out'] as const) {
      for (const type of facts.frameTypes[direction]) this.#frames.at(direction, type)
    }
    for (const reason of REFUSAL_REASONS) this.#rejected.at(reason, ONLY)
    for (const result of ['exported', 'dropped']) this.#traceSpans.at(result, ONLY)
    for (const reason of ['limit', 'level'] satisfies TurnedAway[]) this.#turnedAway.inc({ reason }, 0)
    for (const { level } of LEVELS) this.#levelChanges.inc({ level }, 0)
    for (const status of ['healthy', 'unhealthy']) this.#healthChecks.inc({ status }, 0)
    for (let worker = 0; worker < config.workers; worker++) {
      for (const cause of LOSS_CAUSES) this.#restarts.inc({ worker, cause }, 0)
    }
    this.#registerRows()
    addProcessMetrics(this.registry)
    this.reloads = new ReloadMetrics(this.registry, models)
    this.#resultRows = models.told(({ name }) => ({
      inferences: this.#inferences.at('success', name),
      durations: this.#durations.at(OPERATION, name),
    }))
  }

  /** Another model serves from here on. What was counted of the one before it stays. */
  modelReplaced(): void {
    this.#addModelRows()
    const { current } = this.#facts.models
    if (current.golden !== null && this.#engine !== null) this.golden.watch(this.#engine)
  }

  #addModelRows(): void {
    const { current, fallback } = this.#facts.models
    for (const { name } of fallback === null ? [current] : [current, fallback]) {
      for (const status of ['success', 'error', 'rejected']) this.#inferences.at(status, name)
      this.#durations.at(OPERATION, name)
    }
  }

  /** Which one serves: read at a scrape, so that no two models ever look so. */
  #tellModel(): void {
    const { config, models, version, configOk } = this.#facts
    this.registry.gauge('hailo_build_info', 'The build', ['version', 'hef_sha', 'config'], gauge => {
      gauge.reset()
      gauge.set({ version, hef_sha: models.current.sha256, config: config.configVersion }, 1)
    })
    const help = '1 when the model is the expected one'
    this.registry.gauge('hailo_config_ok', help, ['expected', 'actual'], gauge => {
      gauge.reset()
      const labels = { expected: config.expectedSha256 ?? '', actual: models.current.sha256 }
      gauge.set(labels, configOk ? 1 : 0)
    })
  }

  /** Unix time, ms; 0 before the first. */
  get lastInferenceMs(): number {
    // Date.now() for each window would take as long as to count it. Worked out once, as the clocks differ by a little each time.
    if (this.#lastTold.answeredMs !== this.#lastAnsweredMs) {
      const unixMs = Math.round(Date.now() - (monotonicMs() - this.#lastAnsweredMs))
      this.#lastTold = { answeredMs: this.#lastAnsweredMs, unixMs }
    }
    return this.#lastTold.unixMs
  }

  /** Adds what only the engine knows. */
  watch(engine: WatchedEngine): void {
    const { config, models } = this.#facts
    this.#engine = engine
    if (models.current.golden !== null) this.golden.watch(engine)
    watchEngine(this.registry, engine, { config, models })
  }

  /** @param accept decides between OpenMetrics and the older text format */
  scrape(accept: string): Promise<{ contentType: string; text: string }> {
    return this.registry.scrape(accept)
  }

  watchTelemetry(counters: TelemetryCounters): void {
    watchTelemetry(this.registry, counters)
  }

  inferenceEnded(outcome: Outcome, durationMs: number, slot: Slot | null): void {
    if (slot !== null) this.#queueWait.observe(slot.queueWaitMs / 1000)
    if (outcome !== 'ok' || slot === null) {
      this.#inferences.at('error', this.#facts.models.current.name).count++
      return
    }
    const rows = this.#resultRows.of(slot)
    rows.inferences.count++
    rows.durations.observe(durationMs / 1000)
    const recentMs = this.recentLatencyMs ?? durationMs
    this.recentLatencyMs = recentMs + LATENCY_WEIGHT * (durationMs - recentMs)
  }

  refused(_code: RefusalCode | 'rate_limited', reason: RefusalReason): void {
    this.#rejected.at(reason, ONLY).count++
    this.#inferences.at('rejected', this.#facts.models.current.name).count++
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
    this.#lastAnsweredMs = answeredMs
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

  traceSpans(result: 'exported' | 'dropped', count: number): void {
    this.#traceSpans.at(result, ONLY).count += count
  }

  streaming(connections: number): void {
    this.#streaming.set(connections)
  }

  turnedAway(reason: TurnedAway): void {
    this.#turnedAway.inc({ reason })
  }

  thinned(): void {
    this.#thinned.inc()
  }

  /** Seldom enough to be told each time: see Degradation. */
  levelChanged({ from, to, pressure }: LevelChange): void {
    this.#levelChanges.inc({ level: to })
    const change = { from: LEVELS[from]!.name, to: LEVELS[to]!.name, ...inThousandths(pressure) }
    if (to > from) this.#log.warn(change, 'backpressure grows')
    else this.#log.info(change, 'backpressure falls')
  }

  healthChecked(healthy: boolean): void {
    this.#healthChecks.inc({ status: healthy ? 'healthy' : 'unhealthy' })
  }

  warmedUp(seconds: number): void {
    this.#warmUp.set(seconds)
  }

  /** Names what is counted in rows. */
  #registerRows(): void {
    this.registry.counted(
      'hailo_inference_requests_total',
      'Windows by how they ended: success, error (admitted, no result) or rejected (not admitted). Bad windows are not among them',
      ['operation', 'status', 'model'],
      () => this.#inferences.all(),
    )
    this.registry.counted(
      'hailo_inference_errors_total',
      'Inference requests answered with an error, by its code; bad windows are invalid_window',
      ['error_type'],
      () => this.#errors.all(),
    )
    this.registry.counted('hailo_rejected_total', 'Windows not admitted, by reason', ['reason'], () =>
      this.#rejected.all(),
    )
    this.registry.counted(
      'hailo_http_requests_total',
      'HTTP requests answered',
      ['method', 'endpoint', 'status_code'],
      () => this.#answers.all().flatMap(({ byStatus }) => byStatus.all()),
    )
    this.registry.counted(
      'hailo_ws_frames_total',
      'Frames of /stream, in from clients and out to them',
      ['direction', 'type'],
      () => this.#frames.all(),
    )
    this.registry.counted(
      'hailo_trace_spans_total',
      'Spans of sampled requests: dropped where there were too many, or the collector did not take them',
      ['result'],
      () => this.#traceSpans.all(),
    )
    this.registry.histogram(
      'hailo_inference_duration_seconds',
      'From the first byte of a request to its result, for windows that got one',
      DURATION_EDGES,
      () => this.#durations.all(),
    )
    this.registry.histogram(
      'hailo_stage_duration_seconds',
      'Of answered windows: admit until published, queue until taken, infer until finished, settle until the main thread came to it, encode until the answer was made',
      STAGE_EDGES,
      () => Object.values(this.#stages),
    )
    this.registry.histogram(
      'hailo_queue_wait_seconds',
      'From published to taken by the worker',
      DURATION_EDGES,
      () => [this.#queueWait],
    )
    this.registry.histogram(
      'hailo_http_request_duration_seconds',
      'From first byte to answer',
      DURATION_EDGES,
      () => this.#answers.all().map(({ duration }) => duration),
    )
  }
}

/** For the log. */
function inThousandths(values: Pressure): Pressure {
  const rounded = Object.entries(values).map(([name, value]) => [name, Math.round(value * 1000) / 1000])
  return Object.fromEntries(rounded) as Pressure
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
