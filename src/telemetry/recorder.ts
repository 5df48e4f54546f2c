import { monotonicMs } from '../clock.ts'
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

/** Takes down what each client got, for the thread that writes it. Costs a copy; what does not fit is dropped and counted. */
export class Recorder implements Witness {
  readonly #ring: RecordRing
  readonly #counters: TelemetryCounters
  readonly #sample: number
  readonly #looks = new Pace(LOOKS)
  readonly #errors = new Pace(ERRORS)

  /** @param sample the share of answers that get a line, 0 to 1 */
  constructor(ring: RecordRing, counters: TelemetryCounters, sample: number) {
    this.#ring = ring
    this.#counters = counters
    this.#sample = sample
  }

  windowAnswered(window: InFlight, slot: Slot, settledMs: number, answeredMs: number): void {
    // What the stub says of a window tells nothing about it.
    const look = slot.backend !== 'stub' && this.#looks.take(answeredMs)
    const purposes = (this.#sampled() ? FOR_LINE : 0) | (look ? FOR_LOOK : 0)
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

  #sampled(): boolean {
    return this.#sample === 1 || Math.random() < this.#sample
  }
}
