import { monotonicMs } from '../clock.ts'
import { LEVEL } from '../core/degradation.ts'
import { deviceName, fallbackInWords } from '../engine/backend-status.ts'
import type { Live } from '../live/answer.ts'
import { CELL_MS, HISTORY_TICKS, LATENCY_EDGES_MS } from '../live/feed.ts'
import { reasonsNotReady } from './health.ts'
import { type Answer, type Asker, errorAnswer, jsonAnswer } from './reply.ts'
import type { Service } from './service.ts'

/** What a client that has nothing yet asks for. */
const BEFORE_ALL = -1
/** How long the page waits before it asks again, without load and with it. */
const PAUSE_MS = { usual: 1000, pressed: 5000 } as const

/** `GET /live?after=<tick>`: what the live page shows. The page asks as often as it is told; nothing is kept for it. */
export function live(service: Service, asker: Asker, query: URLSearchParams): Answer {
  const after = query.get('after')
  if (after !== null && !/^(-1|\d{1,15})$/.test(after)) {
    const detail = 'after is the number of the last tick that is known, or -1 for none'
    return errorAnswer({ code: 'invalid_request', detail }, asker)
  }
  const { live } = service
  const head: Omit<Live, 'ticks'> = {
    process: live.process,
    cell_ms: CELL_MS,
    pause_ms: service.engine.level < LEVEL.elevated ? PAUSE_MS.usual : PAUSE_MS.pressed,
    history: HISTORY_TICKS,
    latency_edges_ms: LATENCY_EDGES_MS,
    now: nowOf(service),
    provenance: provenanceOf(service),
  }
  const ticks = live.ticksAfter(after === null ? BEFORE_ALL : Number(after))
  // The ticks are JSON already. As bytes, as these go out only as fast as the reader takes them.
  const body = Buffer.from(`${JSON.stringify(head).slice(0, -1)},"ticks":[${ticks.join(',')}]}`)
  return { ...jsonAnswer(200, null, { 'Cache-Control': 'no-store' }), body }
}

function nowOf(service: Service): Live['now'] {
  const { engine, live } = service
  const { streams, backends, level } = engine
  const { device } = backends
  const reasons = reasonsNotReady(service)
  const nowMs = monotonicMs()
  return {
    ready: reasons.length === 0,
    reasons,
    answering: backends.answering,
    fallback: fallbackInWords(backends),
    level,
    capacity: streams.reduce((sum, { ring }) => sum + ring.capacity, 0),
    workers: streams.map(({ ring, counters }, worker) => ({
      backend: ring.serving,
      in_flight: ring.inFlight,
      slots: ring.capacity,
      heartbeat_age_s: counters.heartbeatMs === 0 ? null : Math.max(0, nowMs - counters.heartbeatMs) / 1000,
      busy: live.busy[worker] ?? 0,
    })),
    device: device && {
      id: device.id,
      name: device.name,
      temperature_celsius: device.temperatureCelsius,
      throttled: device.throttled,
      utilization_percent: device.utilisationPercent,
      generation: device.generation,
    },
  }
}

function provenanceOf(service: Service): Live['provenance'] {
  const { config, models, engine, version, configOk, startedMs } = service
  const model = models.current
  return {
    version,
    uptime_s: Math.round((monotonicMs() - startedMs) / 1000),
    mode: config.mode,
    device: deviceName(config.mode, engine.backends),
    model: model.name,
    model_version: model.version,
    model_sha256: sha256Of(service),
    config_ok: configOk,
    config_version: config.configVersion,
    golden: goldenOf(service),
    deadline_ms: config.deadlineMs,
    motif_labels: model.motifLabels,
  }
}

/** Of each backend that answers; of the configured one where none does. */
function sha256Of({ config, engine, models }: Service): Live['provenance']['model_sha256'] {
  const { answering } = engine.backends
  const backends = answering.length === 0 ? [config.mode] : answering
  return Object.fromEntries(backends.map(backend => [backend, models.of(models.source(backend)).sha256]))
}

function goldenOf({ models, readiness, engine }: Service): Live['provenance']['golden'] {
  if (models.current.golden === null) return 'not checked'
  const isWrong = engine.backends.fault?.cause === 'wrong_answers'
  if (readiness.phase === 'golden_check_failed' || isWrong) return 'failed'
  return readiness.phase === 'ready' ? 'passed' : 'pending'
}
