import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { monotonicMs } from '../src/clock.ts'
import { WorkerCounters } from '../src/core/counters.ts'
import type { Outcome } from '../src/core/outcome.ts'
import { Ring } from '../src/core/ring.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import type { Backend } from '../workers/backends/backend.ts'
import { serve } from '../workers/loop.ts'
import { MOTIF_COUNT, publish, ringOf, windowOf } from './windows.ts'

test('serve() answers every window with its own result, in order, and stops after the last one', async () => {
  const ring = ringOf(8, 2 ** 31 - 4)
  const sequences = [0, 1, 2, 3, 4, 5, 6, 7].map(n => publish(ring, windowOf(n)))
  const backend = backendOf({ depth: 3 })
  expect(await serveUntilStopped(ring, backend)).toBe('stopped')
  expect(ring.completed).toBe(ring.published)
  sequences.forEach((sequence, n) => {
    expect(backend.submitted[n]).toEqual(windowOf(n))
    expect(ring.slot(sequence).output).toEqual(resultOf(n))
    expect(ring.slot(sequence).outcome).toBe('ok')
  })
})

test.each([1, 3, 8, 16])('serve() fills a stream of depth %d and never beyond', async depth => {
  const ring = ringOf(8)
  for (let n = 0; n < 8; n++) publish(ring, windowOf(n))
  const inFlight: number[] = []
  const backend = backendOf({
    depth,
    collect(output, window, n) {
      inFlight.push(backend.submitted.length - n)
      return answer(output, window)
    },
  })
  await serveUntilStopped(ring, backend)
  expect(inFlight).toEqual([8, 7, 6, 5, 4, 3, 2, 1].map(left => Math.min(left, depth)))
})

test('serve() takes what is published while it gives results out', async () => {
  const ring = ringOf(8)
  publish(ring, windowOf(0))
  publish(ring, windowOf(1))
  const inFlight: number[] = []
  const backend = backendOf({
    depth: 4,
    async collect(output, window, n) {
      inFlight.push(backend.submitted.length - n)
      if (n < 3) publish(ring, windowOf(n + 2))
      return answer(output, window)
    },
  })
  await serveUntilStopped(ring, backend)
  expect(inFlight).toEqual([2, 2, 2, 2, 1])
  expect(ring.completed).toBe(5)
})

test('serve() wakes the front door with the last result of a batch, not with each', async () => {
  const ring = ringOf(8)
  for (let n = 0; n < 5; n++) publish(ring, windowOf(n))
  const left = [2, 1, 0, 1, 0] // a run of three windows, then one of two
  const backend = backendOf({
    depth: 3,
    collect(output, window, n) {
      backend.ready = left[n]!
      return answer(output, window)
    },
  })
  const complete = vi.spyOn(ring, 'complete')
  await serveUntilStopped(ring, backend)
  expect(complete.mock.calls.map(([, moreFollow]) => moreFollow)).toEqual([true, true, false, true, false])
})

test('serve() gives out no result that is not finite, and keeps the stream for the others', async () => {
  const ring = ringOf(4)
  for (let n = 0; n < 3; n++) publish(ring, windowOf(n))
  const backend = backendOf({
    depth: 3,
    collect(output, window, n) {
      const outcome = answer(output, window)
      if (n === 1) output[LATENT_DIMS] = Number.NaN
      return outcome
    },
  })
  expect(await serveUntilStopped(ring, backend)).toBe('stopped')
  expect([0, 1, 2].map(n => ring.slot(n).outcome)).toEqual(['ok', 'model_unavailable', 'ok'])
  expect(ring.slot(2).output).toEqual(resultOf(2))
})

test('serve() completes a window only when result, outcome and times are in its slot', async () => {
  const ring = ringOf(1)
  publish(ring, windowOf(0), { nowMs: monotonicMs() })
  ring.slot(0).finish('model_unavailable', 'onnx', Number.NaN)
  const complete = vi.spyOn(ring, 'complete').mockImplementationOnce(() => {
    expect(ring.slot(0).output).toEqual(resultOf(0))
    expect(ring.slot(0).outcome).toBe('ok')
    expect(ring.slot(0).inferenceMs).toBeGreaterThanOrEqual(0)
  })
  await serveUntilStopped(ring, backendOf({ depth: 1 }))
  expect(complete).toHaveBeenCalledTimes(1)
})

test('serve() passes over dropped and expired windows: the model never sees them', async () => {
  const ring = ringOf(8)
  for (let n = 0; n < 8; n++) publish(ring, windowOf(n), { deadlineMs: n === 4 ? 0 : Infinity })
  for (const sequence of [0, 2, 5]) ring.slot(sequence).drop()
  const counters = new WorkerCounters()
  const backend = backendOf({ depth: 4 })
  await serveUntilStopped(ring, backend, { counters })
  expect(backend.submitted).toEqual([1, 3, 6, 7].map(windowOf))
  for (const n of [0, 2, 4, 5]) expect(ring.slot(n).outcome).toBe('deadline_exceeded')
  // The others keep their own results, although their neighbours had none.
  for (const n of [1, 3, 6, 7]) {
    expect(ring.slot(n).outcome).toBe('ok')
    expect(ring.slot(n).output).toEqual(resultOf(n))
  }
  expect([counters.inferred, counters.passedOver, ring.completed]).toEqual([4, 4, 8])
})

test('serve() counts the time in which it has windows in hand, and none in which it waits for them', async () => {
  const ring = ringOf(4)
  for (let n = 0; n < 3; n++) publish(ring, windowOf(n), { nowMs: monotonicMs() })
  const counters = new WorkerCounters()
  const backend = backendOf({
    depth: 1,
    async collect(output, window) {
      await sleep(5)
      return answer(output, window)
    },
  })
  let over = false
  const served = serve({ ring, backend, kind: 'stub', counters, normalisation: null, until: () => over })
  while (ring.completed < 3) await sleep(1)
  await sleep(1) // it waits for windows, 50 ms each time
  over = true
  expect(await served).toBe('relieved')
  const inferenceMs = [0, 1, 2].reduce((sum, n) => sum + ring.slot(n).inferenceMs, 0)
  expect(inferenceMs).toBeGreaterThan(10)
  expect(counters.busyMs).toBeCloseTo(inferenceMs, 3)
})

test('serve() goes on where a lost stream ended: no window is lost, none is run twice', async () => {
  const ring = ringOf(8, 2 ** 31 - 4)
  const sequences = [0, 1, 2, 3, 4, 5, 6, 7].map(n => publish(ring, windowOf(n)))
  const dying = backendOf({
    depth: 4,
    collect: (output, window, n) => (n === 2 ? 'model_unavailable' : answer(output, window)),
  })
  const counters = new WorkerCounters()
  expect(await serveUntilStopped(ring, dying, { counters })).toBe('stream_lost')
  expect(dying.submitted).toHaveLength(6)
  expect(ring.completed).toBe(sequences[3])

  const successor = backendOf({ depth: 4 })
  const sameRing = new Ring(ring.buffer, MOTIF_COUNT)
  expect(await serveUntilStopped(sameRing, successor, { counters })).toBe('stopped')
  expect(successor.submitted).toEqual([6, 7].map(windowOf))
  expect(ring.completed).toBe(ring.published)
  expect(sequences.map(sequence => ring.slot(sequence).outcome)).toEqual([
    'ok',
    'ok',
    ...new Array(4).fill('model_unavailable'), // the one that failed, and those that were in the stream with it
    'ok',
    'ok',
  ])
  for (const n of [0, 1, 6, 7]) expect(ring.slot(sequences[n]!).output).toEqual(resultOf(n))
  expect([counters.inferred, counters.passedOver]).toEqual([4, 3])
})

test('serve() lets an exception end it and leaves the window to whoever comes next', async () => {
  const ring = ringOf(1)
  publish(ring, windowOf(0))
  const broken = backendOf({
    depth: 1,
    collect() {
      throw new Error('device gone')
    },
  })
  await expect(serveUntilStopped(ring, broken)).rejects.toThrow('device gone')
  expect(ring.completed).toBe(0)
  expect(ring.slot(0).taken).toBe(true)
})

test('serve() that was given up inside a call writes nothing when the call returns', async () => {
  const front = ringOf(4)
  for (const n of [0, 1]) publish(front, windowOf(n))
  const late = new Ring(front.buffer, MOTIF_COUNT, front.epoch)
  let before = new Uint8Array()
  let returnFromCall = () => {}
  const hanging = backendOf({
    depth: 1,
    collect: (output, window) =>
      new Promise(resolve => {
        returnFromCall = () => resolve(answer(output, window))
      }),
  })
  const counters = new WorkerCounters()
  const stream = { ring: late, backend: hanging, kind: 'hailo', counters, normalisation: null } as const
  const lateEnd = serve(stream)
  await vi.waitFor(() => expect(hanging.submitted).toHaveLength(1))

  front.supersede()
  const successor = new Ring(front.buffer, MOTIF_COUNT, front.epoch)
  const backend = backendOf({ depth: 4 })
  front.stop()
  expect(await serve({ ...stream, ring: successor, backend, kind: 'onnx' })).toBe('stopped')
  front.release(front.completed)
  // Its slot has been given to another window since.
  for (const n of [2, 3, 4]) publish(front, windowOf(n))
  before = new Uint8Array(front.buffer).slice()
  returnFromCall()
  expect(await lateEnd).toBe('superseded')
  expect(new Uint8Array(front.buffer)).toEqual(before)
  expect(backend.submitted).toEqual([windowOf(1)])
  expect(front.slot(1).backend).toBe('onnx')
})

test('serve() gives up a stream that is lost while it is idle, and lets none wait in it', async () => {
  const ring = ringOf(1)
  const backend = backendOf({ depth: 1 })
  backend.failure = { cause: 'device_lost', detail: 'gone' }
  publish(ring, windowOf(0))
  const stream = {
    ring,
    backend,
    kind: 'hailo',
    counters: new WorkerCounters(),
    normalisation: null,
  } as const
  expect(await serve(stream)).toBe('stream_lost')
  expect(backend.submitted).toEqual([])
  expect(ring.slot(0).taken).toBe(false)
})

test('serve() is relieved once it has given out what is in flight, and takes nothing more', async () => {
  const ring = ringOf(8)
  for (let n = 0; n < 8; n++) publish(ring, windowOf(n))
  let relieved = false
  const backend = backendOf({
    depth: 3,
    collect(output, window, n) {
      relieved = n >= 1
      return answer(output, window)
    },
  })
  const end = await serve({
    ring,
    backend,
    kind: 'stub',
    counters: new WorkerCounters(),
    normalisation: null,
    until: () => relieved,
  })
  expect(end).toBe('relieved')
  expect(backend.submitted).toHaveLength(4)
  expect(ring.completed).toBe(4)
  expect(ring.slot(4).taken).toBe(false)
})

test('serve() gives up a backend that is condemned, with nothing in flight; the next one of its kind is not', async () => {
  const ring = ringOf(8)
  for (let n = 0; n < 8; n++) publish(ring, windowOf(n))
  const backend = backendOf({
    depth: 3,
    collect(output, window, n) {
      if (n === 0) ring.condemn('onnx') // another than the one that serves
      if (n === 1) ring.condemn('stub')
      return answer(output, window)
    },
  })
  const counters = new WorkerCounters()
  const stream = { ring, backend, kind: 'stub', counters, normalisation: null } as const
  ring.setServing('stub')
  expect(await serve(stream)).toBe('condemned')
  expect(backend.submitted).toHaveLength(4)
  expect(ring.completed).toBe(4)
  expect(ring.slot(4).taken).toBe(false)

  ring.setServing('stub')
  ring.stop()
  expect(await serve({ ...stream, backend: backendOf({ depth: 3 }) })).toBe('stopped')
  expect(ring.completed).toBe(8)
})

test.each(['idle', 'busy'])(
  'serve() with something beside it lets timers have their turns, %s',
  async load => {
    const ring = ringOf(8)
    const backend = backendOf({
      depth: 8,
      collect(output, window) {
        // As fast as a stub: no promise of it ever waits for the event loop.
        ring.release(ring.completed)
        if (load === 'busy') publish(ring, windowOf(0))
        return answer(output, window)
      },
    })
    publish(ring, windowOf(0))
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    const startedMs = monotonicMs()
    await serve({
      ring,
      backend,
      kind: 'stub',
      counters: new WorkerCounters(),
      normalisation: null,
      until: () => turns >= 3,
    })
    clearInterval(timer)
    expect(monotonicMs() - startedMs).toBeLessThan(5000)
  },
)

test('serve() asks for the state of the device once a second', async () => {
  const ring = ringOf(1)
  const backend = { ...backendOf({ depth: 1 }), reportDevice: vi.fn() }
  const startedMs = monotonicMs()
  const stream = {
    ring,
    backend,
    kind: 'hailo',
    counters: new WorkerCounters(),
    normalisation: null,
  } as const
  await serve({ ...stream, until: () => backend.reportDevice.mock.calls.length === 2 })
  const tookMs = monotonicMs() - startedMs
  expect(tookMs).toBeGreaterThanOrEqual(2000)
  expect(tookMs).toBeLessThan(4000)
})

test('serve() counts each batch once, with its size, and the windows it answered', async () => {
  const ring = ringOf(8)
  for (let n = 0; n < 5; n++) publish(ring, windowOf(n))
  const counters = new WorkerCounters()
  const sizes = [3, 0, 0, 2, 0]
  const backend = backendOf({
    depth: 3,
    collect(output, window, n) {
      backend.batchSize = sizes[n]!
      return answer(output, window)
    },
  })
  await serveUntilStopped(ring, backend, { counters })
  expect([...counters.batches]).toEqual([0, 1, 1, 0, 0, 0, 0, 0])
  expect(counters.batched).toBe(5)
  expect(counters.inferred).toBe(5)
})

test('serve() counts a window in suspect units, once it is taken', async () => {
  const { mean, std } = JSON.parse(
    readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'),
  ).normalization
  const normalisation = { mean: Float32Array.from(mean), std: Float32Array.from(std) }
  const milligauss = windowOf(1).map((value, at) => (at % 9 < 6 ? value : value * 10))
  const ring = ringOf(4)
  for (const window of [milligauss, milligauss, windowOf(1)]) publish(ring, window)
  ring.slot(0).drop()
  const counters = new WorkerCounters()
  await serveUntilStopped(ring, backendOf({ depth: 4 }), { counters, normalisation })
  expect([0, 1, 2].map(sensor => counters.suspect(sensor))).toEqual([0, 0, 1])
})

test('serve() answers a window that was published just before the stop, between its look and its end', async () => {
  const ring = ringOf(1)
  const look = ring.waitForWindows.bind(ring)
  vi.spyOn(ring, 'waitForWindows').mockImplementationOnce((...args) => {
    const windows = look(...args)
    publish(ring, windowOf(0))
    ring.stop()
    return windows
  })
  const stream = {
    ring,
    backend: backendOf({ depth: 1 }),
    kind: 'stub' as const,
    counters: new WorkerCounters(),
    normalisation: null,
  }
  expect(await serve(stream)).toBe('stopped')
  expect(ring.completed).toBe(1)
})

test('serve() shows its heartbeat while it has nothing to do', async () => {
  const counters = new WorkerCounters()
  const ring = ringOf(1)
  const beats: number[] = []
  vi.spyOn(ring, 'waitForWindows').mockImplementation(() => {
    beats.push(counters.heartbeatMs)
    if (beats.length === 3) ring.stop()
    return 0
  })
  const startedMs = monotonicMs()
  await serve({ ring, backend: backendOf({ depth: 1 }), kind: 'stub', counters, normalisation: null })
  expect(beats[0]).toBeGreaterThanOrEqual(startedMs)
  expect(beats[2]).toBeGreaterThan(beats[0]!)
})

/** Told to stop before it begins, a worker serves what is published and returns. */
function serveUntilStopped(
  ring: Ring,
  backend: Backend,
  { counters = new WorkerCounters(), normalisation = null }: Partial<Parameters<typeof serve>[0]> = {},
): ReturnType<typeof serve> {
  ring.stop()
  return serve({ ring, backend, kind: 'onnx', counters, normalisation })
}

type FakeBackend = { -readonly [Key in keyof Backend]: Backend[Key] } & { submitted: Float32Array[] }

/** @param collect ends the n-th window that this backend was given */
function backendOf({
  depth,
  collect = answer,
}: {
  depth: number
  collect?: (output: Float32Array, window: Float32Array, n: number) => Outcome | Promise<Outcome>
}): FakeBackend {
  const submitted: Float32Array[] = []
  let collected = 0
  return {
    depth,
    ready: 0,
    batchSize: 1,
    failure: null,
    submitted,
    submit: input => void submitted.push(input.slice()),
    collect: output => collect(output, submitted[collected]!, collected++),
    close() {},
  }
}

/** A result that tells which window it belongs to: the window's own first values. */
function answer(output: Float32Array, window: Float32Array): Outcome {
  output.set(window.subarray(0, output.length))
  return 'ok'
}

/** What answer() answers to the n-th recorded window. */
function resultOf(n: number): Float32Array {
  return windowOf(n).subarray(0, LATENT_DIMS + MOTIF_COUNT)
}
