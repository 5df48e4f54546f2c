import { expect, onTestFinished, test, vi } from 'vitest'
import { monotonicMs } from '../src/clock.ts'
import type { Outcome } from '../src/core/outcome.ts'
import { Ring } from '../src/core/ring.ts'
import type { Slot } from '../src/core/slot.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import type { StreamObserver } from '../src/engine/observer.ts'
import { type InFlight, Stream, type Waiter } from '../src/engine/stream.ts'
import { ORIGIN } from './origin.ts'
import { MOTIF_COUNT, windowOf } from './windows.ts'

test('publish() hands over the whole window and its times before it moves the cursor', () => {
  const { stream, take } = streamOf(1)
  take(0) // as the window before it left the slot
  const moved: number[] = []
  const store = vi.spyOn(Atomics, 'store').mockImplementation(((
    _: Int32Array,
    index: number,
    value: number,
  ) => {
    const { input, deadlineMs, publishedMs, taken } = stream.ring.slot(0)
    expect(input).toEqual(windowOf(7))
    expect(deadlineMs).toBe(1e9)
    expect(Math.abs(publishedMs - monotonicMs())).toBeLessThan(1000)
    expect(taken).toBe(false)
    moved.push(index)
    return value
  }) as typeof Atomics.store)
  onTestFinished(() => store.mockRestore())
  publish(stream, windowOf(7), { deadlineMs: 1e9 })
  expect(moved).toEqual([0])
})

test('settleCompleted() gives each waiter its own result, once, while the slot still holds it', () => {
  const { stream, ended, run } = streamOf(4)
  const results: Float32Array[] = []
  const settle: Waiter['settle'] = (_, { output }) => void results.push(output.slice())
  for (const n of [0, 1, 2, 3]) publish(stream, windowOf(n), { settle })
  for (const n of [0, 1]) run(n)
  stream.settleCompleted()
  stream.settleCompleted()
  expect(results).toEqual([0, 1].map(resultOf))
  expect([stream.ring.released, stream.unsettled]).toEqual([2, 2])
  for (const n of [2, 3]) run(n)
  stream.settleCompleted()
  stream.settleCompleted()
  expect(results).toEqual([0, 1, 2, 3].map(resultOf))
  expect(ended).toEqual(['ok', 'ok', 'ok', 'ok'])
  expect([stream.ring.released, stream.unsettled]).toEqual([4, 0])
})

test('settleCompleted() gives the slots back only after every waiter has read its result', () => {
  const { stream, run } = streamOf(2)
  const released: number[] = []
  const settle = () => void released.push(stream.ring.released)
  for (const n of [0, 1]) publish(stream, windowOf(n), { settle })
  for (const n of [0, 1]) run(n)
  stream.settleCompleted()
  expect(released).toEqual([0, 0])
  expect(stream.ring.released).toBe(2)
})

test('a result that comes after its deadline is settled as deadline_exceeded', () => {
  const { stream, ended, run } = streamOf(1)
  const { outcomes, settle } = waiter()
  publish(stream, windowOf(0), { deadlineMs: monotonicMs() - 1, settle })
  run(0)
  expect(stream.ring.slot(0).outcome).toBe('ok')
  stream.settleCompleted()
  expect(outcomes).toEqual(['deadline_exceeded'])
  expect(ended).toEqual(['deadline_exceeded'])
})

test('expire() settles and drops what is too late, and returns the nearest deadline of the rest', () => {
  const { stream, ended, take, finish, run } = streamOf(4)
  const { outcomes, settle } = waiter()
  for (const [n, deadlineMs] of [20, 10, 30, 10].entries())
    publish(stream, windowOf(n), { deadlineMs, settle })
  expect(take(3)).toBe(true) // a worker has it and is stuck
  expect(stream.expire(9)).toBe(10)
  expect(outcomes).toEqual([])
  expect(stream.expire(10)).toBe(20)
  expect(outcomes).toEqual(['deadline_exceeded', 'deadline_exceeded'])
  expect(stream.expire(100)).toBe(Infinity)
  expect(outcomes).toHaveLength(4)
  expect(stream.unsettled).toBe(0)

  // What the worker then brings is nobody's any more, but its slots come back.
  for (const n of [0, 1, 2]) {
    run(n)
    expect(stream.ring.slot(n).taken).toBe(false)
  }
  finish(3)
  stream.settleCompleted()
  expect(outcomes).toHaveLength(4)
  expect(ended).toHaveLength(4)
  expect(stream.ring.inFlight).toBe(0)
})

test('cancel() tells the observer, not the waiter, and once', () => {
  const { stream, ended, observer, take, finish, run } = streamOf(2)
  const { outcomes, settle } = waiter()
  const waiting = publish(stream, windowOf(0), { settle })
  const taken = publish(stream, windowOf(1), { settle })
  take(1)
  for (const inFlight of [waiting, taken, waiting, taken]) inFlight.cancel()
  expect(observer.cancelled).toHaveBeenCalledTimes(2)
  expect(stream.unsettled).toBe(0)
  run(0)
  expect(stream.ring.slot(0).taken).toBe(false) // no time of the model's was spent on it
  finish(1)
  stream.settleCompleted()
  expect(outcomes).toEqual([])
  expect(ended).toEqual([])
})

test('cancel() of a window that has ended leaves the next one in its slot alone', () => {
  const { stream, observer, run } = streamOf(1)
  const { outcomes, settle } = waiter()
  const ended = publish(stream, windowOf(0))
  run(0)
  stream.settleCompleted()
  publish(stream, windowOf(1), { settle })
  ended.cancel()
  expect(observer.cancelled).not.toHaveBeenCalled()
  run(1)
  stream.settleCompleted()
  expect(outcomes).toEqual(['ok'])
})

test('workerLost() settles what was taken as model_unavailable; the successor gets the rest and settles nothing twice', () => {
  const { stream, ended, take, run } = streamOf(8)
  const waiters = [0, 1, 2, 3, 4].map(n => {
    const { outcomes, settle } = waiter()
    publish(stream, windowOf(n), { settle })
    return outcomes
  })
  stream.ring.setServing('stub')
  run(0) // answered, but not settled yet
  for (const n of [1, 2]) take(n)
  stream.workerLost()
  expect(waiters).toEqual([['ok'], ['model_unavailable'], ['model_unavailable'], [], []])
  expect(stream.unsettled).toBe(2)
  expect(stream.ring.serving).toBeNull()

  // The successor resumes at `completed`.
  for (const n of [1, 2, 3, 4]) run(n)
  stream.settleCompleted()
  expect(waiters).toEqual([['ok'], ['model_unavailable'], ['model_unavailable'], ['ok'], ['ok']])
  expect(ended).toHaveLength(5)
  expect([stream.ring.inFlight, stream.unsettled]).toEqual([0, 0])
})

test('a waiter may publish the next window while it is told its outcome', () => {
  const { stream, ended, run } = streamOf(2)
  publish(stream, windowOf(0), { settle: () => void publish(stream, windowOf(1)) })
  run(0)
  stream.settleCompleted()
  expect(stream.ring.inFlight).toBe(1)
  run(1)
  stream.settleCompleted()
  expect(ended).toEqual(['ok', 'ok'])
})

test('the observer is told how long a window took since it arrived, and shown the slot if it is finished', () => {
  const { stream, observer, run } = streamOf(2)
  const arrivedMs = monotonicMs() - 25
  stream.publish({ arrivedMs, deadlineMs: Infinity }, { settle() {}, origin: ORIGIN })
  stream.publish({ arrivedMs, deadlineMs: 0 }, { settle() {}, origin: ORIGIN })
  run(0)
  stream.settleCompleted()
  stream.expire(arrivedMs + 30)
  const [first, second] = observer.inferenceEnded.mock.calls
  expect(first![1]).toBeGreaterThanOrEqual(25)
  expect(first![1]).toBeLessThan(1000)
  expect(first![2]).toBe(stream.ring.slot(0))
  expect(second).toEqual(['deadline_exceeded', 30, null])
})

test('the observer hears of answers when they were made, and nothing of windows of the engine itself', () => {
  const { stream, observer, run } = streamOf(4)
  const times = { arrivedMs: monotonicMs(), deadlineMs: Infinity }
  const seen: number[] = []
  observer.windowAnswered.mockImplementation((window, slot) => seen.push(window.sequence, slot.output[0]!))
  const settle = (_: Outcome, slot: Slot) => void slot.output.fill(seen.length + 7)
  for (const waiter of [{ settle, origin: ORIGIN }, { settle }, { settle, origin: ORIGIN }]) {
    stream.publish(times, waiter)
  }
  for (const n of [0, 1, 2]) run(n)
  stream.settleCompleted()
  expect(seen).toEqual([0, 7, 2, 9])
  const [settledMs, answeredMs] = observer.windowAnswered.mock.calls[1]!.slice(2) as [number, number]
  expect(answeredMs).toBeGreaterThanOrEqual(settledMs)
  expect(settledMs).toBeGreaterThanOrEqual(observer.windowAnswered.mock.calls[0]![3])
  expect(observer.inferenceEnded).toHaveBeenCalledTimes(2)

  // No answer, but an error: that is told by whoever answers it.
  stream.publish({ ...times, deadlineMs: 0 }, { settle, origin: ORIGIN })
  stream.expire(1)
  expect(observer.windowAnswered).toHaveBeenCalledTimes(2)
})

test('load() takes no window that ends while it looks for one that stalls', () => {
  const { stream, run } = streamOf(4)
  publish(stream, windowOf(0))
  const { get: completed } = Object.getOwnPropertyDescriptor(Ring.prototype, 'completed')!
  let reads = 0
  vi.spyOn(stream.ring, 'completed', 'get').mockImplementation(() => {
    const seen = completed!.call(stream.ring)
    if (reads++ === 0) run(0, monotonicMs())
    return seen
  })
  expect(stream.load(monotonicMs() + 1).stalledMs).toBeLessThan(1000)
})

test('load() shows a stuck worker: its oldest window grows older than was to be expected', () => {
  const { stream, run } = streamOf(4)
  expect(stream.load(monotonicMs() + 5000)).toMatchObject({ inFlight: 0, capacity: 4, stalledMs: 0 })
  publish(stream, windowOf(0))
  publish(stream, windowOf(1))
  const nowMs = monotonicMs()
  expect(stream.load(nowMs)).toMatchObject({ inFlight: 2, stalledMs: 0 })
  expect(stream.load(nowMs + 5000).stalledMs - stream.load(nowMs + 4000).stalledMs).toBeCloseTo(1000, 6)
  for (const n of [0, 1]) run(n)
  stream.settleCompleted()
  expect(stream.load(nowMs + 5000)).toMatchObject({ inFlight: 0, stalledMs: 0 })
})

test('load() counts what is completed and not settled as slots taken, not as work or a stall', () => {
  const { stream, run } = streamOf(4)
  for (const n of [0, 1, 2]) publish(stream, windowOf(n))
  for (const n of [0, 1]) run(n)
  expect(stream.load(monotonicMs())).toMatchObject({ inFlight: 3, ahead: 1 })
  run(2)
  expect(stream.load(monotonicMs() + 5000)).toMatchObject({ inFlight: 3, ahead: 0, stalledMs: 0 })
})

test('load() learns the service time from the windows that the worker ran, whether anybody still waits or not', () => {
  const { stream, take, finish, run } = streamOf(4)
  const nowMs = monotonicMs()
  for (const n of [0, 1, 2, 3]) publish(stream, windowOf(n)).cancel()
  // Both that ran were taken at once, after 4 ms of waiting; 6 ms later the second was done.
  for (const n of [1, 3]) stream.ring.slot(n).prepare(nowMs - 4, Infinity)
  for (const n of [1, 3]) take(n, nowMs)
  run(0)
  finish(1, nowMs + 2)
  run(2)
  finish(3, nowMs + 6)
  stream.settleCompleted()
  const { serviceMs } = stream.load(nowMs)
  expect(serviceMs).toBeCloseTo(1 + (1 - 0.98 ** 2) * (6 / 2 - 1), 3)

  // The next was taken while they ran: its own time begins when theirs has ended.
  publish(stream, windowOf(4)).cancel()
  stream.ring.slot(4).prepare(nowMs, Infinity)
  take(4, nowMs + 1)
  finish(4, nowMs + 9)
  stream.settleCompleted()
  expect(stream.load(nowMs).serviceMs).toBeCloseTo(serviceMs + 0.02 * (3 - serviceMs), 3)
})

test('listen() settles what completes while it sleeps, and ends after close()', async () => {
  const { stream, ended, run } = streamOf(2)
  const listening = stream.listen()
  for (const n of [0, 1, 2]) {
    publish(stream, windowOf(n))
    run(n)
    await vi.waitFor(() => expect(ended).toHaveLength(n + 1))
  }
  stream.close()
  expect(stream.ring.stopping).toBe(true)
  publish(stream, windowOf(3))
  run(3)
  await listening
})

/** A stream, and the three things that workers/loop.ts does with a window, by hand. */
function streamOf(capacity: number) {
  const ended: Outcome[] = []
  const observer = {
    inferenceEnded: vi.fn<StreamObserver['inferenceEnded']>(outcome => void ended.push(outcome)),
    windowAnswered: vi.fn<StreamObserver['windowAnswered']>(),
    cancelled: vi.fn<() => void>(),
    settled: vi.fn<() => void>(),
  }
  const stream = new Stream({ capacity, motifCount: MOTIF_COUNT, observer })
  const ring = new Ring(stream.ring.buffer, MOTIF_COUNT)

  const take = (sequence: number, nowMs = 0) => ring.slot(sequence).take(nowMs)
  const finish = (sequence: number, nowMs = 0) => {
    const slot = ring.slot(sequence)
    slot.output.set(slot.input.subarray(0, slot.output.length))
    slot.finish('ok', 'stub', nowMs)
    ring.complete(sequence)
  }
  const run = (sequence: number, nowMs = 0) => {
    if (take(sequence, nowMs)) finish(sequence, nowMs)
    else ring.complete(sequence)
  }
  return { stream, ended, observer, take, finish, run }
}

function publish(
  stream: Stream,
  window: Float32Array,
  { deadlineMs = Infinity, settle = () => {} }: { deadlineMs?: number; settle?: Waiter['settle'] } = {},
): InFlight {
  stream.ring.nextSlot!.input.set(window)
  return stream.publish({ arrivedMs: monotonicMs(), deadlineMs }, { settle, origin: ORIGIN })
}

/** A waiter's settle() that notes the outcomes it is told. */
function waiter() {
  const outcomes: Outcome[] = []
  return { outcomes, settle: (outcome: Outcome) => void outcomes.push(outcome) }
}

/** What finish() answers to the n-th recorded window. */
function resultOf(n: number): Float32Array {
  return windowOf(n).subarray(0, LATENT_DIMS + MOTIF_COUNT)
}
