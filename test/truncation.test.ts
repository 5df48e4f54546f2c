import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import {
  type Answer,
  ask,
  bytesOf,
  Connection,
  headOf,
  JSON_TYPE,
  OCTET_STREAM,
  postOf,
  postWindow,
  rowsOf,
} from './http-client.ts'
import { metric, until } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { windowOf } from './windows.ts'

const MAX_BODY_BYTES = 256 * 1024
const WINDOW = bytesOf(windowOf(0))
/** A recorded window of somebody seated, rounded to keep the body short: a cut at every byte is a request. */
const BODY = Buffer.from(JSON.stringify({ x: rowsOf(windowOf(0)).map(row => row.map(Math.round)) }))

let server: TestServer
beforeAll(async () => {
  // A deadline that only those can miss who mean to.
  server = await startServer({ WORKERS: '1', DEADLINE_MS: '5000' })
})
afterAll(() => server.stop())

afterEach(async () => {
  expect((await postWindow(server, windowOf(0))).status).toBe(200)
  expect((await ask(server, 'GET /healthz')).json.status).toBe('ok')
  await expect.poll(queueDepth).toBe(0)
})

test('a JSON body cut at any byte is an invalid window, and the connection goes on', async () => {
  const connection = await Connection.open(server)
  for (let length = 0; length < BODY.length; length++) {
    connection.send(postOf(BODY.subarray(0, length)))
    expectInvalid(await connection.answer(), `cut at byte ${length}`)
  }
  connection.send(postOf(BODY))
  expect((await connection.answer()).status).toBe(200)
})

test('an octet-stream cut at any sample is an invalid window, and the connection goes on', async () => {
  const connection = await Connection.open(server)
  for (let length = 0; length < WINDOW.length; length += 4) {
    connection.send(postOf(WINDOW.subarray(0, length), { 'Content-Type': OCTET_STREAM }))
    expectInvalid(await connection.answer(), `cut at byte ${length}`)
  }
  connection.send(postOf(WINDOW, { 'Content-Type': OCTET_STREAM }))
  expect((await connection.answer()).status).toBe(200)
})

// uWebSockets goes on reading behind a body whose handler has closed the connection, into what it has freed: the
// requests that follow are for what is allocated there then.
test('answers that close their connection while more is coming do no harm', async () => {
  const several = Buffer.alloc(2 * WINDOW.length, 0xff)
  const octets = { 'Content-Type': OCTET_STREAM, Connection: 'close', 'Content-Length': several.length }
  for (const [head, body, status] of [
    [headOf('GET /openapi.json', { Connection: 'close', 'Transfer-Encoding': 'chunked' }), '0\r\n\r\n', 200],
    [headOf('GET /openapi.json', { Connection: 'close', 'Content-Length': 3 }), 'abc', 200],
    [headOf('POST /infer', octets), several, 400],
  ] as const) {
    for (let attempt = 0; attempt < 60; attempt++) {
      const connection = await Connection.open(server)
      // A head in two segments first: what uWebSockets keeps of it is where it would write.
      const first = headOf('GET /readyz', { 'X-Filler': 'a'.repeat(150) })
      connection.send(first.slice(0, 40))
      await sleep(1)
      connection.send(first.slice(40))
      expect((await connection.answer()).status).toBe(200)
      connection.send(head, body, 'POST /infer HTTP/1.1\r\nHo')
      expect((await connection.answer()).status).toBe(status)
      connection.close()
    }
  }
})

test('a client that hangs up at any byte of its head or within its body leaves nothing behind', async () => {
  const before = await answered()
  const post = postOf(BODY)
  const bodyAt = post.length - BODY.length
  for (let length = 0; length < post.length; length += length < bodyAt ? 1 : 50) {
    const connection = await Connection.open(server)
    connection.send(post.subarray(0, length))
    connection.close()
  }
  expect(await answered()).toBe(before)
})

test('a client that hangs up right after its window leaves nothing behind', async () => {
  for (let round = 0; round < 20; round++) {
    const connection = await Connection.open(server)
    connection.send(postOf(BODY))
    await sleep(round % 4)
    connection.close()
  }
})

test.each([
  ['less than is sent', { 'Content-Length': BODY.length - 9 }, Buffer.concat([BODY, postOf(BODY)])],
  ['nothing', {}, Buffer.concat([BODY, postOf(BODY)])],
  ['an empty length', { 'Content-Length': '' }],
  ['a negative length', { 'Content-Length': -BODY.length }],
  ['a length with a sign', { 'Content-Length': `+${BODY.length}` }],
  ['a hexadecimal length', { 'Content-Length': `0x${BODY.length.toString(16)}` }],
  ['a length with a fraction', { 'Content-Length': `${BODY.length}.0` }],
  ['a length that is a word', { 'Content-Length': 'all' }],
  ['a length beyond 64 bits', { 'Content-Length': '9'.repeat(30) }],
  ['a list of lengths', { 'Content-Length': `${BODY.length}, ${BODY.length}` }],
  ['two lengths', { 'Content-Length': BODY.length - 9, 'content-length': BODY.length }],
  ['a length and chunks', { 'Content-Length': BODY.length, 'Transfer-Encoding': 'chunked' }],
  ['chunks without their sizes', { 'Transfer-Encoding': 'chunked' }],
] as [string, Record<string, string | number>, Buffer?][])(
  'no window is answered on a connection whose request declares %s',
  async (_, headers, body = BODY) => {
    const connection = await Connection.open(server)
    connection.send(headOf('POST /infer', headers), body)
    await sleep(50) // an answer would have come
    connection.end()
    const statuses = (await connection.rest()).match(/HTTP\/1\.1 \d+/g) ?? []
    for (const status of statuses) expect(status).toMatch(/ [45]\d\d$/)
  },
)

test('a body of 256 KiB is read, and one byte more is refused by what it declares, before it comes', async () => {
  const connection = await Connection.open(server)
  connection.send(postOf(String(BODY).padEnd(MAX_BODY_BYTES)))
  expect((await connection.answer()).status).toBe(200)

  connection.send(headOf('POST /encode', { 'Content-Length': MAX_BODY_BYTES + 1 }))
  expectTooLarge(await connection.answer())
  connection.send(Buffer.alloc(MAX_BODY_BYTES + 1), postOf(BODY))
  expect((await connection.answer()).status).toBe(200)
})

test('a body that grows too large in chunks is refused, and what follows is answered', async () => {
  const connection = await Connection.open(server)
  connection.send(headOf('POST /encode', { 'Transfer-Encoding': 'chunked' }))
  for (let chunk = 0; chunk < 100; chunk++) connection.send('1000\r\n', Buffer.alloc(0x1000, '['), '\r\n')
  connection.send('0\r\n\r\n', postOf(BODY))
  expectTooLarge(await connection.answer())
  expect((await connection.answer()).status).toBe(200)
})

test.each([JSON_TYPE, OCTET_STREAM])('random bytes as %s are invalid windows', async type => {
  const connection = await Connection.open(server)
  for (let seed = 0; seed < 100; seed++) {
    const length = seed % 2 === 0 ? WINDOW.length : seed * 83
    const noise = createHash('shake256', { outputLength: length }).update(`${type} ${seed}`).digest()
    connection.send(postOf(noise, { 'Content-Type': type }))
    expectInvalid(await connection.answer(), `seed ${seed}`)
  }
})

test('JSON nested as deep as a body can be is an invalid window', async () => {
  const deepest = MAX_BODY_BYTES / 2 - 10
  const bodies = [
    '['.repeat(MAX_BODY_BYTES),
    '{"x":'.repeat(MAX_BODY_BYTES / 5),
    '['.repeat(deepest) + ']'.repeat(deepest),
    `{"x":${'['.repeat(deepest)}${']'.repeat(deepest)}}`,
    JSON.stringify({ x: new Array(100).fill([[[1, 2, 3]]]) }),
  ]
  for (const body of bodies) {
    expectInvalid(await ask(server, 'POST /infer', { body }), `${body.slice(0, 9)} of ${body.length} bytes`)
  }
})

test('a body that comes too slowly is answered deadline_exceeded before it is complete, and others are served meanwhile', async () => {
  const slow = await Connection.open(server)
  const post = postOf(BODY, { 'X-Deadline-Ms': 100 })
  let dripping = true
  const drip = async () => {
    for (let at = 0; at < post.length; at += 150) {
      slow.send(post.subarray(at, at + 150))
      await sleep(20)
    }
    dripping = false
  }
  const dripped = drip()
  const answered = slow.answer().then(answer => ({ ...answer, early: dripping }))
  let served = 0
  for (; dripping; served++) {
    expect((await postWindow(server, windowOf(served % 64))).status).toBe(200)
    expect(await queueDepth()).toBe(0)
  }
  await dripped
  expect(served).toBeGreaterThan(5)
  const { status, json, early } = await answered
  expect(early).toBe(true)
  expect(status).toBe(504)
  expect(json.error).toBe('deadline_exceeded')
  expect(json.detail).toMatch(
    /The body is not complete after \d+\.\d ms, expected within the deadline of 100\.0 ms/,
  )
})

test('clients that never finish their body hold no slot', async () => {
  const post = postOf(BODY)
  // More of them than there are slots.
  const stalled = await Promise.all(Array.from({ length: 100 }, () => Connection.open(server)))
  for (const connection of stalled) connection.send(post.subarray(0, post.length - 1))
  await sleep(100)
  expect(await queueDepth()).toBe(0)
  for (let n = 0; n < 20; n++) expect((await postWindow(server, windowOf(n))).status).toBe(200)

  stalled[0]!.send(post.subarray(post.length - 1))
  expect((await stalled[0]!.answer()).status).toBe(200)
})

function expectInvalid({ status, json }: Answer, request: string): void {
  expect(status, request).toBe(400)
  expect(json.error, request).toBe('invalid_window')
}

function expectTooLarge({ status, json }: Answer): void {
  expect(status).toBe(413)
  expect(json).toEqual({
    error: 'body_too_large',
    detail: expect.stringMatching(/^The body has \d+ bytes or more, expected at most 262144$/),
    model_available: true,
    request_id: expect.any(String),
  })
}

const queueDepth = () => sumOf('hailo_queue_depth ')
const answered = () => sumOf('hailo_http_requests_total{method="POST",endpoint="/infer"')

/** The sum of the metrics whose line begins like this. */
async function sumOf(prefix: string): Promise<number> {
  const lines = String((await ask(server, 'GET /metrics')).body).split('\n')
  const values = lines.filter(line => line.startsWith(prefix)).map(line => Number(line.split(' ').at(-1)))
  return values.reduce((sum, value) => sum + value, 0)
}

// uWebSockets closes such a connection at once behind the answer, and the sender is reset: it may never read it.
test.each([
  ['that its head is refused for', { 'Content-Type': 'text/plain' }, 'unsupported_media_type'],
  ['that is longer than it may be', { 'Content-Type': JSON_TYPE }, 'body_too_large'],
])('who asks for the connection to be closed can send a body %s, and read why', async (_, headers, error) => {
  const body = Buffer.alloc(8 * MAX_BODY_BYTES, ' ')
  const refused = () => metric(server.port, 'hailo_inference_errors_total', error)
  const before = await refused()
  const connection = await Connection.open(server)
  connection.send(headOf('POST /encode', { ...headers, 'Content-Length': body.length, Connection: 'close' }))
  connection.send(body.subarray(0, 2 * MAX_BODY_BYTES))
  await until(async () => (await refused()) === before + 1)
  await connection.sendInSegments(body.subarray(2 * MAX_BODY_BYTES), MAX_BODY_BYTES)
  expect((await connection.answer()).json.error).toBe(error)
  expect(await connection.rest()).toBe('')
})
