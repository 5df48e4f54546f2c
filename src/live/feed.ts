import { randomUUID } from 'node:crypto'
import { monotonicMs } from '../clock.ts'
import type { Slot } from '../core/slot.ts'
import type { Engine } from '../engine/engine.ts'
import type { Witness } from '../engine/observer.ts'
import type { InFlight } from '../engine/stream.ts'
import { HistogramRow } from '../tally.ts'
import type { Tick } from './answer.ts'
import { CELLS_PER_TICK, Lanes } from './lanes.ts'

export const TICK_MS = 1000
export const CELL_MS = TICK_MS / CELLS_PER_TICK
/** Ticks that are kept for a page that opens: two minutes, at most 2 KB each. */
export const HISTORY_TICKS = 120
/** Close to each other around 45 ms, where EdgeInfer hangs up. */
export const LATENCY_EDGES_MS = [0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 80, 120, 250]

/** Keeps the last two minutes of what clients got, in ticks of a second, for the live page. */
export class LiveFeed implements Witness {
  readonly process: string = randomUUID()
  readonly #lanes: Lanes
  readonly #latencies = new HistogramRow({}, LATENCY_EDGES_MS)
  readonly #failed = new Map<string, number>()
  #answered = 0
  #waitMs = 0
  /** As JSON, oldest first: each is written once, however many pages ask for it. */
  readonly #ticks: string[] = []
  #nextTick = 0
  #tickedMs: number
  /** Per worker: how long it had been busy when the last tick ended, ms, and its busy share of that tick. */
  #busyMs: readonly number[] = []
  #busy: readonly number[] = []

  constructor(nowMs = monotonicMs()) {
    this.#tickedMs = nowMs
    this.#lanes = new Lanes(TICK_MS, nowMs)
  }

  /** Ends a tick every second, for as long as the process lives. */
  watch(engine: Engine): void {
    setInterval(() => this.tick(engine, monotonicMs()), TICK_MS).unref()
  }

  windowAnswered(window: InFlight, slot: Slot, _settledMs: number, answeredMs: number): void {
    this.#answered++
    this.#latencies.observe(answeredMs - window.arrivedMs)
    const waitMs = slot.queueWaitMs
    if (waitMs > this.#waitMs) this.#waitMs = waitMs
    this.#lanes.mark(window.waiter.origin!.stream, slot.output, answeredMs)
  }

  windowFailed(code: string): void {
    this.#failed.set(code, (this.#failed.get(code) ?? 0) + 1)
  }

  /** Of each worker, share of the last tick. */
  get busy(): readonly number[] {
    return this.#busy
  }

  /** Those after `tick`, as JSON, oldest first. */
  ticksAfter(tick: number): readonly string[] {
    const oldest = this.#nextTick - this.#ticks.length
    return this.#ticks.slice(Math.max(0, tick + 1 - oldest))
  }

  tick({ streams }: Pick<Engine, 'streams'>, nowMs: number): void {
    const spanMs = nowMs - this.#tickedMs
    const busyMs = streams.map(({ counters }) => counters.busyMs)
    // What began in the last tick is told in this one: a little more than all of it, or less than nothing after a reset.
    this.#busy = busyMs.map((ms, worker) =>
      Math.min(1, Math.max(0, (ms - (this.#busyMs[worker] ?? 0)) / spanMs)),
    )
    this.#busyMs = busyMs
    this.#keep({
      tick: this.#nextTick++,
      span_ms: Math.round(spanMs),
      answered: this.#answered,
      latency: [...this.#latencies.counts],
      depth: streams.reduce((sum, { ring }) => sum + ring.inFlight, 0),
      wait_ms: Math.round(this.#waitMs * 100) / 100,
      failed: Object.fromEntries(this.#failed),
      ...this.#lanes.take(nowMs),
    })
    this.#tickedMs = nowMs
    this.#answered = this.#waitMs = 0
    this.#latencies.counts.fill(0)
    this.#failed.clear()
  }

  #keep(tick: Tick): void {
    this.#ticks.push(JSON.stringify(tick))
    if (this.#ticks.length > HISTORY_TICKS) this.#ticks.shift()
  }
}
