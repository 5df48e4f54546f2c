import { monotonicMs } from '../clock.ts'
import type { Config } from '../config.ts'
import { BACKENDS, type DeviceReport } from '../core/backend.ts'
import { BATCH_SIZE_EDGES } from '../core/counters.ts'
import { LEVELS } from '../core/degradation.ts'
import { LATENT_DIMS, SENSORS, TIMESTEPS } from '../core/window.ts'
import { deviceName } from '../engine/backend-status.ts'
import type { Engine } from '../engine/engine.ts'
import type { Stream } from '../engine/stream.ts'
import type { ServedModels } from '../served-models.ts'
import type { MetricRegistry } from './registry.ts'

/** A peak is told for so long at least, and for twice as long at most: no scrape every 10 s misses one. */
const PEAK_INTERVAL_MS = 10_000

export type WatchedEngine = Pick<Engine, 'streams' | 'backends' | 'level' | 'available'>

export interface EngineFacts {
  readonly config: Config
  readonly models: ServedModels
}

/** Adds what is read from the engine at a scrape: cursors, and what the workers write into shared memory. */
export function watchEngine(registry: MetricRegistry, engine: WatchedEngine, facts: EngineFacts): void {
  addModel(registry, engine, facts)
  addDevice(registry, engine)
  addRings(registry, engine)
  addWorkers(registry, engine, facts)
}

function addModel(registry: MetricRegistry, engine: WatchedEngine, { config, models }: EngineFacts): void {
  registry.gauge('hailo_model_loaded', '1 while a worker has the model', ['model', 'version'], gauge => {
    const { answering } = engine.backends
    const loaded = engine.available ? answering.map(backend => models.of(models.source(backend)).name) : []
    const { current, fallback } = models
    gauge.reset()
    // The fallback may be the same model: then it has the row of the other.
    for (const { name, version } of fallback === null || fallback.name === current.name
      ? [current]
      : [current, fallback]) {
      gauge.set({ model: name, version }, loaded.includes(name) ? 1 : 0)
    }
  })
  registry.gauge('hailo_model_info', 'The model', ['model', 'hef_path', 'motifs', 'device'], gauge => {
    const { name, path } = models.current
    const labels = { model: name, hef_path: path ?? '', motifs: config.motifCount }
    gauge.reset()
    // Without the reason when there is none: it may hold any words.
    gauge.set({ ...labels, device: deviceName(config.mode, { ...engine.backends, fault: null }) }, 1)
  })
  const configured = registry.gauge('hailo_configured_mode', '1 for the mode that was asked for', ['mode'])
  for (const mode of BACKENDS) configured.set({ mode }, mode === config.mode ? 1 : 0)
  registry.gauge('hailo_inference_mode', '1 for each backend that answers now', ['mode'], gauge => {
    const { answering } = engine.backends
    for (const mode of BACKENDS) gauge.set({ mode }, answering.includes(mode) ? 1 : 0)
  })
}

/** Gauges that have a row while there is a device that tells the value. */
function addDevice(registry: MetricRegistry, engine: WatchedEngine): void {
  const add = (name: string, help: string, read: (device: DeviceReport) => number | null) =>
    registry.gauge(name, help, ['device_id'], gauge => {
      gauge.reset()
      const { device } = engine.backends
      const value = device && read(device)
      if (value !== null) gauge.set({ device_id: device!.id }, value)
    })
  add('hailo_device_temperature_celsius', 'Of the chip', device => device.temperatureCelsius)
  add(
    'hailo_device_utilization_percent',
    'Time that the device was busy',
    device => device.utilisationPercent,
  )
  add(
    'hailo_device_clock_hertz',
    'Of the neural network core; it is lowered when the chip is hot',
    ({ clockMhz }) => clockMhz && clockMhz * 1e6,
  )
  add('hailo_device_throttled', '1 while the device is slowed down, mostly by heat', ({ throttled }) =>
    throttled ? 1 : 0,
  )
  add('hailo_device_generation', 'How often this process has opened the device', device => device.generation)
}

/** How full the rings are, and have been. */
export function addRings(registry: MetricRegistry, engine: Pick<WatchedEngine, 'streams' | 'level'>): void {
  const { streams } = engine
  registry.gauge('hailo_queue_depth', 'Windows in flight', [], gauge =>
    gauge.set(sumOf(streams, ({ ring }) => ring.inFlight)),
  )
  registry.gauge('hailo_queue_capacity', 'Slots in all rings', [], gauge =>
    gauge.set(sumOf(streams, ({ ring }) => ring.capacity)),
  )
  registry.gauge('hailo_ring_in_flight', 'Windows in flight in one ring', ['worker'], gauge =>
    streams.forEach(({ ring }, worker) => gauge.set({ worker }, ring.inFlight)),
  )
  const capacity = registry.gauge('hailo_ring_capacity', 'Slots of one ring', ['worker'])
  streams.forEach(({ ring }, worker) => capacity.set({ worker }, ring.capacity))

  let lastPeaks = streams.map(() => 0)
  setInterval(() => {
    lastPeaks = streams.map(stream => stream.takePeak())
  }, PEAK_INTERVAL_MS).unref()
  registry.gauge(
    'hailo_ring_saturation_ratio',
    'Most windows that were in flight at once in the last 10 to 20 s, of the slots of their ring',
    ['worker'],
    gauge =>
      streams.forEach(({ ring, peakInFlight }, worker) => {
        gauge.set({ worker }, Math.max(lastPeaks[worker]!, peakInFlight) / ring.capacity)
      }),
  )
  registry.gauge(
    'hailo_backpressure_level',
    LEVELS.map(({ level, name }) => `${level} ${name}`).join(', '),
    [],
    gauge => gauge.set(engine.level),
  )
}

function addWorkers(registry: MetricRegistry, { streams }: WatchedEngine, { config }: EngineFacts): void {
  registry.gauge(
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
  registry.derived(
    'hailo_worker_busy_seconds_total',
    'Time in which the worker had windows in hand',
    ['worker'],
    counter => streams.forEach(({ counters }, worker) => counter.inc({ worker }, counters.busyMs / 1000)),
  )
  registry.derived(
    'hailo_samples_processed_total',
    'What the workers have processed, in several units; of latent_dimensions and motif_classes the size of one result',
    ['metric'],
    counter => {
      const windows = sumOf(streams, ({ counters }) => counters.inferred)
      counter.inc({ metric: 'samples_processed' }, windows * TIMESTEPS)
      counter.inc({ metric: 'latent_vectors' }, windows)
      counter.inc({ metric: 'motif_predictions' }, windows)
      counter.inc({ metric: 'latent_dimensions' }, LATENT_DIMS)
      counter.inc({ metric: 'motif_classes' }, config.motifCount)
    },
  )
  registry.derived(
    'hailo_input_suspect_units_total',
    'Windows whose mean is more than 6 sigma off, by sensor: mostly degrees sent for radians',
    ['sensor'],
    counter => {
      SENSORS.forEach(({ name }, sensor) => {
        counter.inc(
          { sensor: name },
          sumOf(streams, ({ counters }) => counters.suspect(sensor)),
        )
      })
    },
  )
  registry.derived(
    'hailo_windows_passed_over_total',
    'Windows that expired or lost their client while they waited, at no cost to the model',
    [],
    counter => counter.inc(sumOf(streams, ({ counters }) => counters.passedOver)),
  )
  registry.histogram('hailo_batch_size', 'Windows that one run of the model took', BATCH_SIZE_EDGES, () => {
    const counts = Float64Array.from({ length: BATCH_SIZE_EDGES.length + 1 }, (_, bucket) =>
      sumOf(streams, ({ counters }) => counters.batches[bucket]!),
    )
    return [{ labels: {}, counts, sum: sumOf(streams, ({ counters }) => counters.batched) }]
  })
}

function sumOf(streams: readonly Stream[], read: (stream: Stream) => number): number {
  return streams.reduce((total, stream) => total + read(stream), 0)
}
