import { monotonicMs } from '../clock.ts'
import { predictedWaitMs } from '../core/admission.ts'
import { Degradation, type Level, type Pressure } from '../core/degradation.ts'
import { distance } from '../core/ring.ts'
import type { Stream } from './stream.ts'

const LOOK_INTERVAL_MS = 50
/** One look finds a batch that has just come, the next one none of it: rings are taken as they are over so long, ms. */
const RING_SMOOTHING_MS = 100
/** One pause of the main thread is none of the load's doing. */
const LAG_SMOOTHING_MS = 1000
const SHED_MS = 1000
/** For so long after a live window more of them are expected. */
const LIVE_MS = 1000
/** Fewer windows than so many within a second are taken for so many: one of them that was shed is no overload. */
const FEWEST_ASKED = 20

/** What one look found that had been asked for since the last. */
interface Asked {
  readonly lookedMs: number
  shed: number
  admitted: number
}

/** From one level to another, and what pressed on the service then. */
export interface LevelChange {
  readonly from: Level
  readonly to: Level
  readonly pressure: Pressure
}

export interface LoadFacts {
  /** Until when an answer is of use, unless the client says otherwise. */
  readonly deadlineMs: number
  /** HTTP connections, of those that may be open. */
  readonly connections: () => number
  readonly observer: { levelChanged(change: LevelChange): void }
}

/** Looks twenty times a second how hard the service is pressed, and keeps the level that follows from it. */
export class LoadWatch {
  readonly #streams: readonly Stream[]
  readonly #degradation = new Degradation()
  #timer: NodeJS.Timeout | undefined
  #lookedMs = 0
  #fill = 0
  #wait = 0
  #lagMs = 0
  #deadlineMs = Number.POSITIVE_INFINITY
  /** When a live window last came. */
  #liveMs = Number.NEGATIVE_INFINITY
  /** Since the last look. */
  #shed = 0
  /** What each ring had published at the last look. */
  #published: readonly number[]
  /** Of the last second, the oldest first. */
  readonly #asked: Asked[] = []

  constructor(streams: readonly Stream[]) {
    this.#streams = streams
    this.#published = streams.map(({ ring }) => ring.published)
  }

  /** NORMAL until it is watched. */
  get level(): Level {
    return this.#degradation.level
  }

  /** What DEADLINE_MS says; until it is watched there is none. */
  get deadlineMs(): number {
    return this.#deadlineMs
  }

  /** A live window came, whatever becomes of it. */
  sawLive(nowMs: number): void {
    this.#liveMs = nowMs
  }

  /** Whether anybody is there who would have to wait behind bulk. */
  expectsLive(nowMs: number): boolean {
    return nowMs - this.#liveMs < LIVE_MS
  }

  /**
   * A live window was shed. No client makes load by being in a hurry: one that would have met DEADLINE_MS is not counted.
   * @param waitMs from its arrival to the answer that it would have got
   */
  countShed(waitMs: number): void {
    if (waitMs > this.#deadlineMs) this.#shed++
  }

  /** From here on until stop(). */
  watch(facts: LoadFacts): void {
    this.#deadlineMs = facts.deadlineMs
    this.#lookedMs = monotonicMs()
    this.#timer = setInterval(() => this.#look(facts, monotonicMs()), LOOK_INTERVAL_MS).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #look(facts: LoadFacts, nowMs: number): void {
    const pressure = this.#measure(facts, nowMs)
    const from = this.level
    const to = this.#degradation.update(pressure, nowMs)
    if (to !== from) facts.observer.levelChanged({ from, to, pressure })
  }

  #measure({ connections }: LoadFacts, nowMs: number): Pressure {
    const tookMs = nowMs - this.#lookedMs
    this.#lookedMs = nowMs
    const { fill, wait } = this.#ringsNow(nowMs)
    const ringWeight = weightOf(tookMs, RING_SMOOTHING_MS)
    this.#fill += ringWeight * (fill - this.#fill)
    this.#wait += ringWeight * (wait - this.#wait)
    const lateMs = Math.max(0, tookMs - LOOK_INTERVAL_MS)
    this.#lagMs += weightOf(tookMs, LAG_SMOOTHING_MS) * (lateMs - this.#lagMs)
    return {
      fill: this.#fill,
      wait: this.#wait,
      shed: this.#shedShare(nowMs),
      lagMs: this.#lagMs,
      connections: connections(),
    }
  }

  /**
   * Of the ring that a window would go into. Where no worker has a model, load is not what is wrong; and bulk alone,
   * which fills what it is given, keeps nobody waiting.
   */
  #ringsNow(nowMs: number): Pick<Pressure, 'fill' | 'wait'> {
    if (!this.expectsLive(nowMs)) return { fill: 0, wait: 0 }
    const loads = this.#streams.filter(({ ring }) => ring.serving !== null).map(stream => stream.load(nowMs))
    if (loads.length === 0) return { fill: 0, wait: 0 }
    return {
      fill: Math.min(...loads.map(({ inFlight, capacity }) => inFlight / capacity)),
      // One with nothing ahead takes a window whatever its record says.
      wait: Math.min(...loads.map(load => (load.ahead === 0 ? 0 : predictedWaitMs(load) / this.#deadlineMs))),
    }
  }

  #shedShare(nowMs: number): number {
    const before = this.#published
    this.#published = this.#streams.map(({ ring }) => ring.published)
    const admitted = this.#published.reduce((sum, now, index) => sum + distance(before[index]!, now), 0)
    this.#asked.push({ lookedMs: nowMs, shed: this.#shed, admitted })
    this.#shed = 0
    while (nowMs - this.#asked[0]!.lookedMs >= SHED_MS) this.#asked.shift()
    let shed = 0
    let asked = 0
    for (const look of this.#asked) {
      shed += look.shed
      asked += look.shed + look.admitted
    }
    return shed / Math.max(FEWEST_ASKED, asked)
  }
}

/** How much a measurement counts that stands for so long. */
function weightOf(tookMs: number, smoothingMs: number): number {
  return 1 - Math.exp(-tookMs / smoothingMs)
}
