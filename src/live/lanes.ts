import { LATENT_DIMS } from '../core/window.ts'
import { type LaneTick, MOTIF_LETTERS } from './answer.ts'

/** Clients that are shown at a time, with what is posted over HTTP as the first of them. */
export const MAX_LANES = 16
export const CELLS_PER_TICK = 10
/** A client that had no answer for so many ticks gives its lane away. */
const SILENT_TICKS = 10
const HTTP = 0
const NONE = 0

/** What one client got since the last tick. */
class Lane {
  readonly stream: number
  answered = 0
  silentTicks = 0
  /** Per cell its first motif, counted from 1. */
  readonly #cells = new Uint8Array(CELLS_PER_TICK)

  constructor(stream: number) {
    this.stream = stream
  }

  mark(output: Float32Array, cell: number): void {
    this.answered++
    // The first alone: under load the scores are looked at ten times a second, not for every window.
    if (this.#cells[cell] === NONE) this.#cells[cell] = topMotif(output) + 1
  }

  take(): LaneTick {
    const marks = Array.from(this.#cells, cell => (cell === NONE ? '.' : MOTIF_LETTERS[cell - 1])).join('')
    const { stream, answered } = this
    this.answered = 0
    this.#cells.fill(NONE)
    return { stream, answered, marks }
  }
}

/** The motifs of each client's answers since the last tick, in bounded memory. */
export class Lanes {
  readonly #lanes = new Map([[HTTP, new Lane(HTTP)]])
  readonly #cellMs: number
  #tickMs: number
  /** Of the last window: the next is mostly of the same client. */
  #last = this.#lanes.get(HTTP)!
  #hidden = 0

  constructor(tickMs: number, nowMs: number) {
    this.#cellMs = tickMs / CELLS_PER_TICK
    this.#tickMs = nowMs
  }

  /** @param output float32[64 + motifs] */
  mark(stream: number, output: Float32Array, nowMs: number): void {
    const lane = this.#last.stream === stream ? this.#last : this.#laneOf(stream)
    if (lane === undefined) {
      this.#hidden++
      return
    }
    this.#last = lane
    const cell = Math.floor((nowMs - this.#tickMs) / this.#cellMs)
    lane.mark(output, Math.min(Math.max(0, cell), CELLS_PER_TICK - 1))
  }

  /** What was marked since the last time, and how many windows had no lane. Begins the next tick. */
  take(nowMs: number): { lanes: LaneTick[]; hidden: number } {
    const hidden = this.#hidden
    this.#hidden = 0
    this.#tickMs = nowMs
    const lanes: LaneTick[] = []
    for (const lane of this.#lanes.values()) {
      lane.silentTicks = lane.answered > 0 ? 0 : lane.silentTicks + 1
      if (lane.answered > 0) lanes.push(lane.take())
      else if (lane.silentTicks >= SILENT_TICKS && lane.stream !== HTTP) this.#remove(lane)
    }
    return { lanes, hidden }
  }

  #laneOf(stream: number): Lane | undefined {
    const lane = this.#lanes.get(stream)
    if (lane !== undefined || this.#lanes.size === MAX_LANES) return lane
    const made = new Lane(stream)
    this.#lanes.set(stream, made)
    return made
  }

  #remove(lane: Lane): void {
    this.#lanes.delete(lane.stream)
    if (this.#last === lane) this.#last = this.#lanes.get(HTTP)!
  }
}

/** The index of the largest score behind the latent. */
function topMotif(output: Float32Array): number {
  let top = LATENT_DIMS
  for (let index = LATENT_DIMS + 1; index < output.length; index++) {
    if (output[index]! > output[top]!) top = index
  }
  return top - LATENT_DIMS
}
