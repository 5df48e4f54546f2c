import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import type { StreamLoad } from '../src/core/admission.ts'
import { LEVEL } from '../src/core/degradation.ts'
import { Ring } from '../src/core/ring.ts'
import { type LevelChange, LoadWatch } from '../src/engine/load-watch.ts'
import { Stream } from '../src/engine/stream.ts'
import { MOTIF_COUNT } from './windows.ts'

const LOOK_MS = 50
const DEADLINE_MS = 40
const IDLE: StreamLoad = { inFlight: 0, ahead: 0, capacity: 64, serviceMs: 0.1, overheadMs: 0, stalledMs: 0 }
const FULL: StreamLoad = { ...IDLE, inFlight: 64, ahead: 64 }

const clock = vi.hoisted(() => ({ ms: 1000 }))
vi.mock('../src/clock.ts', () => ({ monotonicMs: () => clock.ms }))
beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }))
afterEach(() => void vi.useRealTimers())

test('a full ring is no load while another has room, and is one within 0.3 s when none has', () => {
  const { watch, loads, pass } = watchOf(2)
  loads[0] = FULL
  pass(2000)
  expect(watch.level).toBe(LEVEL.normal)
  loads[1] = FULL
  pass(300)
  expect(watch.level).toBe(LEVEL.shed)
})

test('a ring that no worker serves is passed over, and where none is served load is not what is wrong', () => {
  const { watch, loads, rings, pass } = watchOf(2)
  loads[0] = FULL
  rings[1]!.setServing(null)
  pass(300)
  expect(watch.level).toBe(LEVEL.shed)
  rings[0]!.setServing(null)
  pass(10_000)
  expect(watch.level).toBe(LEVEL.normal)
})

test('the wait counts against the deadline, but not that of a stream with nothing ahead, whatever its record', () => {
  const { watch, loads, pass } = watchOf(1)
  loads[0] = { ...IDLE, serviceMs: 2 * DEADLINE_MS }
  pass(2000)
  expect(watch.level).toBe(LEVEL.normal)
  loads[0] = { ...IDLE, inFlight: 2, ahead: 2, serviceMs: DEADLINE_MS / 3 }
  pass(500)
  expect(watch.level).toBe(LEVEL.shed)
})

test('what has come when one look is made, and is gone at the next, is no load', () => {
  const { watch, loads, pass } = watchOf(1)
  for (let burst = 0; burst < 20; burst++) {
    loads[0] = FULL
    pass(LOOK_MS)
    loads[0] = IDLE
    pass(5 * LOOK_MS)
  }
  expect(watch.level).toBe(LEVEL.normal)
})

test('one window shed within a second is no load, a few of few are, and so is a share of many', () => {
  const { watch, publish, shed, pass } = watchOf(1)
  for (let second = 0; second < 5; second++) {
    shed(1)
    pass(1050)
  }
  expect(watch.level).toBe(LEVEL.normal)
  publish(60)
  shed(3)
  pass(LOOK_MS)
  expect(watch.level).toBe(LEVEL.normal)
  shed(1)
  pass(LOOK_MS)
  expect(watch.level).toBe(LEVEL.degraded)
  shed(8)
  pass(LOOK_MS)
  expect(watch.level).toBe(LEVEL.shed)
})

test('windows that are shed for a deadline shorter than the own are no load', () => {
  const { watch, shed, pass } = watchOf(1)
  shed(100, { waitMs: DEADLINE_MS - 1 })
  pass(LOOK_MS)
  expect(watch.level).toBe(LEVEL.normal)
  shed(100)
  pass(LOOK_MS)
  expect(watch.level).toBe(LEVEL.shed)
})

test('what was shed more than a second ago is forgotten, however seldom the main thread comes to look', () => {
  const { watch, shed, pass } = watchOf(1)
  shed(100)
  pass(LOOK_MS)
  expect(watch.level).toBe(LEVEL.shed)
  pass(10 * LOOK_MS, { lateMs: 1000 })
  expect(watch.level).toBeLessThan(LEVEL.shed)
})

test('a ring that bulk alone keeps full and slow is no load, from a second after the last live window on', () => {
  const { watch, loads, pass } = watchOf(1)
  loads[0] = { ...FULL, serviceMs: DEADLINE_MS }
  pass(10_000, { withLive: false })
  expect(watch.level).toBe(LEVEL.normal)
  pass(500)
  expect(watch.level).toBe(LEVEL.shed)
  pass(15_000, { withLive: false })
  expect(watch.level).toBe(LEVEL.normal)
})

test('a main thread that is late closes the door where most windows are shed as well; neither does alone, nor one pause', () => {
  const late = { lateMs: 400 }
  const { watch, shed, pass } = watchOf(1)
  pass(10 * LOOK_MS, late)
  expect(watch.level).toBe(LEVEL.normal)
  pass(10_000)
  shed(20)
  pass(LOOK_MS, late)
  expect(watch.level).toBe(LEVEL.shed)
  pass(LOOK_MS, late)
  expect(watch.level).toBe(LEVEL.reject)
})

test('each change is told with what led to it, and nothing else is', () => {
  const { changes, facts, pass } = watchOf(1)
  facts.connections = 0.95
  pass(500)
  expect(changes).toEqual([{ from: 0, to: 4, pressure: expect.objectContaining({ connections: 0.95 }) }])
  facts.connections = 0.1
  pass(15_000)
  expect(changes.slice(1).map(({ from, to }) => [from, to])).toEqual([
    [4, 3],
    [3, 2],
    [2, 1],
    [1, 0],
  ])
})

/** Streams whose loads the test sets. */
function watchOf(count: number) {
  const observer = {
    inferenceEnded: () => {},
    cancelled: () => {},
    windowAnswered: () => {},
    settled: () => {},
  }
  const loads: StreamLoad[] = new Array(count).fill(IDLE)
  const streams = loads.map((_, index) => {
    const stream = new Stream({ capacity: 64, motifCount: MOTIF_COUNT, observer })
    new Ring(stream.ring.buffer, MOTIF_COUNT).setServing('stub')
    vi.spyOn(stream, 'load').mockImplementation(() => loads[index]!)
    return stream
  })
  const changes: LevelChange[] = []
  const facts = { connections: 0 }
  const watch = new LoadWatch(streams)
  watch.watch({
    deadlineMs: DEADLINE_MS,
    connections: () => facts.connections,
    observer: { levelChanged: change => void changes.push(change) },
  })
  onTestFinished(() => watch.stop())
  return {
    watch,
    loads,
    rings: streams.map(({ ring }) => ring),
    changes,
    facts,
    publish(windows: number) {
      const stream = streams[0]!
      for (let n = 0; n < windows; n++) {
        stream.publish({ arrivedMs: clock.ms, deadlineMs: clock.ms + DEADLINE_MS }, { settle: () => {} })
      }
    },
    shed(windows: number, { waitMs = DEADLINE_MS + 1 } = {}) {
      for (let n = 0; n < windows; n++) watch.countShed(waitMs)
    },
    /** Lets time pass, a look at a time. @param lateMs how much later than it should each comes @param withLive windows come all the time */
    pass(forMs: number, { lateMs = 0, withLive = true } = {}) {
      for (let ms = 0; ms < forMs; ms += LOOK_MS) {
        clock.ms += LOOK_MS + lateMs
        if (withLive) watch.sawLive(clock.ms)
        vi.advanceTimersByTime(LOOK_MS)
      }
    },
  }
}
