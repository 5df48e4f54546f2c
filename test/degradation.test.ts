import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Degradation, LEVEL, LEVELS, type Level, type Pressure } from '../src/core/degradation.ts'

const LOOK_MS = 50
const CALM: Pressure = { fill: 0, wait: 0, shed: 0, lagMs: 0, connections: 0 }
const CONDITIONS = LEVELS.flatMap(({ level, name, enter }) =>
  enter.map(values => ({ level, name, values, words: JSON.stringify(values) })),
)
const LONGEST_FALL_MS = LEVELS.reduce((sum, { dwellMs }) => sum + dwellMs + LOOK_MS, 0)

test('LEVELS are numbered in their order, each from the lowest on', () => {
  expect(LEVELS.map(({ level, name }) => [level, name])).toEqual([
    [0, 'NORMAL'],
    [1, 'ELEVATED'],
    [2, 'DEGRADED'],
    [3, 'SHED'],
    [4, 'REJECT'],
  ])
})

test('what keeps a level is less than what leads to it, for each of its conditions', () => {
  for (const { enter, stay } of LEVELS) {
    expect(stay.map(values => Object.keys(values))).toEqual(enter.map(values => Object.keys(values)))
    for (const [index, values] of enter.entries()) {
      for (const [name, value] of Object.entries(values)) {
        expect(stay[index]![name as keyof Pressure]).toBeLessThan(value)
      }
    }
  }
})

describe.each(CONDITIONS)('$name by $words', ({ level, values }) => {
  test('is reached at once, from NORMAL', () => {
    expect(new Degradation().update({ ...CALM, ...values }, 0)).toBe(level)
  })

  test('is not reached by a little less of any of it', () => {
    for (const [name, value] of Object.entries(values)) {
      const less = { ...CALM, ...values, [name]: value * 0.99 }
      expect(new Degradation().update(less, 0)).toBeLessThan(level)
    }
  })

  test('goes as it came, a level at a time and each after its pause', () => {
    const degradation = new Degradation()
    degradation.update({ ...CALM, ...values }, 0)
    const changes = run(degradation, LONGEST_FALL_MS, () => CALM)
    expect(changes.map(({ to }) => to)).toEqual(Array.from({ length: level }, (_, step) => level - 1 - step))
    let lastMs = 0
    for (const { from, atMs } of changes) {
      expect(atMs - lastMs).toBeGreaterThanOrEqual(LEVELS[from]!.dwellMs)
      lastMs = atMs
    }
  })
})

test('a load between the two thresholds keeps the level for ever, and calls for none', () => {
  for (const { level, enter, stay, dwellMs } of LEVELS) {
    for (const [index, values] of stay.entries()) {
      const between = { ...CALM, ...values }
      expect(new Degradation().update(between, 0)).toBeLessThan(level)
      const degradation = new Degradation()
      degradation.update({ ...CALM, ...enter[index] }, 0)
      expect(run(degradation, 5 * dwellMs, () => between)).toEqual([])
    }
  }
})

describe.each([50, 100, 250, 500, 1000, 2000, 3000, 5000])('a square wave of %i ms', periodMs => {
  test.each(CONDITIONS.filter(({ level }) => level < LEVEL.reject))(
    'of $words brings $name, and no change after that',
    ({ level, values }) => {
      const high = { ...CALM, ...values }
      // Looked at a little beside its edges, as a timer is never in step with a load.
      const changes = run(new Degradation(), 60_000, ms => ((ms + 7) % periodMs < periodMs / 2 ? high : CALM))
      expect(changes.map(({ to }) => to)).toEqual([level])
    },
  )

  test('of connections, whose level is left soon, changes it twice in its pause and a half at most', () => {
    const high = { ...CALM, connections: 1 }
    const changes = run(new Degradation(), 60_000, ms => ((ms + 7) % periodMs < periodMs / 2 ? high : CALM))
    expect(changes.length).toBeLessThanOrEqual(1 + (2 * 60_000) / Math.max(periodMs, 2000))
    for (const { to } of changes) expect(to).toBeGreaterThanOrEqual(LEVEL.shed)
  })
})

// The control: what the two thresholds and the pauses are for.
test('without hysteresis a square wave changes the level at every edge', () => {
  const rows = LEVELS.map(row => ({ ...row, stay: row.enter, dwellMs: 0 }))
  const high = { ...CALM, fill: 0.95 }
  const changes = run(new Degradation(rows), 60_000, ms => ((ms + 7) % 1000 < 500 ? high : CALM))
  expect(changes.length).toBeGreaterThan(100)
})

const share = fc.double({ min: 0, max: 1.5, noNaN: true })
const pressure: fc.Arbitrary<Pressure> = fc.record({
  fill: share,
  wait: share,
  shed: share,
  lagMs: fc.double({ min: 0, max: 400, noNaN: true }),
  connections: share,
})
/** How long each pressure lasts, ms. */
const load = fc.array(fc.tuple(pressure, fc.integer({ min: 1, max: 8000 })), { minLength: 1, maxLength: 30 })

test('whatever the load, no level is left before its pause, none is passed over on the way down, and calm ends at NORMAL', () => {
  fc.assert(
    fc.property(load, phases => {
      const degradation = new Degradation()
      let nowMs = 0
      const changes: Change[] = []
      for (const [pressure, lastsMs] of [...phases, [CALM, LONGEST_FALL_MS] as const]) {
        changes.push(...run(degradation, lastsMs, () => pressure, nowMs))
        nowMs += lastsMs
      }
      let lastMs = 0
      for (const { from, to, atMs } of changes) {
        if (to < from) {
          expect(to).toBe(from - 1)
          expect(atMs - lastMs).toBeGreaterThanOrEqual(LEVELS[from]!.dwellMs)
        }
        lastMs = atMs
      }
      expect(degradation.level).toBe(LEVEL.normal)
    }),
  )
})

test('whatever the load, a level that is called for is reached at that look', () => {
  fc.assert(
    fc.property(fc.array(pressure, { minLength: 1, maxLength: 50 }), pressures => {
      const degradation = new Degradation()
      for (const [look, pressure] of pressures.entries()) {
        const wanted = new Degradation().update(pressure, 0)
        expect(degradation.update(pressure, look * LOOK_MS)).toBeGreaterThanOrEqual(wanted)
      }
    }),
  )
})

interface Change {
  readonly from: Level
  readonly to: Level
  readonly atMs: number
}

/** Looks at a load for so long. Returns what that changed. */
function run(degradation: Degradation, forMs: number, load: (ms: number) => Pressure, fromMs = 0): Change[] {
  const changes: Change[] = []
  for (let ms = fromMs; ms <= fromMs + forMs; ms += LOOK_MS) {
    const from = degradation.level
    const to = degradation.update(load(ms), ms)
    if (to !== from) changes.push({ from, to, atMs: ms })
  }
  return changes
}
