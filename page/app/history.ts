import type { Live, Tick } from '../../src/live/answer.ts'

/** Where EdgeInfer hangs up. */
export const LIMIT_MS = 45

/** What the server has told so far, bounded by what it keeps itself. */
export class History {
  #process: string | null = null
  #ticks: Tick[] = []
  #latest: Live | null = null

  get latest(): Live | null {
    return this.#latest
  }

  get ticks(): readonly Tick[] {
    return this.#ticks
  }

  /** Number of the last tick that is known, -1 before the first. */
  get lastTick(): number {
    return this.#ticks.at(-1)?.tick ?? -1
  }

  /** From another process than what is known, it makes all of that forgotten, and what it brings may begin anywhere. */
  add(answer: Live): void {
    const restarted = this.#process !== null && this.#process !== answer.process
    this.#ticks = restarted ? [] : [...this.#ticks, ...answer.ticks].slice(-answer.history)
    this.#process = answer.process
    this.#latest = answer
  }
}

/** Answered windows per bucket, and what they say, of several ticks together. */
export class Latencies {
  readonly counts: readonly number[]
  readonly #edges: readonly number[]

  constructor(ticks: readonly Tick[], edgesMs: readonly number[]) {
    this.#edges = edgesMs
    this.counts = [...edgesMs, Infinity].map((_, bucket) =>
      ticks.reduce((sum, { latency }) => sum + latency[bucket]!, 0),
    )
  }

  get total(): number {
    return this.counts.reduce((sum, count) => sum + count, 0)
  }

  /** By linear interpolation within its bucket; of the open one its lower edge. Null when there is nothing. */
  percentile(share: number): number | null {
    let left = this.total * share
    if (left === 0) return null
    for (const [bucket, count] of this.counts.entries()) {
      const from = this.#edges[bucket - 1] ?? 0
      if (count > 0 && left <= count) return from + ((this.#edges[bucket] ?? from) - from) * (left / count)
      left -= count
    }
    return this.#edges.at(-1)!
  }

  /** Share of those that took longer than `ms`, which is an edge. */
  above(ms: number): number {
    const late = this.counts.slice(this.#edges.indexOf(ms) + 1).reduce((sum, count) => sum + count, 0)
    return this.total === 0 ? 0 : late / this.total
  }
}

/** How many a second, over several ticks. */
export function perSecond(ticks: readonly Tick[], count: (tick: Tick) => number): number {
  const spanMs = ticks.reduce((sum, { span_ms }) => sum + span_ms, 0)
  return spanMs === 0 ? 0 : (ticks.reduce((sum, tick) => sum + count(tick), 0) * 1000) / spanMs
}

export function shedOf({ failed: { overloaded = 0 } }: Tick): number {
  return overloaded
}

/** All errors but what was shed. */
export function failedOf(tick: Tick): number {
  return Object.values(tick.failed).reduce((sum, count) => sum + count, 0) - shedOf(tick)
}
