import { type BackendKind, perBackend } from './core/backend.ts'
import type { Model } from './model.ts'

/** What gave a result: the slot that holds it says so. */
export interface Source {
  readonly backend: BackendKind
  /** Of the model, see Engine.generation. */
  readonly generation: number
}

/** A model, and what answers while its device cannot. */
export interface Served {
  readonly model: Model
  readonly fallback: Model | null
}

/** That which serves, and the one before it: windows that are in flight at a handover are of that. */
const REMEMBERED_GENERATIONS = 2

/** Which model serves, which came before it, and which is about to: so that every result is told to be of the one that gave it. */
export class ServedModels {
  #engine: { readonly generation: number } = { generation: 0 }
  readonly #served = new Map<number, Served>()

  constructor(model: Model, fallback: Model | null) {
    this.#served.set(0, { model, fallback })
  }

  /** It knows from when on what was prepared serves. */
  watch(engine: { readonly generation: number }): void {
    this.#engine = engine
  }

  /** What new windows go to, and what is told where there is no result. */
  get current(): Model {
    return this.#served.get(this.generation)!.model
  }

  /** Answers while the device of the current model cannot. Null: nothing does. */
  get fallback(): Model | null {
    return this.#served.get(this.generation)!.fallback
  }

  get generation(): number {
    return this.#engine.generation
  }

  /** Call before the engine is given the model: its first results may come before that is known to be done. */
  prepare({ model, fallback }: Served): void {
    this.#served.set(this.generation + 1, { model, fallback })
    this.#served.delete(this.generation - REMEMBERED_GENERATIONS)
  }

  /** What was prepared will not serve. */
  dismiss(): void {
    this.#served.delete(this.generation + 1)
  }

  /** The model that gave a result. @throws when that is more than REMEMBERED_GENERATIONS ago: no window is in flight for so long */
  of({ backend, generation }: Source): Model {
    const served = this.#served.get(generation)
    if (served === undefined)
      throw new Error(`A result of model generation ${generation}, which nobody knows`)
    const { model, fallback } = served
    return fallback?.plan.kind === backend ? fallback : model
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
