import type { Slot } from './core/slot.ts'
import type { Origin, Witness } from './engine/observer.ts'
import type { InFlight } from './engine/stream.ts'

/** Tells everybody who wants to know what each client got. */
export class Witnesses implements Witness {
  readonly #all: readonly Witness[]

  constructor(all: readonly Witness[]) {
    this.#all = all
  }

  windowAnswered(window: InFlight, slot: Slot, settledMs: number, answeredMs: number): void {
    for (const witness of this.#all) witness.windowAnswered(window, slot, settledMs, answeredMs)
  }

  windowFailed(code: string, origin: Origin): void {
    for (const witness of this.#all) witness.windowFailed(code, origin)
  }
}
