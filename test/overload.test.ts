import { expect, test } from 'vitest'
import { FAULTS } from './faults/faults.ts'
import {
  closedLoop,
  distinctWindow,
  openLoop,
  post,
  residentMegabytes,
  startServerForTest,
  tallyOf,
} from './load.ts'

/** Every window keeps the only worker busy for so long: the capacity is known, whatever the machine. */
const SERVICE_MS = 10
const CAPACITY_PER_SECOND = 1000 / SERVICE_MS
const DEADLINE_MS = 40

test('four times the load that it can bear takes neither goodput, deadlines nor memory', async () => {
  const server = await startServerForTest(
    { INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: String(DEADLINE_MS) },
    { faults: true },
  )
  const { port } = server
  const overload = (seconds: number) =>
    openLoop({
      port,
      perSecond: 4 * CAPACITY_PER_SECOND,
      seconds,
      window: index => distinctWindow(index, FAULTS.block + SERVICE_MS),
    })
  const firstHalf = await overload(3)
  const megabytesAtHalf = residentMegabytes(server.process.pid!)
  const secondHalf = await overload(3)
  expect(residentMegabytes(server.process.pid!)).toBeLessThan(megabytesAtHalf + 25)

  const answers = [...firstHalf, ...secondHalf]
  const { 200: answered = 0, 429: shed = 0, 504: late = 0 } = tallyOf(answers.map(({ status }) => status))
  expect(answered + shed + late).toBe(answers.length)
  expect(answered).toBeGreaterThan((6 * CAPACITY_PER_SECOND) / 2)
  const inTime = answers.filter(({ status, tookMs }) => status === 200 && tookMs < DEADLINE_MS + 20)
  expect(inTime.length).toBeGreaterThan(0.95 * answered)

  for (let sequence = 0; sequence < 20; sequence++) {
    expect((await post(port, distinctWindow(sequence), { deadlineMs: 1000 })).status).toBe(200)
  }
})

test('the model answers 2,000 windows over 8 connections without a failure', async () => {
  const { port } = await startServerForTest()
  let sequence = 0
  const outcomes = await closedLoop({
    port,
    clients: 8,
    more: () => sequence < 2000,
    request: connection => connection.post(distinctWindow(sequence++), { deadlineMs: 1000 }),
  })
  expect(tallyOf(outcomes.flat())).toEqual({ 200: 2000 })
})
