import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { LEVEL } from '../src/core/degradation.ts'
import { FAULTS } from './faults/faults.ts'
import { bytesOf, headOf, JSON_TYPE, OCTET_STREAM, Connection as Upload } from './http-client.ts'
import {
  type Answer,
  Connection,
  distinctWindow,
  expectIdle,
  metric,
  post,
  startFaultyServer,
  until,
  untilInFlight,
  windowsRun,
} from './load.ts'
import { binaryRequestOf, MODEL } from './v2.ts'
import { greet, IN_BINARY, WebSocketClient } from './ws-client.ts'

test('a window that waits past its deadline is answered 504 then, and never given to the model', async () => {
  const server = await startFaultyServer()
  const { port } = server
  const holding = await server.hold()
  const late = await post(port, distinctWindow(1), { deadlineMs: 1000 })
  expect(late.status).toBe(504)
  expect(JSON.parse(late.body.toString())).toMatchObject({
    error: 'deadline_exceeded',
    detail: expect.stringMatching(
      /^There is no result after \d+\.\d ms, expected within the deadline of 1000.0 ms$/,
    ),
  })
  expect(late.tookMs).toBeGreaterThan(999)

  // It was answered while the worker was still held: by its deadline, not by its turn.
  await server.held()
  server.release()
  expect((await holding.answer).status).toBe(200)
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(1)
})

test('the same window with a longer X-Deadline-Ms waits and is answered 200', async () => {
  const server = await startFaultyServer({ DEADLINE_MS: '40' })
  const { port } = server
  const holding = await server.hold()
  const patient = post(port, distinctWindow(1), { deadlineMs: 5000 })
  await untilInFlight(port, 2)
  await sleep(100)
  server.release()
  expect((await patient).status).toBe(200)
  expect((await holding.answer).status).toBe(200)
  expect(await windowsRun(port)).toBe(2)
})

test('a full ring refuses with 429 at once, and says when to come back', async () => {
  const server = await startFaultyServer({ RING_SLOTS: '2' })
  const { port } = server
  const holding = await server.hold()
  const waiting = post(port, distinctWindow(1))
  await untilInFlight(port, 2)
  expectRefusal(await post(port, distinctWindow(2)), /slots are taken/)
  expect(await metric(port, 'hailo_rejected_total', 'reason="ring_full"')).toBe(1)

  server.release()
  expect((await holding.answer).status).toBe(200)
  expect((await waiting).status).toBe(200)
  expect((await post(port, distinctWindow(3))).status).toBe(200)
})

test('where windows are shed, one is refused before its body has come, and its connection stays', async () => {
  const server = await startFaultyServer({ RING_SLOTS: '2' })
  const { port } = server
  const holding = await server.hold()
  const waiting = post(port, distinctWindow(0))
  await untilInFlight(port, 2)
  const head = (headers: Record<string, string> = {}) =>
    headOf('POST /infer', { 'Content-Type': OCTET_STREAM, 'Content-Length': 3600, ...headers })
  const body = bytesOf(distinctWindow(1))
  const upload = await Upload.open({ port })
  upload.send(head(), body)
  expect((await upload.answer()).json.detail).toBe('All 2 slots are taken')
  await until(async () => (await metric(port, 'hailo_backpressure_level')) >= LEVEL.degraded)

  upload.send(head({ 'X-Request-ID': 'so"\\', 'X-Correlation-ID': 'walk/42' }))
  const early = await upload.answer()
  expect(early.status).toBe(429)
  expect(early.headers).toMatchObject({
    'content-type': JSON_TYPE,
    'retry-after': '1',
    'server-timing': expect.stringMatching(/^queue;dur=\d+\.\d{3}, infer;dur=0\.000$/),
    'x-correlation-id': 'walk/42',
    'x-inference-backend': 'stub',
    'x-request-id': 'so"\\',
  })
  expect(early.json).toEqual({
    error: 'overloaded',
    detail: 'All 2 slots are taken',
    model_available: true,
    request_id: 'so"\\',
  })
  upload.send(body, head({ Accept: 'application/problem+json' }))
  const problem = await upload.answer()
  expect(problem.headers['content-type']).toBe('application/problem+json')
  expect(problem.json).toMatchObject({ title: 'Too Many Requests', error: 'overloaded' })
  expect(await metric(port, 'hailo_rejected_total', 'reason="ring_full"')).toBe(3)

  server.release()
  await Promise.all([holding.answer, waiting])
  upload.send(body, head(), body)
  expect((await upload.answer()).status).toBe(200)
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(3)
})

// uWebSockets would close at once, and what the client still sends would cost it the answer.
test('a client that wants its connection closed is refused when its body has come', async () => {
  const server = await startFaultyServer({ RING_SLOTS: '2' })
  const { port } = server
  await server.hold()
  post(port, distinctWindow(0)).catch(() => {})
  await untilInFlight(port, 2)
  expectRefusal(await post(port, distinctWindow(1)), /slots are taken/)
  const upload = await Upload.open({ port })
  const closing = { 'Content-Type': OCTET_STREAM, 'Content-Length': 3600, Connection: 'close' }
  upload.send(headOf('POST /infer', closing))
  const answer = upload.answer()
  await sleep(50)
  expect(await metric(port, 'hailo_rejected_total', 'reason="ring_full"')).toBe(1)
  upload.send(bytesOf(distinctWindow(2)))
  expect((await answer).status).toBe(429)
  expect(await upload.rest()).toBe('')
})

test('a window that would be answered after its deadline is refused when it comes', async () => {
  const server = await startFaultyServer()
  const { port } = server
  const holding = await server.hold()
  await sleep(500)
  expectRefusal(await post(port, distinctWindow(1), { deadlineMs: 300 }), /^The answer would .* deadline/)
  expect(await metric(port, 'hailo_rejected_total', 'reason="wait_too_long"')).toBe(1)

  server.release()
  expect((await holding.answer).status).toBe(200)
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
  const server = await startFaultyServer({ RING_SLOTS: '2' })
  const { port } = server
  const holding = await server.hold()
  const leaving = new Connection(port)
  leaving.post(distinctWindow(1)).catch(() => {})
  await untilInFlight(port, 2)
  leaving.close()
  await untilCancelled(port, 1)

  server.release()
  expect((await holding.answer).status).toBe(200)
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(1)
})

test('a client that goes while the model runs its window does no harm to the next', async () => {
  const server = await startFaultyServer()
  const { port } = server
  const leaving = await server.hold()
  leaving.connection.close()
  await untilCancelled(port, 1)
  server.release()
  expect((await post(port, distinctWindow(1))).status).toBe(200)
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(2)
})

const SLOTS = 16
/** So long would the model take for each, ms, and none is to be waited for. */
const SLOW_MS = 150
const SLOW = FAULTS.block + SLOW_MS

/** How clients take slots until the ring is full, and what makes them go. */
const TAKERS: [string, (port: number) => Promise<() => void>][] = [
  ['posts', fillWithPosts],
  [
    'an upload, and posts',
    async port => {
      const upload = await Upload.open({ port })
      // It all comes at once: while the server has stopped reading, it does not see a client go.
      const windows = Buffer.concat(Array.from({ length: 6 }, (_, n) => bytesOf(distinctWindow(n, SLOW))))
      const headers = { 'Content-Type': OCTET_STREAM, 'Content-Length': windows.length }
      upload.send(headOf('POST /infer', headers), windows)
      await until(async () => (await metric(port, 'hailo_queue_depth')) > 2)
      const leave = await fillWithPosts(port)
      return () => {
        upload.close()
        leave()
      }
    },
  ],
  [
    'a stream',
    async port => {
      const client = await WebSocketClient.open({ port })
      await greet(client, IN_BINARY)
      const windows = Array.from({ length: SLOTS - 1 }, (_, n) => distinctWindow(n, SLOW))
      client.send(...windows.map((window, n) => IN_BINARY.window(n, window)))
      return () => client.hangUp()
    },
  ],
  [
    'a batch of /v2',
    async port => {
      const batch = await Upload.open({ port })
      const windows = Array.from({ length: SLOTS - 1 }, (_, n) => distinctWindow(n, SLOW))
      const { body, headers } = binaryRequestOf(windows)
      batch.send(headOf(`POST ${MODEL}/infer`, { ...headers, 'Content-Length': body.length }), body)
      return () => batch.close()
    },
  ],
]

test.each(TAKERS)(
  'a full ring of %s whose clients go is free for others long before it would have been inferred',
  {
    timeout: 60_000,
  },
  async (_, fill) => {
    const server = await startFaultyServer({ RING_SLOTS: String(SLOTS), FAULTS_LEVELS: 'none' })
    const { port } = server
    let cancelled = 0
    /** From when all have gone to the answer of the next, ms. */
    const round = async () => {
      const holding = await server.hold()
      const leave = await fill(port)
      await untilInFlight(port, SLOTS)

      const goneMs = performance.now()
      leave()
      holding.connection.close()
      cancelled += SLOTS
      await untilCancelled(port, cancelled)
      server.release()
      await until(async () => (await post(port, distinctWindow(cancelled))).status === 200)
      return performance.now() - goneMs
    }
    const waitsMs: number[] = []
    for (let count = 0; count < 20; count++) waitsMs.push(await round())
    expect(waitsMs.sort((a, b) => a - b).at(-2)).toBeLessThan((SLOTS * SLOW_MS) / 2)
    await expectIdle(port)
    // In each round the window that held the worker, and that of the client who came after.
    expect(await windowsRun(port)).toBe(2 * waitsMs.length)
  },
)

test('clients that go as soon as they have their answer are not counted as gone', async () => {
  const { port } = await startFaultyServer()
  for (let sequence = 0; sequence < 100; sequence++) {
    expect((await post(port, distinctWindow(sequence))).status).toBe(200)
  }
  await expectIdle(port)
  expect(await windowsRun(port)).toBe(100)
  expect(await metric(port, 'hailo_cancelled_total')).toBe(0)
})

function expectRefusal(answer: Answer, detail: RegExp): void {
  expect(answer.status).toBe(429)
  expect(JSON.parse(answer.body.toString())).toMatchObject({
    error: 'overloaded',
    detail: expect.stringMatching(detail),
  })
  expect(answer.headers['retry-after']).toMatch(/^[1-9]\d*$/)
}

/** Posts until no slot is free. */
async function fillWithPosts(port: number): Promise<() => void> {
  const taken = await metric(port, 'hailo_queue_depth')
  const connections = Array.from({ length: SLOTS - taken }, () => new Connection(port))
  for (const [n, connection] of connections.entries()) {
    connection.post(distinctWindow(n, SLOW)).catch(() => {})
  }
  return () => {
    for (const connection of connections) connection.close()
  }
}

function untilCancelled(port: number, windows: number): Promise<void> {
  return until(async () => (await metric(port, 'hailo_cancelled_total')) >= windows)
}
