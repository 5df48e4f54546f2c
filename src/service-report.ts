import type { Config } from './config.ts'
import { deviceName, fallbackInWords } from './engine/backend-status.ts'
import type { Engine } from './engine/engine.ts'
import { reasonsNotReady } from './http/health.ts'
import type { Readiness } from './http/service.ts'
import type { ServedModels } from './served-models.ts'
import type { Systemd } from './supervisor/systemd.ts'

const LOOK_INTERVAL_MS = 1000

export interface ReportedService {
  readonly config: Config
  readonly engine: Engine
  readonly models: ServedModels
  readonly readiness: Readiness
}

/** Tells systemd what answers, and as long as somebody can, that the service is alive. */
export class ServiceReport {
  readonly #systemd: Systemd
  readonly #service: ReportedService
  #ready = false
  #status = ''

  constructor(systemd: Systemd, service: ReportedService) {
    this.#systemd = systemd
    this.#service = service
    this.look()
    setInterval(() => this.look(), LOOK_INTERVAL_MS).unref()
    if (systemd.watchdogMs === null) return
    const beat = () => {
      if (!service.engine.hopeless) systemd.alive()
    }
    beat() // of the engine before this one it may not have heard for a while
    setInterval(beat, systemd.watchdogMs / 2).unref()
  }

  /** Tells what has changed. */
  look(): void {
    const { engine, readiness } = this.#service
    const status = statusOf(this.#service)
    if (status !== this.#status) this.#systemd.status(status)
    this.#status = status
    // Who starts without a device that may come yet has started: it listens, and says why it refuses.
    const waits = readiness.phase !== 'golden_check_failed' && engine.backends.fault !== null
    if (this.#ready || (readiness.phase !== 'ready' && !waits)) return
    this.#ready = true
    this.#systemd.ready()
  }

  /** Tells of a reload from its begin to its end. */
  async reloading(reload: () => Promise<unknown>): Promise<void> {
    if (!this.#ready) return void reload()
    this.#systemd.reloading()
    await reload()
    this.#systemd.ready()
    this.look()
  }
}

function statusOf({ config, engine, models, readiness }: ReportedService): string {
  const { name, version } = models.current
  const reasons = reasonsNotReady({ engine, readiness })
  if (reasons.length > 0) return `not ready: ${reasons.join('; ')}`
  const { backends } = engine
  const fallback = fallbackInWords(backends)
  if (fallback !== null) return `degraded: ${fallback}`
  return `ready: ${name} ${version} by ${config.mode} on ${deviceName(config.mode, backends)}`
}
