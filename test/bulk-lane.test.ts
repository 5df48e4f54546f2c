import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { monotonicMs } from '../src/clock.ts'
import { LEVEL, type Level } from '../src/core/degradation.ts'
import { Ring } from '../src/core/ring.ts'
import { BulkLane, type BulkSource } from '../src/engine/bulk-lane.ts'
import { LoadWatch } from '../src/engine/load-watch.ts'
import { Stream } from '../src/engine/stream.ts'
import { until } from './load.ts'
import { MOTIF_COUNT } from './windows.ts'

const CAPACITY = 64

// A turn of the lane is bounded in time.
beforeEach(() => void vi.useFakeTimers({ toFake: ['hrtime'] }))
afterEach(() => void vi.useRealTimers())

test('a lane fills half of a ring where nobody is live, and a quarter for a second after a live window', () => {
  const { lane, load, stream, end } = laneOf()
  lane.offer(sourceOf(1000))
  expect(stream.ring.inFlight).toBe(CAPACITY / 2)

  load.sawLive(monotonicMs())
  end(stream.ring.inFlight)
  expect(stream.ring.inFlight).toBe(CAPACITY / 4)
  vi.advanceTimersByTime(900)
  end(1)
  expect(stream.ring.inFlight).toBe(CAPACITY / 4)
  vi.advanceTimersByTime(200)
  end(stream.ring.inFlight)
  expect(stream.ring.inFlight).toBe(CAPACITY / 2)
})

test('beside live windows a lane fills whatever room comes, else only half of its share and more', () => {
  const { lane, load, stream, end } = laneOf()
  lane.offer(sourceOf(1000))
  end(CAPACITY / 4 - 1)
  expect(stream.ring.inFlight).toBe(CAPACITY / 4 + 1)
  end(1)
  expect(stream.ring.inFlight).toBe(CAPACITY / 2)

  load.sawLive(monotonicMs())
  end(CAPACITY / 4 + 1)
  expect(stream.ring.inFlight).toBe(CAPACITY / 4)
  end(1)
  expect(stream.ring.inFlight).toBe(CAPACITY / 4)
})

test('sources take turns, a window each, and so do streams', () => {
  const { lane, streams } = laneOf({ streams: 2 })
  const few = sourceOf(3)
  const many = sourceOf(1000)
  const submitted: BulkSource[] = []
  const blocked = sourceOf(1)
  blocked.submitNext.mockImplementation(() => {
    // While the lane is at it, others come.
    for (const source of [many, few]) lane.offer(source)
    return false
  })
  for (const source of [few, many]) {
    const { submitNext } = source
    source.submitNext = vi.fn((stream, nowMs) => {
      submitted.push(source)
      return submitNext(stream, nowMs)
    })
  }
  lane.offer(blocked)
  expect(submitted.slice(0, 8)).toEqual([many, few, many, few, many, few, many, many])
  for (const { ring } of streams) expect(ring.inFlight).toBe(CAPACITY / 2)
})

test('workers are woken when their share is filled, not once per window', () => {
  const { lane, stream } = laneOf()
  const wake = vi.spyOn(stream.ring, 'wakeWorker')
  lane.offer(sourceOf(1000))
  expect(wake).toHaveBeenCalledTimes(1)
})

test('from DEGRADED on a lane lets four windows in after each tenth of a second, however much room there is', async () => {
  const { lane, stream } = laneOf({ level: LEVEL.degraded })
  lane.offer(sourceOf(1000))
  for (const windows of [4, 8]) {
    vi.advanceTimersByTime(90)
    await sleep(10)
    expect(stream.ring.inFlight).toBe(windows - 4)
    vi.advanceTimersByTime(20)
    await until(() => stream.ring.inFlight > windows - 4)
    expect(stream.ring.inFlight).toBe(windows)
  }
})

/** A lane to streams of 0.1 ms a window, whose workers do nothing until end(). */
function laneOf({ streams: count = 1, level = LEVEL.normal as Level } = {}) {
  let lane: BulkLane | null = null
  const observer = {
    inferenceEnded: () => {},
    cancelled: () => {},
    windowAnswered: () => {},
    settled: () => lane?.pump(),
  }
  const streams = Array.from({ length: count }, () => {
    const stream = new Stream({ capacity: CAPACITY, motifCount: MOTIF_COUNT, observer })
    new Ring(stream.ring.buffer, MOTIF_COUNT).setServing('stub')
    vi.spyOn(stream, 'load').mockImplementation(() => {
      const { inFlight, capacity } = stream.ring
      return { inFlight, ahead: inFlight, capacity, serviceMs: 0.1, overheadMs: 0, stalledMs: 0 }
    })
    return stream
  })
  const load = new LoadWatch(streams)
  vi.spyOn(load, 'level', 'get').mockReturnValue(level)
  lane = new BulkLane(streams, load)
  const stream = streams[0]!
  const end = (windows: number) => {
    for (let left = windows; left > 0; left--) {
      const { completed } = stream.ring
      stream.ring.slot(completed).take(0)
      stream.ring.slot(completed).finish('ok', 'stub', 0)
      stream.ring.complete(completed)
    }
    stream.settleCompleted()
  }
  return { lane, load, streams, stream, end }
}

function sourceOf(windows: number) {
  let left = windows
  onTestFinished(() => {
    left = 1
  })
  return {
    submitNext: vi.fn<BulkSource['submitNext']>(stream => {
      publish(stream)
      return --left > 0
    }),
  }
}

function publish(stream: Stream): void {
  stream.publish({ arrivedMs: 0, deadlineMs: Number.POSITIVE_INFINITY }, { settle: () => {} })
}
