import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import { monotonicMs } from '../src/clock.ts'
import { Engine } from '../src/engine/engine.ts'
import type { Observer } from '../src/engine/observer.ts'
import type { Stream } from '../src/engine/stream.ts'
import { startThreads } from '../src/engine/threads.ts'
import { windowOf } from './windows.ts'

const BUDGET_MS = 5

test('admit() tries an idle stream with a bad record before it sheds', async () => {
  const { engine, busy, idle } = engineOfTwo()
  // The idle one was slow for a while: its estimate alone would send nobody there again.
  for (let n = 0; n < 25; n++) {
    publish(engine, idle)
    await sleep(20)
    finish(idle)
  }
  expect(engine.admit(timesOf(monotonicMs()))).toBe(busy)
  for (let n = 0; n < BUDGET_MS; n++) publish(engine, busy)
  expect(engine.admit(timesOf(monotonicMs()))).toBe(idle)
  publish(engine, idle)
  expect(engine.admit(timesOf(monotonicMs()))).toMatchObject({ code: 'overloaded' })
})

test('admit() passes over a stream without a worker, and says so when none is left', () => {
  const { engine, busy, idle } = engineOfTwo()
  busy.ring.setServing(null)
  expect(engine.admit(timesOf(monotonicMs()))).toBe(idle)
  idle.ring.setServing(null)
  expect(engine.admit(timesOf(monotonicMs()))).toMatchObject({ code: 'model_unavailable' })
})

test('an engine is without hope when every worker has been silent for two minutes, but not for a device that is away', () => {
  const { engine, busy, idle } = engineOfTwo()
  const nowMs = monotonicMs()
  for (const { counters } of [busy, idle]) counters.beat(nowMs - 119_000)
  expect(engine.hopeless).toBe(false)
  for (const { counters } of [busy, idle]) counters.beat(nowMs - 121_000)
  expect(engine.hopeless).toBe(true)
  const backends = {
    answering: [],
    fallback: null,
    fault: { cause: 'device_lost', detail: '' },
    device: null,
  } as const
  vi.spyOn(engine, 'backends', 'get').mockReturnValue(backends)
  expect(engine.hopeless).toBe(false)
  vi.restoreAllMocks()
  idle.counters.beat(nowMs)
  expect(engine.hopeless).toBe(false)
})

test('admit() counts every refusal with its reason', async () => {
  const { engine, refusals, busy, idle } = engineOfTwo()
  for (const stream of [busy, idle]) stream.ring.setServing(null)
  engine.admit(timesOf(monotonicMs()))
  void engine.drain()
  engine.admit(timesOf(monotonicMs()))
  expect(refusals).toEqual(['no_worker', 'draining'])
})

test('admit() tells how long a window that it sheds would have waited from its arrival on', async () => {
  const { engine, busy, idle } = engineOfTwo()
  const countShed = vi.spyOn(engine.loadWatch, 'countShed')
  for (let n = 0; n < 8; n++) for (const stream of [busy, idle]) publish(engine, stream)
  const nowMs = monotonicMs()
  for (const arrivedMs of [nowMs, nowMs - 1000]) {
    for (const budgetMs of [0.1, 0.2]) engine.admit({ arrivedMs, deadlineMs: nowMs + budgetMs }, nowMs)
  }
  const [waitMs = 0, ...others] = countShed.mock.calls.map(([waitMs]) => waitMs)
  expect(waitMs).toBeGreaterThan(0.2)
  for (const [index, sinceMs] of [0, 1000, 1000].entries())
    expect(others[index]).toBeCloseTo(waitMs + sinceMs, 3)
  while (busy.ring.nextSlot !== null) publish(engine, busy)
  while (idle.ring.nextSlot !== null) publish(engine, idle)
  engine.admit({ arrivedMs: nowMs, deadlineMs: nowMs + 0.1 }, nowMs)
  expect(countShed).toHaveBeenLastCalledWith(Number.POSITIVE_INFINITY)
})

/** Of a window that has just come. */
function timesOf(arrivedMs: number) {
  return { arrivedMs, deadlineMs: arrivedMs + BUDGET_MS }
}

/** An engine whose two streams are served by the test: no task runs. */
function engineOfTwo() {
  const refusals: string[] = []
  const observer: Observer = {
    inferenceEnded: () => {},
    cancelled: () => {},
    refused: (_, reason) => refusals.push(reason),
    workerLost: () => {},
    workerServing: () => {},
    poolFailed: () => {},
    fallbackStarted: () => {},
    fallbackEnded: () => {},
    deviceChanged: () => {},
  }
  const engine = new Engine({
    threads: startThreads(new URL('../dist/workers/serve.js', import.meta.url), 2, 'stub'),
    ringSlots: 64,
    task: { motifCount: 12, primary: { kind: 'stub' }, fallback: null, normalisation: null, selfCheck: null },
    observer,
  })
  onTestFinished(() => engine.close())
  const [busy, idle] = engine.streams as [Stream, Stream]
  for (const { ring } of engine.streams) ring.setServing('stub')
  engine.open()
  return { engine, busy, idle, refusals }
}

function publish(engine: Engine, stream: Stream): void {
  stream.ring.nextSlot!.input.set(windowOf(0))
  const arrivedMs = monotonicMs()
  engine.submit(stream, { arrivedMs, deadlineMs: arrivedMs + 60_000 }, { settle: () => {} })
}

/** Answers the oldest window as a worker would that took 1 ms for it, but was heard of only now. */
function finish(stream: Stream): void {
  const { ring } = stream
  const slot = ring.slot(ring.completed)
  slot.take(slot.publishedMs)
  slot.finish('ok', 'stub', slot.publishedMs + 1)
  ring.complete(ring.completed)
  stream.settleCompleted()
}
