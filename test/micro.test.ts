import { expect, test } from 'vitest'
import { HOP_PATHS, runHop } from '../bench/micro/hop.ts'
import { benchMicro } from '../bench/micro/micro.ts'

test.each(HOP_PATHS)('windows come back from another thread with the right results: %s', async path => {
  const { windows, wallMs, cpuUs } = await runHop({ path, depth: 8, ms: 10 })
  expect(windows).toBeGreaterThan(0)
  expect(wallMs).toBeGreaterThan(0)
  expect(cpuUs).toBeGreaterThan(0)
})

test('every part of the way is measured, under a name of its own', async () => {
  const rows = await benchMicro({ ms: 0 })
  expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length)
  expect(rows.filter(({ usPerOp }) => !(usPerOp > 0))).toEqual([])
})
