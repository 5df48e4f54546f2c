/** What presses on the service at one moment. Shares are of what there can be: 0 nothing, 1 all of it. */
export interface Pressure {
  /** Slots taken, of the ring that has the most room. */
  readonly fill: number
  /** Time until the answer of a window that would come now, of the deadline. Above 1 it would be refused. */
  readonly wait: number
  /** Windows shed within the last second, of those that were asked for. */
  readonly shed: number
  /** How late the main thread comes, ms. */
  readonly lagMs: number
  /** HTTP connections, of those that may be open. */
  readonly connections: number
}

/** What is given up at each level, and at all above it: docs/backpressure.md. */
export const LEVEL = { normal: 0, elevated: 1, degraded: 2, shed: 3, reject: 4 } as const
export type Level = (typeof LEVEL)[keyof typeof LEVEL]

export interface LevelRow {
  readonly level: Level
  readonly name: string
  /** One of these, with all of its values reached, brings the service here from any lower level. */
  readonly enter: readonly Partial<Pressure>[]
  /** One of these keeps it here. */
  readonly stay: readonly Partial<Pressure>[]
  /** With nothing that keeps it here for so long, it goes one level down, ms. */
  readonly dwellMs: number
}

/**
 * Bulk alone fills half of a ring, with 10 ms of work: it must not lead to ELEVATED. DEGRADED and SHED come before the
 * first live window would be late, so that /infer is the last to be refused. A main thread that is late makes the wait
 * longer, and counts by itself only where most windows are shed.
 */
export const LEVELS: readonly LevelRow[] = [
  { level: LEVEL.normal, name: 'NORMAL', enter: [], stay: [], dwellMs: 0 },
  {
    level: LEVEL.elevated,
    name: 'ELEVATED',
    enter: [{ fill: 0.65 }, { wait: 0.65 }, { connections: 0.75 }],
    stay: [{ fill: 0.55 }, { wait: 0.5 }, { connections: 0.65 }],
    dwellMs: 3000,
  },
  {
    level: LEVEL.degraded,
    name: 'DEGRADED',
    enter: [{ fill: 0.8 }, { wait: 0.8 }, { shed: 0.06 }],
    stay: [{ fill: 0.65 }, { wait: 0.65 }, { shed: 0.02 }],
    dwellMs: 3000,
  },
  {
    level: LEVEL.shed,
    name: 'SHED',
    enter: [{ fill: 0.9 }, { wait: 0.9 }, { shed: 0.15 }],
    stay: [{ fill: 0.75 }, { wait: 0.75 }, { shed: 0.05 }],
    dwellMs: 3000,
  },
  {
    // Nobody can connect, a probe neither: so seldom, and not for long.
    level: LEVEL.reject,
    name: 'REJECT',
    enter: [{ connections: 0.9 }, { lagMs: 200, shed: 0.5 }],
    stay: [{ connections: 0.8 }, { lagMs: 100, shed: 0.25 }],
    dwellMs: 1000,
  },
]

/**
 * Which level the service is at. It climbs at once, to whatever level is called for, and goes down one level at a time
 * with a pause before each: whatever the load does, there are at most two changes per pause in the long run.
 */
export class Degradation {
  level: Level = LEVEL.normal
  readonly #rows: readonly LevelRow[]
  /** Since when nothing has kept it at its level, and it has been there. */
  #calmSinceMs = 0

  constructor(rows = LEVELS) {
    this.#rows = rows
  }

  /** @param nowMs monotonic ms */
  update(pressure: Pressure, nowMs: number): Level {
    const wanted = this.#rows.findLast(({ enter }) => isReached(enter, pressure))?.level ?? LEVEL.normal
    const { stay, dwellMs } = this.#rows[this.level]!
    if (wanted > this.level) this.#go(wanted, nowMs)
    else if (isReached(stay, pressure)) this.#calmSinceMs = nowMs
    else if (this.level > LEVEL.normal && nowMs - this.#calmSinceMs >= dwellMs) {
      this.#go((this.level - 1) as Level, nowMs)
    }
    return this.level
  }

  #go(level: Level, nowMs: number): void {
    this.level = level
    this.#calmSinceMs = nowMs
  }
}

function isReached(alternatives: readonly Partial<Pressure>[], pressure: Pressure): boolean {
  return alternatives.some(values =>
    Object.entries(values).every(([name, value]) => pressure[name as keyof Pressure] >= value),
  )
}
