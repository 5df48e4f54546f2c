import { describe, expect, test } from 'vitest'
import { JSON_TEXT } from '../src/http/json-frames.ts'
import { windowOf } from './windows.ts'

/** Live windows have 40 ms: no frame may keep the event loop for much of that. Reading the JSON takes some 5 ms. */
const LONGEST_READ_MS = 40
const MAX_FRAME_BYTES = 256 * 1024

describe('the largest JSON frame is read in no time', () => {
  test.each([
    ['rows of nothing', '[]', /^Cannot read samples: row 0 has 0 channels, expected 9/],
    ['numbers for rows', '0', /^Cannot read samples: row 0 is not an array of 9 numbers/],
    ['rows of texts', '["","","","","","","","",""]', /^Cannot read samples: row 0 channel 0 \(ax\) is not/],
  ])('with %s', (_, row, why) => {
    const { frame, tookMs } = read(`{"type":"samples","index":0,"samples":[${filledWith(row)}]}`)
    expect(frame).toMatchObject({ type: 'unreadable', name: 'samples', detail: expect.stringMatching(why) })
    expect(tookMs).toBeLessThan(LONGEST_READ_MS)
  })

  test('with a bad row at its end', () => {
    const good = filledWith('[0,0,9,0,0,0,0,0,0]')
    const { frame, tookMs } = read(`{"type":"samples","index":0,"samples":[${good},[0]]}`)
    const rows = good.split('],').length
    expect(frame).toMatchObject({ detail: expect.stringContaining(`row ${rows} has 1 channels`) })
    expect(tookMs).toBeLessThan(LONGEST_READ_MS)
  })

  test('with good samples', () => {
    const { frame, tookMs } = read(
      `{"type":"samples","index":7,"samples":[${filledWith('[0,0,9,0,0,0,0,0,-1]')}]}`,
    )
    if (frame.type !== 'samples') throw new Error(frame.type)
    const values = new Float32Array(frame.bytes.buffer)
    expect(values.length % 9).toBe(0)
    expect(values.length).toBeGreaterThan(100_000)
    expect([...values.subarray(-9)]).toEqual([0, 0, 9, 0, 0, 0, 0, 0, -1])
    expect(tookMs).toBeLessThan(LONGEST_READ_MS)
  })

  test('with a window of rows of nothing', () => {
    const { frame, tookMs } = read(`{"type":"window","seq":0,"x":[${filledWith('[]')}]}`)
    if (frame.type !== 'window') throw new Error(frame.type)
    const input = windowOf(0)
    expect(frame.fill({ input, inputBytes: new Uint8Array(input.buffer) })).toMatch(/rows, expected 100$/)
    expect(tookMs).toBeLessThan(LONGEST_READ_MS)
  })
})

test('samples as JSON are finite numbers', () => {
  const { frame } = read('{"type":"samples","index":0,"samples":[[1,2,3,4,5,6,7,8,1e999]]}')
  expect(frame).toMatchObject({
    type: 'unreadable',
    detail: 'Cannot read samples: row 0 channel 8 (mz) is not a finite number',
  })
})

/** As many of these as a frame can hold. */
function filledWith(item: string): string {
  return Array(Math.floor((MAX_FRAME_BYTES - 100) / (item.length + 1)))
    .fill(item)
    .join()
}

/** The quickest of three: others may want the processor too. */
function read(text: string) {
  const message = Buffer.from(text)
  expect(message.length).toBeLessThanOrEqual(MAX_FRAME_BYTES)
  let tookMs = Number.POSITIVE_INFINITY
  for (let n = 0; n < 3; n++) {
    const startedMs = performance.now()
    JSON_TEXT.read(message)
    tookMs = Math.min(tookMs, performance.now() - startedMs)
  }
  return { frame: JSON_TEXT.read(message), tookMs }
}
