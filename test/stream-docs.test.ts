import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { frameName, HEADS, headBytes, WINDOW_STATUSES } from '../src/http/frame.ts'

const DOCUMENT = readFileSync('docs/stream.md', 'utf8')

test('docs/stream.md tells the type and the size of the head of every frame', () => {
  const rows = [...DOCUMENT.matchAll(/^\| `(\w+)` \| (\d+) \| (\d+) \|/gm)]
  expect(rows.map(([, name]) => name)).toEqual(Object.keys(HEADS))
  for (const [, name, type, bytes] of rows) {
    expect(frameName(new Uint8Array(Uint32Array.of(Number(type)).buffer))).toBe(name)
    expect(headBytes(name as keyof typeof HEADS)).toBe(Number(bytes))
  }
})

test('docs/stream.md tells the offset of every field', () => {
  const table = DOCUMENT.slice(DOCUMENT.indexOf('| frame | offset |'), DOCUMENT.indexOf('Statuses:'))
  const sizes = { uint8: 1, uint16: 2, uint32: 4, float32: 4, '32 bytes': 32 }
  const ends = new Map<string, number>()
  let frame = ''
  for (const [, name, offset, size] of table.matchAll(
    /^\| (?:`?(\w+)`?)? ?\| (\d+) \| [\w ]+ \| (uint8|uint16|uint32|float32|32 bytes)/gm,
  )) {
    frame = name ?? frame
    if (frame === 'all') continue
    expect(Number(offset), `${frame} at ${offset}`).toBe(ends.get(frame) ?? 4)
    ends.set(frame, Number(offset) + sizes[size as keyof typeof sizes])
  }
  const withFields = Object.keys(HEADS).filter(name => headBytes(name as keyof typeof HEADS) > 4)
  expect([...ends.keys()]).toEqual(withFields)
  for (const [name, end] of ends) expect(end, name).toBe(headBytes(name as keyof typeof HEADS))
})

test('docs/stream.md lists the statuses in the order of their numbers', () => {
  const list = DOCUMENT.slice(DOCUMENT.indexOf('Statuses:'), DOCUMENT.indexOf('## JSON frames'))
  const statuses = [...list.matchAll(/\d `(\w+)`/g)].map(([, word]) => word)
  expect(statuses).toEqual([...WINDOW_STATUSES])
})
