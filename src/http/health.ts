import { monotonicMs } from '../clock.ts'
import { CHANNELS, LATENT_DIMS, TIMESTEPS } from '../core/window.ts'
import { type Answer, jsonAnswer } from './reply.ts'
import type { Service } from './service.ts'

/** A worker shows a sign of life ten times a second; one that has not for so long will not come back. */
const HANGING_AFTER_MS = 10_000
/** The motif scores that EdgeInfer insists on. */
export const CONTRACT_MOTIFS = 12

/**
 * `GET /healthz`. Reads only memory, so it answers also when every worker hangs. 503 only when
 * restarting the process would help or the model is not there.
 */
export function healthz(service: Service): Answer {
  const { config, model, engine, metrics, readiness } = service
  const status = statusOf(service)
  const ok = status === 'ok' || status === 'warming' || status === 'draining'
  metrics.healthChecked(ok)
  return jsonAnswer(ok ? 200 : 503, {
    ok,
    status,
    model: model.name,
    version: model.version,
    uptime_s: Math.round((monotonicMs() - service.startedMs) / 100) / 10,
    config_version: config.configVersion,
    hef_sha256: model.sha256,
    expected_sha256: config.expectedSha256,
    config_ok: service.configOk,
    device: service.device,
    mode: config.mode,
    fallback: null,
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

/** `GET /readyz`: 200 when clients should be sent here, else 503 with the reasons. */
export function readyz({ engine, readiness }: Service): Answer {
  const reasons: string[] = []
  if (engine.draining) reasons.push('draining')
  if (readiness.phase === 'golden_check_failed') reasons.push('golden check failed')
  else if (readiness.phase !== 'ready') reasons.push('warming')
  if (!engine.streams.some(({ ring }) => ring.serving)) reasons.push('no worker')
  return jsonAnswer(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons })
}

function statusOf({ engine, readiness }: Service): string {
  if (engine.draining) return 'draining'
  if (readiness.phase === 'starting' || readiness.phase === 'golden_check_failed') return readiness.phase
  const nowMs = monotonicMs()
  const alive = engine.streams.filter(({ counters }) => nowMs - counters.heartbeatMs < HANGING_AFTER_MS)
  if (alive.length === 0) return 'workers_hang'
  return readiness.phase === 'warming' ? 'warming' : 'ok'
}
