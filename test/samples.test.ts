import { describe, expect, test } from 'vitest'
import { TIMESTEPS, WINDOW_BYTES } from '../src/core/window.ts'
import { SAMPLE_BYTES } from '../src/http/frame.ts'
import { SampleCutter } from '../src/http/samples.ts'
import type { Gap } from '../src/http/variant.ts'
import { randomOf } from './random.ts'

type Event = { window: number; from: number } | { gap: Gap }

describe.each([1, 7, 50, 99, 100, 101, 250])('SampleCutter with a hop of %i', hop => {
  test.each([1, 5, 99, 100, 101, 1000])('cuts the same windows from pieces of up to %i samples', largest => {
    const random = randomOf(hop * 1000 + largest)
    const { cutter, events } = cutterOf({ hop, first: 3 })
    for (let index = 0; index < 2000; ) {
      const count = Math.min(2000 - index, 1 + Math.floor(random() * largest))
      // Now and then from before: samples that were sent already.
      const repeated = random() < 0.2 ? Math.min(index, Math.floor(random() * 150)) : 0
      cutter.push(index - repeated, piece(index - repeated, count + repeated))
      index += count
    }
    const expected: Event[] = []
    for (let k = 3; k * hop + TIMESTEPS <= 2000; k++) expected.push({ window: k, from: k * hop })
    expect(events).toEqual(expected)
  })
})

test('SampleCutter cuts no window over a gap, and tells which is the next that can be whole', () => {
  const { cutter, events } = cutterOf({ hop: 50, first: 0 })
  cutter.push(0, piece(0, 160))
  cutter.push(170, piece(170, 130))
  expect(events).toEqual([
    { window: 0, from: 0 },
    { window: 1, from: 50 },
    { gap: { missing: 160, index: 170, sequence: 4 } },
    { window: 4, from: 200 },
  ])
})

test('SampleCutter leaves a gap that ends just where a window begins at that window', () => {
  const { cutter, events } = cutterOf({ hop: 50, first: 0 })
  cutter.push(0, piece(0, 10))
  cutter.push(100, piece(100, 100))
  expect(events).toEqual([{ gap: { missing: 10, index: 100, sequence: 2 } }, { window: 2, from: 100 }])
})

test('SampleCutter misses nothing between windows that do not touch', () => {
  const { cutter, events } = cutterOf({ hop: 250, first: 0 })
  cutter.push(0, piece(0, 110))
  cutter.push(240, piece(240, 110))
  expect(events).toEqual([
    { window: 0, from: 0 },
    { window: 1, from: 250 },
  ])
})

test('SampleCutter resumes at the first window that is wanted, from whatever sample on', () => {
  for (const from of [0, 120, 150, 180]) {
    const { cutter, events } = cutterOf({ hop: 50, first: 3 })
    cutter.push(from, piece(from, 300 - from))
    const windows = [3, 4].map(window => ({ window, from: window * 50 }))
    const gap = { gap: { missing: 150, index: 180, sequence: 4 } }
    expect(events).toEqual(from === 180 ? [gap, windows[1]] : windows)
  }
})

test('SampleCutter goes on over the wrap of index and sequence', () => {
  const first = 0xffff_ffff
  const { cutter, events } = cutterOf({ hop: 50, first })
  const start = (first * 50) % 2 ** 32
  cutter.push(start, piece(start, 60))
  cutter.push((start + 60) % 2 ** 32, piece(start + 60, 90))
  expect(events).toEqual([
    { window: first, from: start },
    { window: 0, from: (start + 50) % 2 ** 32 },
  ])
})

function cutterOf(options: { hop: number; first: number }) {
  const events: Event[] = []
  const cutter = new SampleCutter(options, {
    window: (sequence, bytes) => {
      expect(bytes).toHaveLength(WINDOW_BYTES)
      const values = new Uint32Array(Uint8Array.from(bytes).buffer)
      const from = values[0]!
      // Each value of a sample says its index.
      expect(values.every((value, at) => value === (from + Math.floor(at / 9)) % 2 ** 32)).toBe(true)
      events.push({ window: sequence, from })
    },
    gap: gap => events.push({ gap }),
  })
  return { cutter, events }
}

/** Samples whose nine values are each their index, of any four bytes. They begin at an odd address. */
function piece(from: number, count: number): Uint8Array {
  const values = Uint32Array.from({ length: count * 9 }, (_, at) => from + Math.floor(at / 9))
  const bytes = new Uint8Array(count * SAMPLE_BYTES + 1).subarray(1)
  bytes.set(new Uint8Array(values.buffer))
  return bytes
}
