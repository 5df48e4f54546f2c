import { expect, test } from 'vitest'
import { BACKENDS } from '../src/core/backend.ts'
import { Ring } from '../src/core/ring.ts'
import { WINDOW_BYTES } from '../src/core/window.ts'
import { BINARY } from '../src/http/binary-frames.ts'
import { decodeHead, encodeFrame, headBytes, WINDOW_STATUSES } from '../src/http/frame.ts'
import type { Frame, WindowFrame } from '../src/http/variant.ts'
import { randomOf } from './random.ts'
import { MOTIF_COUNT, windowOf } from './windows.ts'

const seed = Date.now() % 2 ** 32
const random = randomOf(seed)
const uint32 = () => Math.floor(random() * 2 ** 32)
const finite = () => new Float32Array(Uint32Array.of(uint32()).buffer)[0]!

test('a window frame is read as typed-binary reads it, from any address', () => {
  const { input, inputBytes } = slotOf()
  for (let n = 0; n < 300; n++) {
    const window = windowOf(n % 64)
    const frame = encodeFrame('window', { sequence: uint32(), deadlineMs: finite() }, bytesOf(window))
    const message = new Uint8Array(frame.length + (n % 8)).subarray(n % 8)
    message.set(frame)
    const read = BINARY.read(message) as WindowFrame
    const { sequence, deadlineMs } = decodeHead('window', frame)
    expect([read.sequence, read.deadlineMs], `seed ${seed}`).toEqual([sequence, deadlineMs])
    expect(read.fill({ input, inputBytes })).toBeNull()
    expect(Buffer.compare(inputBytes, bytesOf(window))).toBe(0)
  }
})

test('a result that is written over an earlier one is what typed-binary makes of it', () => {
  const slot = slotOf()
  let used: Frame | null = null
  for (let n = 0; n < 300; n++) {
    const backend = BACKENDS[n % BACKENDS.length]!
    const [sequence, publishedMs] = [uint32(), 1e6]
    slot.prepare(publishedMs, Number.POSITIVE_INFINITY)
    slot.take(publishedMs + random() * 1e5)
    slot.output.forEach((_, value) => {
      slot.output[value] = random()
    })
    slot.finish('ok', backend, publishedMs + 1e5 + random() * 1e5)
    const head = {
      sequence,
      queueUs: Math.round(slot.queueWaitMs * 1000),
      inferUs: Math.round(slot.inferenceMs * 1000),
      status: WINDOW_STATUSES.indexOf('ok'),
      backend: BACKENDS.indexOf(backend),
      modelStart: uint32() & 0xffff,
    }
    used = BINARY.result(sequence, slot, { sha256: '', start: head.modelStart }, used)
    const expected = encodeFrame('result', head, bytesOf(slot.output))
    expect(Buffer.compare(used as Uint8Array, expected), `seed ${seed}`).toBe(0)
  }
})

test('credits are what typed-binary makes of them', () => {
  for (const count of [1, 32, uint32()]) {
    expect(BINARY.credit(count)).toEqual(encodeFrame('credit', { count }))
  }
})

test('a window frame that ends within its head is none, and one that ends behind it is told in its turn', () => {
  const frame = encodeFrame('window', { sequence: 7, deadlineMs: 0 }, new Uint8Array(WINDOW_BYTES))
  for (let length = 4; length < headBytes('window'); length++) {
    expect(BINARY.read(frame.subarray(0, length))).toMatchObject({ type: 'unreadable', name: 'window' })
  }
  const cut = BINARY.read(frame.subarray(0, headBytes('window'))) as WindowFrame
  expect(cut.sequence).toBe(7)
  expect(cut.fill(slotOf())).toMatch('has 0 bytes, expected 3600')
})

function slotOf() {
  return Ring.create({ capacity: 1, motifCount: MOTIF_COUNT }).nextSlot!
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength).slice()
}
