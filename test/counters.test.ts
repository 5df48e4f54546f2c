import { expect, test } from 'vitest'
import { BATCH_SIZE_EDGES, WorkerCounters } from '../src/core/counters.ts'

test('WorkerCounters show on one side of the shared memory what was counted on the other', () => {
  const worker = new WorkerCounters()
  const scrape = new WorkerCounters(worker.buffer)
  worker.beat(12_345.678)
  for (let n = 0; n < 3; n++) worker.countInferred()
  for (let n = 0; n < 2; n++) worker.countPassedOver()
  worker.countBusy(1.5)
  worker.countBusy(2)
  worker.countBatch(5)
  worker.countSuspect(0b010)
  expect(scrape.heartbeatMs).toBe(12_345.678)
  expect(scrape.inferred).toBe(3)
  expect(scrape.passedOver).toBe(2)
  expect(scrape.busyMs).toBe(3.5)
  expect(scrape.batched).toBe(5)
  expect([0, 1, 2].map(sensor => scrape.suspect(sensor))).toEqual([0, 1, 0])
})

test.each([
  [1, 0],
  [2, 1],
  [3, 2],
  [4, 2],
  [5, 3],
  [8, 3],
  [16, 4],
  [17, 5],
  [32, 5],
  [64, 6],
  [65, 7],
  [4096, 7],
])('countBatch() puts a batch of %d into bucket %d', (size, bucket) => {
  const counters = new WorkerCounters()
  counters.countBatch(size)
  const expected = new Float64Array(BATCH_SIZE_EDGES.length + 1)
  expected[bucket] = 1
  expect(counters.batches).toEqual(expected)
  expect(counters.batched).toBe(size)
})

test('countSuspect() counts each sensor whose bit is set', () => {
  const counters = new WorkerCounters()
  for (const mask of [0b000, 0b001, 0b101, 0b111]) counters.countSuspect(mask)
  expect([0, 1, 2].map(sensor => counters.suspect(sensor))).toEqual([3, 1, 2])
  expect([counters.batched, ...counters.batches]).toEqual(new Array(9).fill(0))
})

test('reset() forgets everything but the heartbeat, so that nobody takes the worker for dead', () => {
  const counters = new WorkerCounters()
  counters.beat(77)
  counters.countInferred()
  counters.countPassedOver()
  counters.countBusy(3)
  counters.countBatch(65)
  counters.countSuspect(0b111)
  counters.reset()
  expect(counters.heartbeatMs).toBe(77)
  const { inferred, passedOver, busyMs, batched, batches } = counters
  const suspects = [0, 1, 2].map(sensor => counters.suspect(sensor))
  expect([inferred, passedOver, busyMs, batched, ...batches, ...suspects]).toEqual(new Array(15).fill(0))
})
