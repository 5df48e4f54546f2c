import { monotonicMs } from '../clock.ts'
import { ReplaceError } from '../engine/replace-error.ts'
import type { Logger } from '../log.ts'
import type { Model } from '../model.ts'
import type { ServedModels } from '../served-models.ts'
import { LoadError, type Loaded } from './model-loader.ts'
import type { LastReload, Reload, ReloadResult, Reloads, ReloadTrigger } from './outcome.ts'

export interface ReloaderOptions {
  readonly models: ServedModels
  /** What is there now, verified. @throws LoadError */
  readonly load: () => Promise<Loaded>
  /** What keeps every other model from being served, in words. Null: nothing does. */
  readonly hindrance: () => string | null
  /** Hands all streams over. @throws ReplaceError, and the old model serves on */
  readonly handOver: (loaded: Loaded) => Promise<void>
  readonly tally: { reloaded(result: ReloadResult, trigger: ReloadTrigger, seconds: number): void }
  readonly log: Logger
}

/** Reads the model again when told to, and serves it where it is another and a good one. A bad one changes nothing. */
export class Reloader implements Reloads {
  readonly #options: ReloaderOptions
  #last: LastReload | null = null
  #running: Promise<Reload> | null = null
  /** Who asks while one runs may mean what came after it has read: one more, for all of them. */
  #next: Promise<Reload> | null = null

  constructor(options: ReloaderOptions) {
    this.#options = options
  }

  get last(): LastReload | null {
    return this.#last
  }

  reload(trigger: ReloadTrigger): Promise<Reload> {
    if (this.#running === null) return this.#begin(trigger)
    this.#next ??= this.#running.then(() => {
      this.#next = null
      return this.#begin(trigger)
    })
    return this.#next
  }

  async #begin(trigger: ReloadTrigger): Promise<Reload> {
    this.#running = this.#look(trigger)
    const reload = await this.#running
    // Not before the next one has begun, if there is one: nobody may come between.
    if (this.#next === null) this.#running = null
    return reload
  }

  async #look(trigger: ReloadTrigger): Promise<Reload> {
    const { tally, models, log } = this.#options
    const startedMs = monotonicMs()
    const reload = await this.#replace().catch(error => this.#refusedFor(error))
    const seconds = (monotonicMs() - startedMs) / 1000
    const { result, reason } = reload
    const { version, sha256 } = models.current
    tally.reloaded(result, trigger, seconds)
    this.#last = { ...reload, at: new Date().toISOString(), version }
    const facts = { trigger, version, sha256, generation: models.generation, seconds }
    if (result === 'refused')
      log.warn({ ...facts, reason }, 'another model was refused, the old one serves on')
    else log.info(facts, result === 'replaced' ? 'another model serves' : 'there is no other model')
    return reload
  }

  async #replace(): Promise<Reload> {
    const { models, load, hindrance, handOver } = this.#options
    const hindered = hindrance()
    if (hindered !== null) return refused(hindered)
    const loaded = await load()
    const { model, fallback } = loaded
    const { current } = models
    if (isSame(model, current) && isSame(fallback, models.fallback)) {
      return { result: 'unchanged', reason: null }
    }
    const reason = misfit(model, current) ?? hindrance()
    if (reason !== null) return refused(reason)
    models.prepare(loaded)
    try {
      await handOver(loaded)
    } catch (error) {
      models.dismiss()
      throw error
    }
    return { result: 'replaced', reason: null }
  }

  #refusedFor(error: unknown): Reload {
    if (error instanceof LoadError) return refused(error.message)
    if (error instanceof ReplaceError) return refused(`${error.cause}: ${error.detail}`)
    this.#options.log.error({ err: error }, 'a model could not be loaded, which is a bug')
    return refused(String(error))
  }
}

function isSame(model: Model | null, current: Model | null): boolean {
  return model?.sha256 === current?.sha256 && model?.manifestSha256 === current?.manifestSha256
}

function refused(reason: string): Reload {
  return { result: 'refused', reason }
}

/** Why this process cannot serve a model after another: clients have been told what they get, and slots are as long as they are. */
function misfit(model: Model, current: Model): string | null {
  const { servedName, golden, motifLabels, path } = model
  const refuse = (found: string, expected: string) =>
    `${path}: ${found}, expected ${expected}. Only a new start can serve it`
  if (servedName !== current.servedName) {
    return refuse(`it is served as ${servedName}`, `${current.servedName}, as the model that serves`)
  }
  if (motifLabels.length !== current.motifLabels.length) {
    return refuse(
      `it has ${motifLabels.length} motifs`,
      `${current.motifLabels.length}, as the model that serves`,
    )
  }
  if (golden === null && current.golden !== null) {
    return refuse(
      'it brings no golden vectors',
      'some, as the model that serves has: nobody could tell whether it answers rightly',
    )
  }
  return null
}
