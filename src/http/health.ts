import { monotonicMs } from '../clock.ts'
import { CHANNELS, LATENT_DIMS, TIMESTEPS } from '../core/window.ts'
import { type BackendStatus, deviceName, fallbackInWords } from '../engine/backend-status.ts'
import { type Answer, jsonAnswer } from './reply.ts'
import type { Readiness, Service } from './service.ts'

/** A worker shows a sign of life ten times a second; one that has not for so long will not come back. */
const HANGING_AFTER_MS = 10_000
/** The motif scores that EdgeInfer insists on. */
export const CONTRACT_MOTIFS = 12

/**
 * `GET /healthz`. Reads only memory, so it answers also when every worker hangs. 503 only when
 * restarting the process would help or the model is not there.
 */
export function healthz(service: Service): Answer {
  const { config, models, engine, metrics, readiness } = service
  const model = models.current
  const backends = engine.backends
  const status = statusOf(service, backends)
  const ok = HEALTHY.has(status)
  metrics.healthChecked(ok)
  return jsonAnswer(ok ? 200 : 503, {
    ok,
    status,
    reason: reasonOf(backends),
    model: model.name,
    version: model.version,
    uptime_s: Math.round((monotonicMs() - service.startedMs) / 100) / 10,
    config_version: config.configVersion,
    hef_sha256: model.sha256,
    expected_sha256: config.expectedSha256,
    config_ok: service.configOk,
    device: deviceName(config.mode, backends),
    mode: config.mode,
    fallback: fallbackOf(backends),
    latency_ms: metrics.recentLatencyMs,
    contract: {
      window_len: TIMESTEPS,
      channels: CHANNELS,
      latent_dims: LATENT_DIMS,
      motif_classes: config.motifCount,
    },
    contract_compatible: config.motifCount === CONTRACT_MOTIFS,
    level: engine.level,
    warm: readiness.phase === 'ready',
  })
}

/** `GET /readyz`: 200 when clients should be sent here, also to a fallback, else 503 with the reasons. */
export function readyz(service: Service): Answer {
  const reasons = reasonsNotReady(service)
  return jsonAnswer(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons })
}

/** In words; none when clients should be sent here. */
export function reasonsNotReady({ engine, readiness }: Pick<Service, 'engine' | 'readiness'>): string[] {
  const { answering, fault } = engine.backends
  const isWrong = answering.length === 0 && fault?.cause === 'wrong_answers'
  const reasons: string[] = []
  if (engine.draining) reasons.push('draining')
  if (readiness.phase === 'golden_check_failed' || isWrong) reasons.push('golden check failed')
  else if (readiness.phase !== 'ready') reasons.push('warming')
  if (engine.unloaded) reasons.push('unloaded')
  if (answering.length === 0) {
    reasons.push(fault === null ? 'no worker' : `no worker: ${fault.cause}: ${fault.detail}`)
  }
  return reasons
}

/** Starting the process again would not help. */
const HEALTHY: ReadonlySet<Status> = new Set(['ok', 'degraded', 'warming', 'draining'])

type Status =
  | Readiness['phase']
  | 'ok'
  /** A fallback answers. */
  | 'degraded'
  | 'draining'
  /** There is nothing to run the model on. */
  | 'model_unavailable'
  | 'workers_hang'

function statusOf({ engine, readiness }: Service, { answering, fallback, fault }: BackendStatus): Status {
  if (engine.draining) return 'draining'
  if (readiness.phase === 'golden_check_failed') return readiness.phase
  if (answering.length === 0 && fault !== null) {
    return fault.cause === 'wrong_answers' ? 'golden_check_failed' : 'model_unavailable'
  }
  if (readiness.phase === 'starting') return readiness.phase
  const nowMs = monotonicMs()
  const alive = engine.streams.filter(({ counters }) => nowMs - counters.heartbeatMs < HANGING_AFTER_MS)
  if (alive.length === 0) return 'workers_hang'
  if (readiness.phase === 'warming') return 'warming'
  return fallback === null ? 'ok' : 'degraded'
}

/** Why it is not as it was configured, in words. */
function reasonOf(backends: BackendStatus): string | null {
  const { fault } = backends
  return fallbackInWords(backends) ?? (fault && `${fault.cause}: ${fault.detail}`)
}

function fallbackOf({ fallback }: BackendStatus): object | null {
  if (fallback === null) return null
  const { from, to, cause, sinceMs } = fallback
  return { from, to, cause, since_s: Math.round((monotonicMs() - sinceMs) / 100) / 10 }
}
