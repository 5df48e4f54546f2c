import { describe, expect, test } from 'vitest'
import {
  predictedWaitMs,
  refusal,
  roomForBulk,
  ServiceEstimate,
  type StreamLoad,
} from '../src/core/admission.ts'

const DEADLINE_MS = 40

test('predictedWaitMs() is the overhead, a service time for each window ahead and for this one, and the stall', () => {
  expect(predictedWaitMs(loadOf({ inFlight: 0, serviceMs: 2 }))).toBe(2)
  expect(predictedWaitMs(loadOf({ inFlight: 9, serviceMs: 2, overheadMs: 5, stalledMs: 100 }))).toBe(125)
})

describe('refusal()', () => {
  test('admits up to the deadline and refuses beyond it, by the same wait', () => {
    const load = loadOf({ inFlight: 18, serviceMs: 2, overheadMs: 2 })
    expect(refusal(load, 40)).toBeNull()
    expect(refusal(load, 39)).toEqual({ reason: 'wait_too_long', retryAfterMs: 1 })
    expect(refusal({ ...load, ahead: 19 }, 40)).toEqual({ reason: 'wait_too_long', retryAfterMs: 2 })
  })

  test('of a full ring comes even if there were time enough, and asks for one service time', () => {
    const load = loadOf({ inFlight: 64, serviceMs: 0.5 })
    expect(refusal(load, 1000)).toEqual({ reason: 'ring_full', retryAfterMs: 0.5 })
    expect(refusal(load, 30.5)).toEqual({ reason: 'ring_full', retryAfterMs: 2 })
  })

  test('never comes from an idle stream, however bad its estimate', () => {
    for (const load of loads()) expect(refusal({ ...load, inFlight: 0, ahead: 0 }, 0.001)).toBeNull()
  })

  test('does not come for windows that the worker has completed, though they still have their slots', () => {
    const load = loadOf({ inFlight: 60, ahead: 2, serviceMs: 2 })
    expect(predictedWaitMs(load)).toBe(6)
    expect(refusal(load, 6)).toBeNull()
    expect(refusal({ ...load, ahead: 0, stalledMs: 100 }, 6)).toBeNull()
  })

  test('always comes from a full ring, with a time to wait', () => {
    for (const load of loads()) {
      const refused = refusal({ ...load, inFlight: load.capacity }, DEADLINE_MS)
      expect(refused?.reason).toBe('ring_full')
      expect(refused?.retryAfterMs).toBeGreaterThanOrEqual(load.serviceMs)
    }
  })

  test('names the time after which the same estimate admits, and not a later one', () => {
    let refusals = 0
    for (const load of loads()) {
      const refused = refusal(load, DEADLINE_MS)
      if (refused === null) continue
      refusals++
      expect(refusal(load, DEADLINE_MS + refused.retryAfterMs)).toBeNull()
      expect(refusal(load, DEADLINE_MS + refused.retryAfterMs - 0.25)).not.toBeNull()
    }
    expect(refusals).toBeGreaterThan(1000)
  })
})

describe('ServiceEstimate', () => {
  test('moves by a fiftieth of the difference with one window, and by each one of a batch', () => {
    const one = new ServiceEstimate()
    one.update({ count: 1, busyMs: 3, latencyMs: 12.08, position: 2 })
    expect(one.serviceMs).toBeCloseTo(1 + 2 * 0.02, 12)
    expect(one.overheadMs).toBeCloseTo((12.08 - 2 * 1.04) * 0.02, 12)

    const batch = new ServiceEstimate()
    batch.update({ count: 16, busyMs: 48, latencyMs: 50, position: 16 })
    expect(batch.serviceMs).toBeCloseTo(1 + 2 * (1 - 0.98 ** 16), 12)
  })

  test('learns the service time and what comes on top of it', () => {
    const { serviceMs, overheadMs } = learnt({ serviceMs: 0.5, overheadMs: 3 })
    expect(serviceMs).toBeCloseTo(0.5, 3)
    expect(overheadMs).toBeCloseTo(3, 2)
  })

  test('never takes an answer that came early for a negative overhead', () => {
    const estimate = new ServiceEstimate()
    estimate.update({ count: 1, busyMs: 1, latencyMs: 0, position: 64 })
    expect(estimate.overheadMs).toBe(0)
  })

  test.each([
    [0.05, 1],
    [0.05, 16],
    [1, 1],
    [1, 16],
  ])(
    'one stall of a second at %d ms per window, in a batch of %d, does not close the door',
    (serviceMs, count) => {
      const estimate = learnt({ serviceMs, overheadMs: 0.2 })
      estimate.update({ count, busyMs: 1000, latencyMs: 1001, position: count })
      expect(refusal(loadOf({ ...estimate, inFlight: 1 }), DEADLINE_MS)).toBeNull()
    },
  )

  test('a stream that has become slow is known for it after some hundred windows', () => {
    const estimate = learnt({ serviceMs: 0.05, overheadMs: 0.2 })
    for (let n = 0; n < 200; n++) estimate.update({ count: 1, busyMs: 10, latencyMs: 110, position: 10 })
    expect(estimate.serviceMs).toBeGreaterThan(9)
    expect(estimate.overheadMs).toBeGreaterThan(9)
  })

  test.each([0, -1e-4])('recovers from windows that seemed to take %d ms', busyMs => {
    const estimate = new ServiceEstimate()
    for (let n = 0; n < 100_000; n++) estimate.update({ count: 1, busyMs, latencyMs: 0, position: 1 })
    expect(estimate.serviceMs).toBeGreaterThan(0)
    for (let n = 0; n < 1000; n++) estimate.update({ count: 1, busyMs: 2, latencyMs: 2, position: 1 })
    expect(estimate.serviceMs).toBeCloseTo(2, 2)
  })

  test.each([1, 4, 15])('a batch of 16 measured in two parts, %d first, teaches about the same', first => {
    const whole = new ServiceEstimate()
    const parts = new ServiceEstimate()
    for (let batch = 0; batch < 30; batch++) {
      whole.update({ count: 16, busyMs: 8, latencyMs: 10, position: 16 })
      parts.update({ count: first, busyMs: 8, latencyMs: 10, position: first })
      parts.update({ count: 16 - first, busyMs: 0, latencyMs: 10, position: 16 })
    }
    expect(whole.serviceMs).toBeCloseTo(0.5, 3)
    expect(Math.abs(parts.serviceMs / whole.serviceMs - 1)).toBeLessThan(0.2)
  })

  test('a stuck oldest window raises the wait as it grows old, until only an idle stream would admit', () => {
    const estimate = learnt({ serviceMs: 0.5, overheadMs: 3 })
    const at = (ageMs: number) =>
      loadOf({ ...estimate, inFlight: 4, stalledMs: estimate.stalledMs(ageMs, 4) })
    expect(at(4.9).stalledMs).toBe(0) // 3 + 4 × 0.5 were to be expected
    expect(at(15).stalledMs).toBeCloseTo(10, 1)
    expect(predictedWaitMs(at(25)) - predictedWaitMs(at(15))).toBeCloseTo(10, 6)
    expect(refusal(at(15), DEADLINE_MS)).toBeNull()
    expect(refusal(at(100), DEADLINE_MS)?.reason).toBe('wait_too_long')
  })
})

describe('roomForBulk()', () => {
  const BESIDE_LIVE = { deadlineMs: DEADLINE_MS, expectsLive: true }

  test('leaves three quarters of the slots to live windows beside live traffic', () => {
    const room = (inFlight: number) => roomForBulk(loadOf({ inFlight, serviceMs: 0.1 }), BESIDE_LIVE)
    expect([0, 1, 15, 16, 64].map(room)).toEqual([16, 15, 1, 0, 0])
  })

  test('leaves half of them without live traffic, and waits until half of the others are free', () => {
    const room = (inFlight: number) =>
      roomForBulk(loadOf({ inFlight, serviceMs: 0.1 }), { ...BESIDE_LIVE, expectsLive: false })
    expect([0, 1, 16, 17, 32, 64].map(room)).toEqual([32, 31, 16, 0, 0, 0])
  })

  test('ends where a live window behind it would wait for more than 10 ms, whatever for', () => {
    const room = (load: Partial<StreamLoad>) =>
      roomForBulk(loadOf({ inFlight: 2, serviceMs: 2, ...load }), BESIDE_LIVE)
    expect(room({})).toBe(3)
    expect(room({ serviceMs: 2.1 })).toBe(2)
    expect(room({ overheadMs: 1 })).toBe(2)
    expect(room({ stalledMs: 1 })).toBe(2)
    expect(room({ stalledMs: 1000 })).toBe(0)
  })

  test('ends at a quarter of a deadline that is shorter than 40 ms', () => {
    const room = (deadlineMs: number) =>
      roomForBulk(loadOf({ inFlight: 0, serviceMs: 0.5 }), { ...BESIDE_LIVE, deadlineMs })
    expect([5000, 40, 20, 8, 1].map(room)).toEqual([16, 16, 10, 4, 1])
  })

  test('lets one window into an idle ring, however slow the stream is', () => {
    for (const load of loads()) {
      expect(roomForBulk({ ...load, inFlight: 0, ahead: 0 }, BESIDE_LIVE)).toBeGreaterThanOrEqual(1)
    }
  })
})

function loadOf(load: Partial<StreamLoad>): StreamLoad {
  const { inFlight = 0 } = load
  return { inFlight, ahead: inFlight, capacity: 64, serviceMs: 1, overheadMs: 0, stalledMs: 0, ...load }
}

/** Loads of all sizes. Every time is a multiple of 0.25 ms, so that sums of them are exact. */
function* loads(): Generator<StreamLoad> {
  for (const serviceMs of [0.25, 1, 7.5, 500])
    for (const overheadMs of [0, 0.25, 12, 1000])
      for (const stalledMs of [0, 0.5, 39, 2000])
        for (let inFlight = 1; inFlight < 64; inFlight++)
          yield loadOf({ inFlight, serviceMs, overheadMs, stalledMs })
}

/** An estimate that has seen 2,000 windows of a steady stream, each answered alone. */
function learnt({ serviceMs, overheadMs }: { serviceMs: number; overheadMs: number }) {
  const estimate = new ServiceEstimate()
  for (let n = 0; n < 2000; n++) {
    estimate.update({ count: 1, busyMs: serviceMs, latencyMs: overheadMs + serviceMs, position: 1 })
  }
  return estimate
}
