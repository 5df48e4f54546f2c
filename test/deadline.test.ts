import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { FAULTS } from './faults/faults.ts'
import {
  type Answer,
  Connection,
  distinctWindow,
  get,
  metric,
  post,
  startServerForTest,
  until,
} from './load.ts'

/** How long the worker is kept busy. */
const BLOCK_MS = 290
const BLOCKING = distinctWindow(0, FAULTS.block + BLOCK_MS)

test('a window that waits past its deadline is answered 504 then, and never given to the model', async () => {
  const { port } = await startFaultyServer()
  const blocking = await block(port)
  const late = await post(port, distinctWindow(1), { deadlineMs: 100 })
  expect(late.status).toBe(504)
  expect(JSON.parse(late.body.toString())).toMatchObject({
    error: 'deadline_exceeded',
    detail: expect.stringMatching(
      /^There is no result after \d+\.\d ms, expected within the deadline of 100.0 ms$/,
    ),
  })
  expect(late.tookMs).toBeGreaterThan(99)
  expect(late.tookMs).toBeLessThan(200)

  expect((await blocking.answer).status).toBe(200)
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(1)
})

test('the same window with a longer X-Deadline-Ms waits and is answered 200', async () => {
  const { port } = await startFaultyServer({ DEADLINE_MS: '40' })
  const blocking = await block(port)
  const answer = await post(port, distinctWindow(1), { deadlineMs: 2000 })
  expect(answer.status).toBe(200)
  expect(answer.tookMs).toBeGreaterThan(BLOCK_MS / 2)
  expect((await blocking.answer).status).toBe(200)
  expect(await windowsRun(port)).toBe(2)
})

test('a full ring refuses with 429 at once, and says when to come back', async () => {
  const { port } = await startFaultyServer({ RING_SLOTS: '2' })
  const blocking = await block(port)
  const waiting = post(port, distinctWindow(1))
  await until(async () => (await metric(port, 'hailo_queue_depth')) === 2)
  const refused = await post(port, distinctWindow(2))
  expectRefusal(refused, /slots are taken/)
  expect(await metric(port, 'hailo_rejected_total', 'reason="ring_full"')).toBe(1)

  expect((await blocking.answer).status).toBe(200)
  expect((await waiting).status).toBe(200)
  expect((await post(port, distinctWindow(3))).status).toBe(200)
})

test('a window that would be answered after its deadline is refused when it comes', async () => {
  const { port } = await startFaultyServer()
  const blocking = await block(port)
  await sleep(60)
  const refused = await post(port, distinctWindow(1), { deadlineMs: 30 })
  expectRefusal(refused, /^The answer would .* deadline/)
  expect(await metric(port, 'hailo_rejected_total', 'reason="wait_too_long"')).toBe(1)

  expect((await blocking.answer).status).toBe(200)
  expect((await post(port, distinctWindow(2))).status).toBe(200)
  expect(await windowsRun(port)).toBe(2)
})

test('a client that goes before its body is complete leaves nothing behind', async () => {
  const { port } = await startFaultyServer()
  const connection = new Connection(port)
  connection.socket.write('POST /infer HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\n')
  connection.socket.write('Content-Length: 3600\r\n\r\nThese are not 3,600 bytes.')
  await sleep(30)
  connection.close()
  expect((await post(port, distinctWindow(1))).status).toBe(200)
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(1)
  expect(await metric(port, 'hailo_http_requests_total', 'endpoint="/infer"')).toBe(1)
})

test('a client that goes while its window waits costs no time of the model', async () => {
  const { port } = await startFaultyServer({ RING_SLOTS: '2' })
  const blocking = await block(port)
  const leaving = new Connection(port)
  leaving.post(distinctWindow(1)).catch(() => {})
  await until(async () => (await metric(port, 'hailo_queue_depth')) === 2)
  leaving.close()
  await until(async () => (await metric(port, 'hailo_cancelled_total')) === 1)

  expect((await blocking.answer).status).toBe(200)
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(1)
})

test('a client that goes while the model runs its window does no harm to the next', async () => {
  const { port } = await startFaultyServer()
  const leaving = await block(port)
  leaving.connection.close()
  await until(async () => (await metric(port, 'hailo_cancelled_total')) === 1)
  expect((await post(port, distinctWindow(1))).status).toBe(200)
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(2)
})

test('clients that go leave their slots to others within 150 ms, from a full ring', async () => {
  const slots = 16
  const { port } = await startFaultyServer({ RING_SLOTS: String(slots) })
  const waits: number[] = []
  for (let round = 0; round < 30; round++) {
    const leaving = Array.from({ length: slots }, () => new Connection(port))
    for (const [at, connection] of leaving.entries()) {
      connection.post(distinctWindow(at, FAULTS.block + 4)).catch(() => {})
    }
    await until(async () => (await metric(port, 'hailo_queue_depth')) >= slots - 2)
    for (const connection of leaving) connection.close()
    const goneMs = performance.now()
    await until(async () => (await post(port, distinctWindow(round))).status === 200)
    waits.push(performance.now() - goneMs)
  }
  expect(Math.max(...waits)).toBeLessThan(150)
  await expectIdle(port)
  expect(await metric(port, 'hailo_cancelled_total')).toBeGreaterThan(30)
})

test('clients that go as soon as they have their answer are not counted as gone', async () => {
  const { port } = await startFaultyServer()
  for (let sequence = 0; sequence < 100; sequence++) {
    expect((await post(port, distinctWindow(sequence))).status).toBe(200)
  }
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(100)
  expect(await metric(port, 'hailo_cancelled_total')).toBe(0)
})

function startFaultyServer(env: Record<string, string> = {}) {
  return startServerForTest(
    { INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: '5000', ...env },
    { faults: true },
  )
}

/** Keeps the only worker busy for BLOCK_MS. Resolves when it is. */
async function block(port: number): Promise<{ connection: Connection; answer: Promise<Answer> }> {
  const connection = new Connection(port)
  const answer = connection.post(BLOCKING, { deadlineMs: 2000 }).finally(() => connection.close())
  answer.catch(() => {})
  await until(async () => (await metric(port, 'hailo_queue_depth')) === 1)
  await sleep(20)
  return { connection, answer }
}

function expectRefusal(answer: Answer, detail: RegExp): void {
  expect(answer.status).toBe(429)
  expect(JSON.parse(answer.body.toString())).toMatchObject({
    error: 'overloaded',
    detail: expect.stringMatching(detail),
  })
  expect(answer.headers['retry-after']).toMatch(/^[1-9]\d*$/)
  expect(answer.tookMs).toBeLessThan(BLOCK_MS / 2)
}

/** Every slot has come back, and the server goes on. */
async function expectIdle(port: number): Promise<void> {
  await until(async () => (await metric(port, 'hailo_queue_depth')) === 0)
  expect((await get(port, '/healthz')).status).toBe(200)
}

/** How many windows the model has run. */
async function windowsRun(port: number): Promise<number> {
  const run = await metric(port, 'hailo_batch_size_sum')
  expect(await metric(port, 'hailo_samples_processed_total', 'latent_vectors')).toBe(run)
  return run
}
