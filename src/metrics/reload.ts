import { RELOAD_RESULTS, RELOAD_TRIGGERS, type ReloadResult, type ReloadTrigger } from '../reload/outcome.ts'
import type { ServedModels } from '../served-models.ts'
import type { MetricRegistry } from './registry.ts'

/** Of looks for another model while one serves. */
export class ReloadMetrics {
  readonly #reloads
  readonly #refused
  readonly #seconds

  constructor(registry: MetricRegistry, models: ServedModels) {
    this.#reloads = registry.counter(
      'hailo_model_reloads_total',
      'Looks for another model: replaced, unchanged, or refused, and then the old one still serves',
      ['result', 'trigger'],
    )
    for (const result of RELOAD_RESULTS) {
      for (const trigger of RELOAD_TRIGGERS) this.#reloads.inc({ result, trigger }, 0)
    }
    registry.gauge(
      'hailo_model_generation',
      'Models that took over from another since the start',
      [],
      gauge => gauge.set(models.generation),
    )
    this.#refused = registry.gauge(
      'hailo_model_reload_refused',
      '1 when the last look found a model that cannot be served: the old one still is, and a new start would fail',
    )
    this.#seconds = registry.gauge(
      'hailo_model_reload_seconds',
      'How long the last look for another model took, with its handover; 0 before the first',
    )
  }

  reloaded(result: ReloadResult, trigger: ReloadTrigger, seconds: number): void {
    this.#reloads.inc({ result, trigger })
    this.#refused.set(result === 'refused' ? 1 : 0)
    this.#seconds.set(seconds)
  }
}
