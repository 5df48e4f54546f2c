import { expect, test } from 'vitest'
import { HistogramRow } from '../src/tally.ts'
import { randomOf } from './random.ts'

test('HistogramRow puts each value where it belongs, wherever the one before was', () => {
  const edges = [0.001, 0.0025, 0.005, 0.045, 1]
  const random = randomOf(11)
  const values = [
    ...edges,
    0,
    5,
    ...edges.toReversed(),
    ...Array.from({ length: 500 }, () => 10 ** (random() * 5 - 4)),
  ]
  const row = new HistogramRow({}, edges)
  for (const value of values) row.observe(value)
  const upTo = (edge: number) => values.filter(value => value <= edge).length
  const cumulative = [...edges, Infinity].map(upTo)
  expect([...row.counts]).toEqual(cumulative.map((count, n) => count - (cumulative[n - 1] ?? 0)))
  expect(row.sum).toBeCloseTo(
    values.reduce((sum, value) => sum + value),
    6,
  )
})
