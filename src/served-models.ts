import { type BackendKind, perBackend } from './core/backend.ts'
import type { Model } from './model.ts'

/** What gave a result: the slot that holds it says so. */
export interface Source {
  readonly backend: BackendKind
  /** Of the model, see Engine.generation. */
  readonly generation: number
}

/** That which serves, and the one before it: windows that are in flight at a handover are of that. */
const REMEMBERED_GENERATIONS = 2

/** Which model serves, which came before it, and which is about to: so that every result is told to be of the one that gave it. */
export class ServedModels {
  /** Answers while the device of the model cannot, and stays as it was started. Null: nothing does. */
  readonly fallback: Model | null
  #engine: { readonly generation: number } = { generation: 0 }
  readonly #models = new Map<number, Model>()

  constructor(model: Model, fallback: Model | null) {
    this.#models.set(0, model)
    this.fallback = fallback
  }

  /** It knows from when on what was prepared serves. */
  watch(engine: { readonly generation: number }): void {
    this.#engine = engine
  }

  /** What new windows go to, and what is told where there is no result. */
  get current(): Model {
    return this.#models.get(this.generation)!
  }

  get generation(): number {
    return this.#engine.generation
  }

  /** Call before the engine is given the model: its first results may come before that is known to be done. */
  prepare(model: Model): void {
    this.#models.set(this.generation + 1, model)
    this.#models.delete(this.generation - REMEMBERED_GENERATIONS)
  }

  /** What was prepared will not serve. */
  dismiss(): void {
    this.#models.delete(this.generation + 1)
  }

  /** The model that gave a result. @throws when that is more than REMEMBERED_GENERATIONS ago: no window is in flight for so long */
  of({ backend, generation }: Source): Model {
    if (this.fallback?.plan.kind === backend) return this.fallback
    const model = this.#models.get(generation)
    if (model === undefined) throw new Error(`A result of model generation ${generation}, which nobody knows`)
    return model
  }

  /** @param make what is told with each result of a model: made once for it, not for each result */
  told<Value>(make: (model: Model, backend: BackendKind) => Value): Told<Value> {
    return new Told(generation => perBackend(backend => make(this.of({ backend, generation }), backend)))
  }

  /** What would give a result now: told where there is none. */
  source(backend: BackendKind): Source {
    return { backend, generation: this.generation }
  }
}

/** What is told with each result, by what gave it. Those of one generation are kept: few come of another before all do. */
export class Told<Value> {
  readonly #make: (generation: number) => Record<BackendKind, Value>
  #generation = -1
  #values: Record<BackendKind, Value> | null = null

  constructor(make: (generation: number) => Record<BackendKind, Value>) {
    this.#make = make
  }

  of({ backend, generation }: Source): Value {
    if (generation !== this.#generation) {
      this.#values = this.#make(generation)
      this.#generation = generation
    }
    return this.#values![backend]
  }
}
