import { expect, test } from 'vitest'
import type { Slot } from '../src/core/slot.ts'
import { WINDOW_BYTES } from '../src/core/window.ts'
import { BinaryWindowReader } from '../src/http/window-readers.ts'
import { wholeRandomOf } from './random.ts'
import { ringOf, windowOf } from './windows.ts'

/** More than one read of a socket brings. */
const WINDOWS = 200
const BODY = Buffer.concat(Array.from({ length: WINDOWS }, (_, at) => new Uint8Array(numbered(at).buffer)))

test('windows come out as they went in, however parts are cut and whenever there is room', () => {
  for (let seed = 0; seed < 20; seed++) {
    const random = wholeRandomOf(seed)
    const reader = new BinaryWindowReader()
    const taken: number[] = []
    for (let at = 0, to = 0; at < BODY.length; at = to) {
      to = Math.min(BODY.length, at + 1 + random(seed < 10 ? 3 * WINDOW_BYTES : 400_000))
      const lent = Uint8Array.from(BODY.subarray(at, to))
      reader.push(lent)
      for (let room = random(60); room > 0 && reader.hasNext(); room--) taken.push(numberIn(reader))
      reader.keep()
      lent.fill(0xff) // the socket's again
    }
    while (reader.hasNext()) taken.push(numberIn(reader))
    expect(taken).toEqual(Array.from({ length: WINDOWS }, (_, number) => number))
    reader.end()
    expect(reader.fault).toBeNull()
    reader.close()
  }
})

test('memory that one reader gave back is never that of two others', () => {
  const readers = [0, 1].map(() => new BinaryWindowReader())
  for (const reader of readers) keep(reader, 0)
  for (const reader of [...readers, ...readers]) reader.close()
  const next = Array.from({ length: 5 }, () => new BinaryWindowReader())
  next.forEach(keep)
  expect(next.map(numberIn)).toEqual([0, 1, 2, 3, 4])
})

const slot: Slot = ringOf(1).nextSlot!

function numberIn(reader: BinaryWindowReader): number {
  expect(reader.takeInto(slot)).toBeNull()
  return slot.input[0]!
}

function keep(reader: BinaryWindowReader, number: number): void {
  reader.push(new Uint8Array(numbered(number).buffer))
  reader.keep()
}

function numbered(number: number): Float32Array {
  return windowOf(0).with(0, number)
}
