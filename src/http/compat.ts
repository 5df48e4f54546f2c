import { CHANNELS, LATENT_DIMS, TIMESTEPS } from '../core/window.ts'
import { codec } from './codec.ts'
import type { Operation } from './infer.ts'
import { VARY } from './page.ts'
import { type Answer, jsonAnswer } from './reply.ts'
import type { Service } from './service.ts'

/** The routes of the sidecar that this engine replaces, beside `/infer` and health. */

const API_VERSION = 'v1'
const GRAVITY = 9.81 // m/s²
/** One sample of a sensor at rest. */
export const AT_REST = [0, 0, GRAVITY, 0, 0, 0, 20, 0, 40] as const

/** `GET /` for programs. */
export function root({ config, models, engine, version }: Service): Answer {
  const model = models.current
  const body = {
    service: 'hailo-inference',
    version,
    model_ready: engine.available,
    endpoints: {
      infer: 'POST /infer',
      encode: 'POST /encode',
      test: config.testEndpoints ? 'POST /test' : null,
      health: 'GET /healthz',
      ready: 'GET /readyz',
      metrics: 'GET /metrics',
      status: 'GET /status',
      docs: 'GET /docs',
      openapi: 'GET /openapi.json',
      live: 'GET /live',
      stream: 'GET /stream',
      v2: 'GET /v2',
      v2_infer: `POST /v2/models/${model.servedName}/infer`,
    },
    config: {
      mode: config.mode,
      fallback: config.fallback,
      model: model.name,
      model_version: model.version,
      model_sha256: model.sha256,
      workers: config.workers,
      ring_slots: config.ringSlots,
      deadline_ms: config.deadlineMs,
      max_deadline_ms: config.maxDeadlineMs,
      max_windows_per_request: config.maxWindowsPerRequest,
      num_motifs: config.motifCount,
      motif_labels: model.motifLabels,
      config_version: config.configVersion,
    },
  }
  return jsonAnswer(200, body, { Vary: VARY })
}

/** `GET /status` */
export function status({ config, models, reloads, engine, metrics, readiness }: Service): Answer {
  const model = models.current
  const { answering, fault, fallback, device } = engine.backends
  const failed = readiness.phase === 'golden_check_failed'
  const failure = failed ? 'golden check failed' : fault && `${fault.cause}: ${fault.detail}`
  return jsonAnswer(200, {
    ready: engine.available && readiness.phase === 'ready' && !engine.draining,
    model_name: model.name,
    hef_path: model.path,
    hef_exists: model.path !== null,
    hailort_available: answering.includes('hailo'),
    initialization_error: failure,
    last_inference_time:
      metrics.lastInferenceMs === 0 ? null : new Date(metrics.lastInferenceMs).toISOString(),
    num_motifs: config.motifCount,
    endpoint_status: {
      infer: engine.available,
      encode: engine.available,
      test: engine.available && config.testEndpoints,
    },
    api_version: API_VERSION,
    mode: config.mode,
    model_version: model.version,
    model_sha256: model.sha256,
    model_generation: models.generation,
    last_reload: reloads.last,
    phase: engine.draining ? 'draining' : readiness.phase,
    level: engine.level,
    device: device && {
      id: device.id,
      name: device.name,
      library_version: device.libraryVersion,
      firmware_version: device.firmwareVersion,
      temperature_celsius: device.temperatureCelsius,
      clock_mhz: device.clockMhz,
      throttled: device.throttled,
      utilization_percent: device.utilisationPercent,
      generation: device.generation,
    },
    fallback: fallback && { from: fallback.from, to: fallback.to, cause: fallback.cause },
    workers: engine.streams.map(({ ring }) => ({
      serving: ring.serving !== null,
      backend: ring.serving,
      in_flight: ring.inFlight,
      slots: ring.capacity,
    })),
  })
}

/** `POST /encode`: the same inference under the names of the older API. */
export function encodeOperation({ models }: Service): Operation {
  const tail = models.told(
    ({ version, accuracy }) => `"model_version":${JSON.stringify(version)},"accuracy":${accuracy}`,
  )
  return {
    endpoint: '/encode',
    windowKeys: ['imu_window', 'x'],
    binary: false,
    encode: (output, slot) =>
      `{"latent_embedding":[${codec.joinNumbers(output.subarray(0, LATENT_DIMS))}],${tail.of(slot)}}`,
  }
}

/** `POST /test`: one window of a sensor at rest through the real pipeline. */
export const TEST: Operation = {
  endpoint: '/test',
  windowKeys: [],
  binary: false,
  makeWindow: window => {
    window.fill(0)
    for (let step = 0; step < TIMESTEPS; step++) window.set(AT_REST, step * CHANNELS)
  },
  encode: (output, slot) => {
    const latent = output.subarray(0, LATENT_DIMS)
    const motifScores = output.subarray(LATENT_DIMS)
    return JSON.stringify({
      test_status: 'success',
      latent_shape: [latent.length],
      motif_shape: [motifScores.length],
      latent_range: [Math.min(...latent), Math.max(...latent)],
      motif_range: [Math.min(...motifScores), Math.max(...motifScores)],
      inference_time_ms: slot.inferenceMs,
    })
  },
}
