import type { Config } from './config.ts'
import { firstOf, type GoldenVectors } from './core/golden.ts'
import type { Engine } from './engine/engine.ts'
import type { ReplacedTask } from './engine/pool.ts'
import { ReplaceError } from './engine/replace-error.ts'
import type { Readiness } from './http/service.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { Model } from './model.ts'
import type { LinkWatch } from './reload/link-watch.ts'
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
  /** Told before the model that serves was read. */
  readonly link: LinkWatch
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
  readonly #link: LinkWatch
  readonly #isStarting: () => boolean
  /** Who asked in vain while the server started. */
  #early: ReloadTrigger | null = null
  /** Who has asked, and waits. */
  readonly #waiting = new Set<(reload: Reload) => void>()

  constructor({ config, link, models, engine, metrics, witness, readiness, log }: ReloadingFacts) {
    this.#loader = new ModelLoader({ config, wantsReference: config.telemetry !== null })
    this.#link = link
    this.#isStarting = () => readiness.phase === 'starting' || readiness.phase === 'warming'
    this.#reloader = new Reloader({
      models,
      load: async () => {
        await link.reading()
        return this.#loader.load()
      },
      hindrance: () => {
        if (engine.draining) return DRAINING
        if (readiness.phase === 'ready') return null
        return this.#isStarting()
          ? 'The server is starting. It looks again when it is ready'
          : 'The golden check failed at the start: only a new start helps'
      },
      handOver: async loaded => {
        witness.expect(loaded.reference)
        await engine.replaceModel(taskOf(loaded)).catch(error => {
          if (error instanceof ReplaceError && error.mayPass) link.retryLater()
          throw error
        })
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
    if (this.#isStarting()) this.#early = trigger
    return new Promise(answer => {
      this.#waiting.add(answer)
      void this.#reloader.reload(trigger).then(reload => {
        this.#waiting.delete(answer)
        answer(reload)
      })
    })
  }

  /** The server is ready: from here on also when the path leads elsewhere, or has since the start. */
  watch(): void {
    this.#link.watch(() => this.reload('link'))
    if (this.#early !== null) void this.reload(this.#early)
  }

  /** Nothing else will be served, and nobody waits any more for what is being read or opened. */
  drain(): void {
    this.#link.stop()
    for (const answer of this.#waiting) answer({ result: 'refused', reason: DRAINING })
  }

  /** What is being read is not waited for. */
  async close(): Promise<void> {
    const left = await Promise.all([this.#loader.close(), this.#link.close()])
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
