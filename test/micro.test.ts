import { expect, test } from 'vitest'
import { benchHops, HOP_PATHS } from '../bench/micro/hop.ts'
import { benchMicro } from '../bench/micro/micro.ts'
import { rowOf } from '../bench/micro/row.ts'

test('every path between threads brings its windows back with the right results', async () => {
  const rows = await benchHops({ depths: [8], ms: 10, runs: 1 })
  expect(rows.map(({ path }) => path)).toEqual(HOP_PATHS)
  for (const { usPerOp, cpuUsPerOp, samples } of rows) {
    expect(usPerOp).toBeGreaterThan(0)
    expect(cpuUsPerOp).toBeGreaterThan(0)
    expect(samples).toBe(1)
  }
})

test('every part of the way is measured, under a name of its own', () => {
  const rows = benchMicro({ ms: 0 })
  expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length)
  expect(rows.filter(({ usPerOp, samples }) => !(usPerOp > 0 && samples > 0))).toEqual([])
})

test('rowOf() tells the median, and how far most samples lie from it', () => {
  expect(rowOf('x', [9, 1, 2, 3, 4, 5, 6, 7, 8, 10, 1000])).toEqual({
    name: 'x',
    opsPerSecond: 1e6 / 6,
    usPerOp: 6,
    spread: [2, 10],
    samples: 11,
  })
})
