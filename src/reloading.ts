import type { Config } from './config.ts'
import { firstOf } from './core/golden.ts'
import type { Engine } from './engine/engine.ts'
import type { CommonTask } from './engine/pool.ts'
import { ReplaceError } from './engine/replace-error.ts'
import type { Readiness } from './http/service.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { Model } from './model.ts'
import type { LinkWatch } from './reload/link-watch.ts'
import { ModelLoader } from './reload/model-loader.ts'
import type { LastReload, Reload, Reloads, ReloadTrigger } from './reload/outcome.ts'
import { Reloader } from './reload/reloader.ts'
import type { ServedModels } from './served-models.ts'
import { waitForNoThread } from './supervisor/end.ts'
import type { Witnesses } from './witnesses.ts'

/** So many golden windows at most a backend must answer rightly that is opened while others serve. */
const SELF_CHECK_WINDOWS = 64

export interface ReloadingFacts {
  readonly config: Config
  /** Told before the model that serves was read. */
  readonly link: LinkWatch
  readonly models: ServedModels
  readonly engine: Engine
  readonly metrics: Metrics
  readonly witness: Witnesses
  readonly readiness: Readiness
  /** Told that another model serves. */
  readonly replaced: (model: Model) => void
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

  constructor({ config, link, models, engine, metrics, witness, readiness, replaced, log }: ReloadingFacts) {
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
        if (engine.draining) return 'The server is shutting down'
        if (readiness.phase === 'ready') return null
        return this.#isStarting()
          ? 'The server is starting. It looks again when it is ready'
          : 'The golden check failed at the start: only a new start helps'
      },
      handOver: async ({ model, reference }) => {
        witness.expect(reference)
        await engine.replaceModel(taskOf(model)).catch(error => {
          if (error instanceof ReplaceError && error.mayPass) link.retryLater()
          throw error
        })
        metrics.modelReplaced()
        replaced(model)
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
    return this.#reloader.reload(trigger)
  }

  /** The server is ready: from here on also when the path leads elsewhere, or has since the start. */
  watch(): void {
    this.#link.watch(() => this.reload('link'))
    if (this.#early !== null) void this.reload(this.#early)
  }

  /** Nothing else will be served any more. */
  unwatch(): void {
    this.#link.stop()
  }

  /** What is being read is not waited for. */
  async close(): Promise<void> {
    if (!(await this.#loader.close())) waitForNoThread('must')
  }
}

/** What every worker gets of a model. */
export function taskOf({
  plan,
  normalisation,
  golden,
}: Model): Pick<CommonTask, 'primary' | 'normalisation' | 'selfCheck'> {
  return {
    primary: plan,
    normalisation,
    selfCheck: golden && firstOf(golden, Math.min(golden.count, SELF_CHECK_WINDOWS)),
  }
}
