import { expect, test } from 'vitest'
import { FAULTS } from './faults/faults.ts'
import { closedLoop, distinctWindow, metric, openLoop, post, startServerForTest, tallyOf } from './load.ts'

/** Every window keeps the only worker busy for so long, and the processor idle: client and server have time enough. */
const SERVICE_MS = 15
const DEADLINE_MS = 300
const TURN_SECONDS = 1.5
const windowAt = (index: number) => distinctWindow(index, FAULTS.block + SERVICE_MS)

test('ten times the load that it can bear takes neither goodput nor deadlines', async () => {
  const env = { INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: String(DEADLINE_MS) }
  const { port } = await startServerForTest(env, { faults: true })
  const bear = () => {
    const untilMs = performance.now() + TURN_SECONDS * 1000
    return closedLoop({
      port,
      clients: 4,
      more: () => performance.now() < untilMs,
      request: connection => connection.post(windowAt(0)),
    })
  }
  const overload = () =>
    openLoop({ port, perSecond: (10 * 1000) / SERVICE_MS, seconds: TURN_SECONDS, window: windowAt })

  // In turns, so that a machine which is busy for a while is so for both.
  await bear() // learns how long a window takes
  const capacity = { answered: 0, seconds: 0 }
  const goodput = { answered: 0, seconds: 0 }
  const statuses: number[] = []
  for (let turn = 0; turn < 2; turn++) {
    let startedMs = performance.now()
    const { 200: borne = 0 } = tallyOf((await bear()).flat())
    capacity.answered += borne
    capacity.seconds += (performance.now() - startedMs) / 1000
    startedMs = performance.now()
    statuses.push(...(await overload()).map(({ status }) => status))
    goodput.seconds += (performance.now() - startedMs) / 1000
  }
  const { 200: answered = 0, 429: shed = 0, 504: late = 0 } = tallyOf(statuses)
  goodput.answered = answered
  expect(answered + shed + late).toBe(statuses.length)
  expect(shed).toBeGreaterThan(statuses.length / 2)
  // The goals, 0.95 and 1 % late, are measured over a minute by `npm run bench -- overload`, on a machine that is idle.
  // Without admission the worker comes to nothing in time: all that it takes has waited for as long as the ring is long.
  expect(goodput.answered / goodput.seconds).toBeGreaterThan((0.4 * capacity.answered) / capacity.seconds)
  expect(late).toBeLessThan(answered / 2)
  expect(await metric(port, 'hailo_rejected_total', 'reason="wait_too_long"')).toBeGreaterThan(0)
  expect((await post(port, distinctWindow(0), { deadlineMs: 2000 })).status).toBe(200)
})
