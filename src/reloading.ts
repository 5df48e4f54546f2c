import { servedPath } from './artifacts/current.ts'
import type { Config } from './config.ts'
import { firstOf, type GoldenVectors } from './core/golden.ts'
import type { Engine } from './engine/engine.ts'
import type { ReplacedTask } from './engine/pool.ts'
import type { Readiness } from './http/service.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { Model } from './model.ts'
import { LinkWatch } from './reload/link-watch.ts'
import { ModelLoader } from './reload/model-loader.ts'
import type { LastReload, Reload, Reloads, ReloadTrigger } from './reload/outcome.ts'
import { Reloader } from './reload/reloader.ts'
import type { Served, ServedModels } from './served-models.ts'
import { waitForNoThread } from './supervisor/end.ts'
import type { Witnesses } from './witnesses.ts'

/** So many golden windows at most a backend must answer rightly that is opened while others serve. */
const SELF_CHECK_WINDOWS = 64

const DRAINING = 'The server is shutting down'

export interface ReloadingFacts {
  readonly config: Config
  readonly models: ServedModels
  readonly engine: Engine
  readonly metrics: Metrics
  readonly witness: Witnesses
  readonly readiness: Readiness
  readonly log: Logger
}

/** Serves another model when there is one: whoever tells of it, all who have to know of it are told. */
export class Reloading implements Reloads {
  readonly #reloader: Reloader
  readonly #loader: ModelLoader
  readonly #link: LinkWatch | null
  /** Who has asked, and waits. */
  readonly #waiting = new Set<(reload: Reload) => void>()

  constructor({ config, models, engine, metrics, witness, readiness, log }: ReloadingFacts) {
    this.#loader = new ModelLoader({ config, wantsReference: config.telemetry !== null })
    const path = servedPath(config)
    this.#link = path === null ? null : new LinkWatch(path, () => this.reload('link'))
    this.#reloader = new Reloader({
      models,
      load: async () => {
        await this.#link?.reading()
        return this.#loader.load()
      },
      hindrance: () => {
        if (engine.draining) return DRAINING
        if (readiness.phase === 'ready') return null
        const isFinal = readiness.phase === 'golden_check_failed'
        return isFinal
          ? 'The golden check failed at the start: only a new start helps'
          : 'The server is starting'
      },
      handOver: async loaded => {
        witness.expect(loaded.reference)
        await engine.replaceModel(taskOf(loaded))
        metrics.modelReplaced()
        if (config.modelVersion === null) return
        const { modelVersion } = config
        log.warn({ modelVersion }, 'MODEL_VERSION names this model as it named the last: unset it')
      },
      tally: metrics.reloads,
      log,
    })
  }

  get last(): LastReload | null {
    return this.#reloader.last
  }

  reload(trigger: ReloadTrigger): Promise<Reload> {
    return new Promise(answer => {
      this.#waiting.add(answer)
      void this.#reloader.reload(trigger).then(reload => {
        this.#waiting.delete(answer)
        answer(reload)
      })
    })
  }

  /** From here on also when the path leads elsewhere. */
  async watch(): Promise<void> {
    await this.#link?.reading()
    this.#link?.watch()
  }

  /** Nobody waits any more for what is being read or opened. Call when the engine drains. */
  drain(): void {
    for (const answer of this.#waiting) answer({ result: 'refused', reason: DRAINING })
  }

  /** What is being read is not waited for. */
  async close(): Promise<void> {
    const left = await Promise.all([this.#loader.close(), this.#link?.close() ?? true])
    if (left.includes(false)) waitForNoThread('must')
  }
}

/** What every worker gets of a model. */
export function taskOf({ model, fallback }: Served): ReplacedTask {
  return {
    primary: model.plan,
    normalisation: model.normalisation,
    selfCheck: selfCheckOf(model),
    fallback: fallback && { plan: fallback.plan, selfCheck: selfCheckOf(fallback) },
  }
}

function selfCheckOf({ golden }: Model): GoldenVectors | null {
  return golden && firstOf(golden, Math.min(golden.count, SELF_CHECK_WINDOWS))
}
