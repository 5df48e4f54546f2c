import { monotonicMs } from '../clock.ts'
import { LEVEL, type Level } from '../core/degradation.ts'
import type { Slot } from '../core/slot.ts'
import type { Origin, Witness } from '../engine/observer.ts'
import type { InFlight } from '../engine/stream.ts'
import type { TelemetryCounters } from './counters.ts'
import { Pace } from './pace.ts'
import { FOR_LINE, FOR_LOOK, type RecordRing } from './record-ring.ts'

/** Windows that are looked at, whether they get a line or not: 200 a second, more than ten dogs bring. */
const LOOKS = { everyMs: 5, burst: 100 }
/** Errors that get a line whatever the sample is: a refused flood of them must not fill the disk. */
const ERRORS = { everyMs: 10, burst: 1000 }
/** Under load, one answer of so many gets a line. */
const LINES_PER_ONE_KEPT = 10

/** Takes down what each client got, for the thread that writes it. Costs a copy; what does not fit is dropped and counted. */
export class Recorder implements Witness {
  readonly #ring: RecordRing
  readonly #counters: TelemetryCounters
  readonly #sample: number
  readonly #looks = new Pace(LOOKS)
  readonly #errors = new Pace(ERRORS)
  #load: { readonly level: Level } = { level: LEVEL.normal }
  /** Answers since the last line that got none because of the load. */
  #passedOver = 0

  /** @param sample the share of answers that get a line, 0 to 1 */
  constructor(ring: RecordRing, counters: TelemetryCounters, sample: number) {
    this.#ring = ring
    this.#counters = counters
    this.#sample = sample
  }

  /** From here on takes down less when that is under load. */
  watch(load: { readonly level: Level }): void {
    this.#load = load
  }

  windowAnswered(window: InFlight, slot: Slot, settledMs: number, answeredMs: number): void {
    // What the stub says of a window tells nothing about it.
    const look = slot.backend !== 'stub' && this.#looks.take(answeredMs)
    const purposes = (this.#sampled() && this.#hasTime() ? FOR_LINE : 0) | (look ? FOR_LOOK : 0)
    if (purposes === 0) return
    const times = { arrivedMs: window.arrivedMs, settledMs, answeredMs }
    const put = this.#ring.putAnswer(window.waiter.origin!, slot, purposes, times)
    if (!put) this.#counters.countDropped('queue_full')
  }

  windowFailed(code: string, origin: Origin): void {
    const nowMs = monotonicMs()
    if (!this.#errors.take(nowMs) && !this.#sampled()) return
    if (!this.#ring.putError(origin, code, nowMs)) this.#counters.countDropped('queue_full')
  }

  /** Whether an answer gets its line: from ELEVATED on, one of some. */
  #hasTime(): boolean {
    if (this.#load.level < LEVEL.elevated) return true
    this.#passedOver = (this.#passedOver + 1) % LINES_PER_ONE_KEPT
    if (this.#passedOver === 0) return true
    this.#counters.countDropped('sampled')
    return false
  }

  #sampled(): boolean {
    return this.#sample === 1 || Math.random() < this.#sample
  }
}
