import { expect, test } from 'vitest'
import { parseWindow, readWindow } from '../src/core/window.ts'
import { ringOf, windowOf } from './windows.ts'

const CHANNELS: [channel: number, name: string, limit: number, unit: string][] = [
  [0, 'ax', 500, 'm/s²'],
  [1, 'ay', 500, 'm/s²'],
  [2, 'az', 500, 'm/s²'],
  [3, 'gx', 35, 'rad/s'],
  [4, 'gy', 35, 'rad/s'],
  [5, 'gz', 35, 'rad/s'],
  [6, 'mx', 2000, 'µT'],
  [7, 'my', 2000, 'µT'],
  [8, 'mz', 2000, 'µT'],
]

test('readWindow() takes over every recorded window bit for bit, wherever its bytes begin', () => {
  for (let n = 0; n < 64; n++) {
    const bytes = bytesOf(windowOf(n))
    const unaligned = new Uint8Array(3601).subarray(1)
    unaligned.set(bytes)
    const { input, inputBytes } = ringOf(1).slot(0)
    expect(readWindow(unaligned, { input, inputBytes })).toBeNull()
    expect(Buffer.from(inputBytes).equals(bytes)).toBe(true)
    expect(input).toEqual(windowOf(n))
  }
})

test('parseWindow() rounds every number to float32', () => {
  const rows = rowsOf(windowOf(0)).map(row => row.map(value => value * (1 + 2e-8) + 1e-9))
  const window = new Float32Array(900)
  expect(parseWindow(rows, window)).toBeNull()
  expect([...window]).toEqual(rows.flat().map(Math.fround))
  expect([...window]).not.toEqual(rows.flat())
})

test('parseWindow() keeps a float32 that was printed as JSON, and minus zero, bit for bit', () => {
  const rows = rowsOf(windowOf(5))
  rows[50]![4] = -0
  const window = new Float32Array(900)
  // JSON.stringify() prints -0 as 0; other senders do not.
  expect(parseWindow(JSON.parse(JSON.stringify(rows).replace(',0,', ',-0,')), window)).toBeNull()
  expect(bytesOf(window).equals(bytesOf(Float32Array.from(rows.flat())))).toBe(true)
})

test.each([0, 3599, 3601, 7200])('readWindow() refuses %d bytes and does not touch the slot', length => {
  const { input, inputBytes } = ringOf(1).slot(0)
  expect(readWindow(new Uint8Array(length).fill(1), { input, inputBytes })).toBe(
    `Cannot read window: the body has ${length} bytes, expected 3600 (little-endian float32[100][9])`,
  )
  expect(inputBytes.every(byte => byte === 0)).toBe(true)
})

test.each(CHANNELS)('both readers take channel %d (%s) at its limit, ±%d %s', (channel, _, limit) => {
  for (const row of [0, 99]) {
    for (const value of [limit, -limit]) {
      expect(read(row, channel, value)).toBeNull()
      expect(parse(row, channel, value)).toBeNull()
    }
  }
})

test.each(CHANNELS)(
  'both readers refuse channel %d (%s) just beyond ±%d %s',
  (channel, name, limit, unit) => {
    const refusal = (row: number, value: number) =>
      `Cannot accept window: row ${row} channel ${channel} (${name}) is ${value}, expected a finite number from -${limit} to ${limit} ${unit}`
    for (const row of [0, 99]) {
      for (const sign of [1, -1]) {
        const float32 = sign * nextFloat32(limit)
        expect(read(row, channel, float32)).toBe(refusal(row, float32))
        // As float32 this would be the limit itself: what the client wrote is what counts.
        const float64 = sign * limit * (1 + Number.EPSILON)
        expect(parse(row, channel, float64)).toBe(refusal(row, float64))
      }
    }
  },
)

test.each([Number.NaN, Infinity, -Infinity])('readWindow() refuses %d', value => {
  expect(read(37, 8, value)).toBe(
    `Cannot accept window: row 37 channel 8 (mz) is ${value}, expected a finite number from -2000 to 2000 µT`,
  )
})

test.each([
  ['1e400', 'Infinity'],
  ['-1e400', '-Infinity'],
])('parseWindow() refuses %s', (json, found) => {
  expect(parse(37, 3, JSON.parse(json))).toBe(
    `Cannot accept window: row 37 channel 3 (gx) is ${found}, expected a finite number from -35 to 35 rad/s`,
  )
})

test.each([
  ['a string', '1.5'],
  ['a boolean', true],
  ['null', null],
  ['missing', undefined],
  ['an object', { value: 1 }],
  ['an array', [1]],
])('parseWindow() refuses %s in place of a number', (kind, value) => {
  expect(parse(37, 8, value)).toBe(`Cannot parse window: row 37 channel 8 (mz) is ${kind}, expected a number`)
})

test.each([
  ['a string', '123456789'],
  ['a boolean', false],
  ['null', null],
  ['missing', undefined],
  ['an object', { length: 9 }],
  ['a number', 9],
])('parseWindow() refuses %s in place of a row', (kind, row) => {
  const rows: unknown[] = rowsOf(windowOf(0))
  rows[99] = row
  expect(parseWindow(rows, new Float32Array(900))).toBe(
    `Cannot parse window: row 99 is ${kind}, expected an array of 9 numbers`,
  )
})

test.each([
  ['a string', 'window'],
  ['a boolean', true],
  ['null', null],
  ['missing', undefined],
  ['an object', { length: 100 }],
  ['a number', 100],
])('parseWindow() refuses %s in place of the rows', (kind, rows) => {
  expect(parseWindow(rows, new Float32Array(900))).toBe(
    `Cannot parse window: got ${kind}, expected an array of 100 rows of 9 numbers`,
  )
})

test.each([0, 1, 99, 101])('parseWindow() refuses %d rows', count => {
  const rows = [...rowsOf(windowOf(0)), ...rowsOf(windowOf(1))].slice(0, count)
  expect(parseWindow(rows, new Float32Array(900))).toBe(
    `Cannot parse window: it has ${count} rows, expected 100`,
  )
})

test.each([0, 8, 10])('parseWindow() refuses a row of %d channels', count => {
  const rows = rowsOf(windowOf(0))
  rows[42] = new Array(count).fill(0)
  expect(parseWindow(rows, new Float32Array(900))).toBe(
    `Cannot parse window: row 42 has ${count} channels, expected 9 (ax ay az gx gy gz mx my mz)`,
  )
})

test('both readers name the first of several mistakes', () => {
  const rows: unknown[][] = rowsOf(windowOf(0))
  rows[2]![7] = 2001
  rows[3]![0] = 'x'
  rows[4] = []
  expect(parseWindow(rows, new Float32Array(900))).toContain('row 2 channel 7 (my) is 2001')
  const window = windowOf(0).slice()
  window[5 * 9 + 1] = Number.NaN
  window[6 * 9 + 0] = 501
  const { input, inputBytes } = ringOf(1).slot(0)
  expect(readWindow(bytesOf(window), { input, inputBytes })).toContain('row 5 channel 1 (ay) is NaN')
})

test('parseWindow() never echoes what the client wrote as text', () => {
  const text = '<script>'
  const rows: unknown[] = rowsOf(windowOf(0))
  const answers = [
    parseWindow(text, new Float32Array(900)),
    parseWindow({ [text]: text }, new Float32Array(900)),
    parseWindow([text], new Float32Array(900)),
    parseWindow(rows.with(0, text), new Float32Array(900)),
    parseWindow(rows.with(0, [text]), new Float32Array(900)),
    parse(0, 0, text),
    parse(0, 0, { [text]: text }),
    parse(0, 0, [text]),
  ]
  for (const answer of answers) {
    expect(answer).toMatch(/^Cannot parse window: /)
    expect(answer).not.toContain('script')
  }
})

/** A recorded window with one value replaced, sent as bytes. */
function read(row: number, channel: number, value: number): string | null {
  const window = windowOf(0).slice()
  window[row * 9 + channel] = value
  const { input, inputBytes } = ringOf(1).slot(0)
  return readWindow(bytesOf(window), { input, inputBytes })
}

/** A recorded window with one value replaced, sent as JSON. */
function parse(row: number, channel: number, value: unknown): string | null {
  const rows: unknown[][] = rowsOf(windowOf(0))
  rows[row]![channel] = value
  return parseWindow(rows, new Float32Array(900))
}

function rowsOf(window: Float32Array): number[][] {
  return Array.from({ length: 100 }, (_, row) => [...window.subarray(row * 9, (row + 1) * 9)])
}

function bytesOf(window: Float32Array): Buffer {
  return Buffer.from(window.buffer, window.byteOffset, window.byteLength)
}

/** The next larger float32 than a positive one. */
function nextFloat32(value: number): number {
  const bits = new Int32Array(Float32Array.of(value).buffer)
  bits[0]!++
  return new Float32Array(bits.buffer)[0]!
}
