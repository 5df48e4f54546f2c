import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { expect, onTestFinished, test, vi } from 'vitest'
import { distance, Ring } from '../src/core/ring.ts'
import { wholeRandomOf } from './random.ts'
import { MOTIF_COUNT, publish, ringOf, windowOf } from './windows.ts'

/** The last sequences before int32 wraps. */
const JUST_BEFORE_WRAP = 2 ** 31 - 3

test('a slot lies in shared memory as its drawing says', () => {
  const ring = ringOf(2)
  publish(ring, windowOf(0))
  publish(ring, windowOf(1), { nowMs: 10, deadlineMs: 50 })
  const slot = ring.slot(1)
  slot.take(12)
  slot.output.set(windowOf(2).subarray(0, 76))
  slot.finish('model_unavailable', 'stub', 15, 7)

  const at = 1536 + 4096 // behind the header and the first slot
  const memory = new DataView(ring.buffer, at)
  expect(new Float32Array(ring.buffer, at, 900)).toEqual(windowOf(1))
  expect(new Float32Array(ring.buffer, at + 3600, 76)).toEqual(windowOf(2).subarray(0, 76))
  expect(memory.getFloat64(4032, true)).toBe(50) // deadline
  expect(memory.getFloat64(4040, true)).toBe(10) // published
  expect(memory.getFloat32(4048, true)).toBe(2) // queue wait
  expect(memory.getFloat32(4052, true)).toBe(3) // inference time
  expect(memory.getInt32(4056, true)).toBe(1) // taken
  expect(memory.getInt32(4060, true)).toBe(2) // model_unavailable
  expect(memory.getInt32(4064, true)).toBe(2) // stub
  expect(memory.getInt32(4068, true)).toBe(7) // generation
  expect(ring.buffer.byteLength).toBe(1536 + 2 * 4096)
})

test('a slot has room for 44 motif scores and not one more: the deadline follows', () => {
  const ring = Ring.create({ capacity: 1, motifCount: 44 })
  const slot = ring.slot(0)
  slot.prepare(10, 50)
  const { byteOffset, byteLength } = slot.output
  expect(new DataView(ring.buffer).getFloat64(byteOffset + byteLength, true)).toBe(50)
})

test('the cursors lie 128 bytes apart', () => {
  const ring = ringOf(4)
  const header = new Int32Array(ring.buffer, 0, 288)
  for (const n of [0, 1, 2]) publish(ring, windowOf(n))
  for (const n of [0, 1]) ring.complete(n)
  ring.release(1)
  expect([header[0], header[32], header[64]]).toEqual([3, 2, 1])
  expect([ring.published, ring.completed, ring.released]).toEqual([3, 2, 1])
})

test('publish() moves the cursor and nothing else', () => {
  const ring = ringOf(2)
  ring.nextSlot!.input.set(windowOf(7))
  const before = new Uint8Array(ring.buffer).slice()
  const calls = atomicsCalledBy(() => ring.publish())
  expect(calls).toEqual(['store 0'])
  before[0] = 1
  expect(new Uint8Array(ring.buffer)).toEqual(before)
})

test('a full ring has no next slot until one is released, and takes exactly its capacity', () => {
  const ring = ringOf(8)
  for (let n = 0; n < 8; n++) expect(publish(ring, windowOf(n))).toBe(n)
  expect(ring.nextSlot).toBeNull()
  expect(ring.inFlight).toBe(8)
  for (let n = 0; n < 8; n++) {
    expect(ring.slot(n).input).toEqual(windowOf(n))
    ring.complete(n)
  }
  expect(ring.nextSlot).toBeNull() // answered is not released
  ring.release(1)
  expect(ring.nextSlot).toBe(ring.slot(0))
  publish(ring, windowOf(8))
  expect(ring.nextSlot).toBeNull()
})

test('sequences, distances and slots go on across the int32 wrap', () => {
  const ring = ringOf(4, JUST_BEFORE_WRAP)
  const sequences: number[] = []
  for (let n = 0; n < 8; n++) {
    const sequence = publish(ring, windowOf(n))
    sequences.push(sequence)
    expect(ring.slot(sequence).input).toEqual(windowOf(n))
    expect(ring.waitForWindows(sequence, 0)).toBe(1)
    expect(ring.inFlight).toBe(Math.min(n + 1, 3))
    ring.complete(sequence)
    if (n >= 2) ring.release(sequences[n - 1]!) // two stay in flight
  }
  expect(sequences.map(sequence => sequence - 2 ** 31)).toEqual([
    -3,
    -2,
    -1,
    -(2 ** 32),
    -(2 ** 32) + 1,
    -(2 ** 32) + 2,
    -(2 ** 32) + 3,
    -(2 ** 32) + 4,
  ])
  expect(ring.completed).toBe(-(2 ** 31) + 5)
  expect(distance(2 ** 31 - 1, -(2 ** 31))).toBe(1)
  expect(distance(-(2 ** 31), 2 ** 31 - 1)).toBe(-1)
})

test('complete() moves the cursor, then asks whether the front door sleeps, and rings only then', () => {
  const ring = ringOf(4)
  for (const n of [0, 1, 2]) publish(ring, windowOf(n))
  const awake = atomicsCalledBy(() => ring.complete(0))
  expect(awake).toEqual(['compareExchange 32'])
  void ring.untilBell(1)
  const asleep = atomicsCalledBy(() => ring.complete(1))
  expect(asleep).toEqual(['compareExchange 32', 'exchange 128', 'add 96', 'notify 96'])
  const ringOnlyOnce = atomicsCalledBy(() => ring.complete(2))
  expect(ringOnlyOnce).toEqual(['compareExchange 32'])
})

test('results of which more follow wake nobody, the last of them does', () => {
  const ring = ringOf(4)
  for (let n = 0; n < 2; n++) publish(ring, windowOf(n))
  void ring.untilBell(0)
  expect(atomicsCalledBy(() => ring.complete(0, true))).toEqual(['compareExchange 32'])
  expect(atomicsCalledBy(() => ring.complete(1))).toContain('notify 96')
})

test('a window that the worker took cannot be dropped, and the other way round', () => {
  const ring = ringOf(2)
  publish(ring, windowOf(0))
  publish(ring, windowOf(1))
  const [first, second] = [ring.slot(0), ring.slot(1)]
  expect([first.take(0), first.drop(), first.taken]).toEqual([true, false, true])
  expect([second.drop(), second.take(0), second.taken]).toEqual([true, false, false])
  expect(second.drop()).toBe(false)
  expect(second.outcome).toBe('deadline_exceeded')
})

test('take() passes over an expired window, but not one that expires at this very moment', () => {
  const ring = ringOf(2)
  publish(ring, windowOf(0), { nowMs: 10, deadlineMs: 50 })
  publish(ring, windowOf(1), { nowMs: 10, deadlineMs: 50 })
  const [intime, expired] = [ring.slot(0), ring.slot(1)]
  expect(intime.take(50)).toBe(true)
  expect(expired.take(50.001)).toBe(false)
  expect(expired.taken).toBe(false)
  expect(expired.outcome).toBe('deadline_exceeded')
  expect(expired.queueWaitMs).toBeCloseTo(40.001, 4)
  expect(expired.inferenceMs).toBe(0)
})

test('a window that a dead worker had taken is finished as model_unavailable and not run again', () => {
  const ring = ringOf(1)
  publish(ring, windowOf(0))
  ring.slot(0).take(0)
  const successor = new Ring(ring.buffer, MOTIF_COUNT).slot(0)
  expect(successor.taken).toBe(true)
  expect(successor.take(1)).toBe(false)
  expect(successor.outcome).toBe('model_unavailable')
  expect(successor.taken).toBe(false) // so that its time is not counted as the model's
})

test('a slot that comes round again can be taken again', () => {
  const ring = ringOf(1)
  publish(ring, windowOf(0))
  ring.slot(0).take(0)
  ring.slot(0).finish('ok', 'onnx', 0)
  ring.complete(0)
  ring.release(1)
  publish(ring, windowOf(1))
  expect(ring.slot(1).taken).toBe(false)
  expect(ring.slot(1).take(0)).toBe(true)
})

test('a worker that was given up writes to no cursor and to no word that its successor owns', () => {
  const front = ringOf(4, JUST_BEFORE_WRAP)
  const sequences = [0, 1, 2, 3].map(n => publish(front, windowOf(n)))
  const late = new Ring(front.buffer, MOTIF_COUNT, front.epoch)
  late.setServing('hailo')
  for (const sequence of sequences.slice(0, 2)) late.slot(sequence).take(0)
  late.complete(sequences[0]!)
  expect(late.superseded).toBe(false)

  front.supersede()
  expect([late.superseded, front.serving]).toEqual([true, null])
  // What it had taken is passed, what waits is left.
  expect(front.completed).toBe(sequences[2])
  expect(front.slot(sequences[1]!).outcome).toBe('model_unavailable')
  const successor = new Ring(front.buffer, MOTIF_COUNT, front.epoch)
  expect(successor.superseded).toBe(false)

  // It comes back from its native call, at any moment of its successor's work.
  const returns = () => {
    void front.untilBell(front.completed) // the front door sleeps: a bell of the late one would wake it
    const before = new Uint8Array(front.buffer).slice()
    for (const sequence of sequences.slice(0, 2)) late.complete(sequence)
    late.setServing('hailo')
    late.setServing(null)
    expect(new Uint8Array(front.buffer)).toEqual(before)
  }
  returns()
  successor.setServing('onnx')
  returns()
  for (const sequence of sequences.slice(2)) {
    expect(successor.slot(sequence).take(0)).toBe(true)
    returns()
    successor.slot(sequence).finish('ok', 'onnx', 1)
    successor.complete(sequence)
    returns()
  }
  front.release(front.completed)
  returns()
  expect([front.completed, front.serving]).toEqual([front.published, 'onnx'])
})

// complete() of the late worker calls Atomics once before its cursor can be moved by another: the comparison.
test.each([0, 1, 2, 3, 4, 5, 6])(
  'supersede() and a late complete() agree on the cursor, if they meet after %d steps',
  steps => {
    const front = ringOf(2)
    for (const n of [0, 1]) publish(front, windowOf(n))
    const late = new Ring(front.buffer, MOTIF_COUNT, front.epoch)
    late.slot(0).take(0)
    late.slot(0).finish('ok', 'hailo', 1)
    interrupted(steps, { of: () => front.supersede(), by: () => late.complete(0) })
    expect(front.completed).toBe(1)
    expect(front.slot(1).take(0)).toBe(true)
  },
)

test('passTaken() passes what was taken, tells the front door, and leaves what waits', async () => {
  const ring = ringOf(4)
  for (const n of [0, 1, 2, 3]) publish(ring, windowOf(n))
  ring.slot(0).take(0)
  ring.slot(1).drop()
  ring.slot(2).take(0)
  const bell = ring.untilBell(0)
  ring.passTaken()
  expect(await Promise.race([bell, sleep(1000, 'asleep')])).not.toBe('asleep')
  expect(ring.completed).toBe(3)
  expect([0, 2].map(n => ring.slot(n).outcome)).toEqual(['model_unavailable', 'model_unavailable'])
  expect(ring.superseded).toBe(false)
  expect(ring.slot(3).take(0)).toBe(true)
})

test('supersede() leaves a window that the front door dropped as it is, and passes it', () => {
  const ring = ringOf(2)
  for (const n of [0, 1]) publish(ring, windowOf(n))
  ring.slot(0).drop()
  ring.supersede()
  expect([ring.completed, ring.slot(0).taken]).toEqual([1, false])
})

test('supersede() wakes a front door that the lost worker left asleep', async () => {
  const ring = ringOf(1)
  const bell = ring.untilBell(0)
  ring.supersede()
  expect(await Promise.race([bell, sleep(1000, 'asleep')])).not.toBe('asleep')
})

test('untilBell() sleeps while there is nothing new', async () => {
  const ring = ringOf(1)
  publish(ring, windowOf(0))
  const bell = ring.untilBell(0)
  expect(bell).toBeInstanceOf(Promise)
  expect(await Promise.race([bell, sleep(50, 'asleep')])).toBe('asleep')
  ring.complete(0)
  expect(await Promise.race([bell, sleep(1000, 'asleep')])).not.toBe('asleep')
})

// untilBell() calls Atomics four times: bell, asleep, completed, waitAsync.
test.each([0, 1, 2, 3, 4])(
  'untilBell() misses no window that completes after %d of its steps',
  async steps => {
    const ring = ringOf(2)
    publish(ring, windowOf(0))
    publish(ring, windowOf(1))
    const bell = interrupted(steps, { of: () => ring.untilBell(0), by: () => ring.complete(0) })
    expect(ring.completed).toBe(1)
    expect(await Promise.race([bell, sleep(1000, 'asleep')])).not.toBe('asleep')

    // And it has left nothing behind that could swallow the next one.
    const next = ring.untilBell(1) ?? ring.untilBell(1)
    ring.complete(1)
    expect(await Promise.race([next, sleep(1000, 'asleep')])).not.toBe('asleep')
  },
)

test('a late bell for an earlier window does not use up the wake of the next', async () => {
  const ring = ringOf(2)
  publish(ring, windowOf(0))
  publish(ring, windowOf(1))
  // The worker has moved the cursor but not yet rung; the front door settles and goes to sleep again.
  let bell: Promise<unknown> | null = null
  interrupted(1, {
    of: () => ring.complete(0),
    by: () => {
      expect(ring.untilBell(0)).toBeNull()
      bell = ring.untilBell(1)
    },
  })
  expect(await Promise.race([bell, sleep(1000, 'asleep')])).not.toBe('asleep')
  const next = ring.untilBell(1)
  ring.complete(1)
  expect(await Promise.race([next, sleep(1000, 'asleep')])).not.toBe('asleep')
})

test('untilServing() resolves when the worker says so, also when it said so before', async () => {
  const ring = ringOf(1)
  const serving = ring.untilServing()
  expect(await Promise.race([serving, sleep(50, 'opening')])).toBe('opening')
  ring.setServing('onnx')
  await serving
  await ring.untilServing()
  expect(ring.serving).toBe('onnx')
})

test('waitForWindows() does not sleep when windows are there, and not for ever when none are', () => {
  const ring = ringOf(2)
  const wait = vi.spyOn(Atomics, 'wait')
  onTestFinished(() => wait.mockRestore())
  expect(ring.waitForWindows(0, 10)).toBe(0)
  expect(wait).toHaveBeenCalledTimes(1)
  publish(ring, windowOf(0))
  expect(ring.waitForWindows(0, 10)).toBe(1)
  expect(ring.waitForWindows(1, 0)).toBe(0)
  expect(wait).toHaveBeenCalledTimes(1)
})

test('wakeWorker() notifies the worker once while it is parked, and only then', () => {
  const ring = ringOf(1)
  const wake = () => atomicsCalledBy(() => ring.wakeWorker())
  const wait = vi.spyOn(Atomics, 'wait').mockImplementationOnce(() => {
    expect(wake()).toEqual(['exchange 160', 'notify 160'])
    expect(wake()).toEqual([])
    return 'ok'
  })
  onTestFinished(() => wait.mockRestore())
  expect(wake()).toEqual([])
  ring.waitForWindows(0, 1000)
  expect(wait).toHaveBeenCalledTimes(1)
  expect(wake()).toEqual([])
})

// waitForWindows() calls Atomics three times before it sleeps: published, parked, published.
test.each([1, 2, 3])(
  'a worker sleeps through no window that is published after %d steps of parking',
  steps => {
    const ring = ringOf(1)
    const startedMs = performance.now()
    const windows = interrupted(steps, {
      of: () => ring.waitForWindows(0, 5000),
      by: () => {
        publish(ring, windowOf(0))
        ring.wakeWorker()
      },
    })
    expect(windows).toBe(1)
    expect(performance.now() - startedMs).toBeLessThan(1000)
  },
)

// A lost wake shows in about one of 10,000 windows, a torn window more seldom: hence so many.
test('a worker thread and the front door lose, tear, swap or answer twice none of 150,000 windows', {
  timeout: 60_000,
}, async () => {
  const seed = Date.now() & 0xffffff
  console.log(`ring stress: seed ${seed}`)
  const random = wholeRandomOf(seed)
  const windows = 150_000
  const capacity = 64
  const ring = ringOf(capacity, 2 ** 31 - 1000)
  const markOf = (sequence: number) => Math.imul(sequence ^ seed, 0x9e3779b1) >>> 8 // exact in float32

  const echo = new Worker(new URL('./fixtures/ring-echo.mjs', import.meta.url), {
    workerData: { ring: ring.buffer, motifCount: MOTIF_COUNT },
  })
  onTestFinished(async () => void (await echo.terminate()))
  const died = new Promise((_, reject) => echo.on('error', reject))

  const dropped = new Array<boolean>(capacity).fill(false)
  let published = 0
  let answered = 0
  let sleeps = 0
  while (answered < windows) {
    for (let burst = random(capacity); burst >= 0 && ring.nextSlot && published < windows; burst--) {
      const slot = ring.nextSlot
      slot.input.fill(markOf(ring.published))
      slot.output.fill(-1)
      slot.prepare(0, 1)
      ring.publish()
      published++
    }
    ring.wakeWorker()
    // Races the worker for one window of those in flight.
    const wanted = (ring.released + random(capacity)) | 0
    if (distance(wanted, ring.published) > 0 && ring.slot(wanted).drop()) dropped[wanted & 63] = true

    const seen = ring.released
    const bell = random(4) === 0 ? null : ring.untilBell(seen)
    if (bell) {
      sleeps++
      await Promise.race([bell, died])
    }
    const { completed } = ring
    for (let sequence = seen; sequence !== completed; sequence = (sequence + 1) | 0) {
      const { output, outcome } = ring.slot(sequence)
      const expected = dropped[sequence & 63] ? -1 : markOf(sequence) / 2
      if (outcome !== (expected === -1 ? 'deadline_exceeded' : 'ok') || output.some(it => it !== expected)) {
        expect.fail(`seed ${seed}: window ${sequence} is ${outcome} ${output[0]}, expected ${expected}`)
      }
      dropped[sequence & 63] = false
      answered++
    }
    ring.release(completed)
  }
  expect(answered).toBe(windows)
  expect(ring.published).toBe((2 ** 31 - 1000 + windows) | 0)
  expect(sleeps).toBeGreaterThan(100)
  ring.stop()
})

/** What `act` does to shared memory, in order, such as `store 32`: the operation and its word. */
function atomicsCalledBy(act: () => void): string[] {
  const calls: string[] = []
  const operations = ['store', 'exchange', 'compareExchange', 'add', 'notify'] as const
  const spies = operations.map(operation => {
    const real = Atomics[operation] as (...args: unknown[]) => never
    return vi.spyOn(Atomics, operation).mockImplementation((...args: unknown[]) => {
      calls.push(`${operation} ${args[1]}`)
      return real(...args)
    })
  })
  act()
  for (const spy of spies) spy.mockRestore()
  return calls
}

/** Runs `by`, as another thread might, after so many calls of Atomics that `of` makes. */
function interrupted<T>(calls: number, { of, by }: { of: () => T; by: () => void }): T {
  let left = calls
  const interrupt = () => {
    for (const spy of spies) spy.mockRestore()
    by()
  }
  const operations = ['load', 'store', 'exchange', 'compareExchange', 'add', 'notify', 'waitAsync'] as const
  const spies = operations.map(operation => {
    const real = Atomics[operation] as (...args: unknown[]) => never
    return vi.spyOn(Atomics, operation).mockImplementation((...args: unknown[]) => {
      const result = real(...args)
      if (--left === 0) interrupt()
      return result
    })
  })
  if (calls === 0) interrupt()
  try {
    return of()
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
}
