import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ask, bytesOf, Connection, headOf, OCTET_STREAM, postWindow } from './http-client.ts'
import { metric, startServerForTest, until } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { isTelling, MARK } from './telling.ts'
import { windowOf } from './windows.ts'
import { greet, IN_JSON, WebSocketClient } from './ws-client.ts'

const STUB = { INFER_MODE: 'stub', WORKERS: '1' }
const KEY = 'k3y-of-the-dog'
const WRONG = 'gu3ss-of-the-cat'

let server: TestServer
beforeAll(async () => {
  server = await startServer({ ...STUB, LOG_LEVEL: 'trace', API_KEY: `other,${KEY}`, METRICS_KEY: 'true' })
})
afterAll(() => server.stop())

test('API keys, right or wrong, never come into the log or an answer, whatever the session brings', async () => {
  const answers: string[] = []
  for (const key of [KEY, WRONG, 'other', `${KEY} `, KEY.slice(1)]) {
    for (const headers of [{ 'X-API-Key': key }, { Authorization: `Bearer ${key}` }]) {
      const marked = { ...headers, 'X-Request-ID': 'traced' }
      answers.push(inWords(await postWindow(server, windowOf(0), marked)))
      answers.push(inWords(await ask(server, 'POST /infer', { headers: marked, body: '{' })))
      answers.push(inWords(await ask(server, 'GET /status', { headers: marked })))
      answers.push(inWords(await ask(server, 'GET /metrics', { headers: marked })))
    }
    const protocol = { 'Sec-WebSocket-Protocol': `hailo.v1, key.${key.trim()}` }
    const client = await WebSocketClient.open(server, { headers: protocol })
    if (client.status === 101) client.send('nonsense')
    answers.push(`${JSON.stringify(client.headers)} ${client.body}`)
    client.hangUp()
  }
  // The log did hear of these requests.
  await until(() => server.stderr.includes('"traced"'))
  const told = `${server.stderr}${server.stdout}${answers.join()}`
  for (const secret of [KEY, WRONG, KEY.slice(1)]) expect(told).not.toContain(secret)
})

test('METRICS_KEY closes /metrics to those without a key, health stays open, and without it /metrics is open', async () => {
  const status = async (at: TestServer, path: string, headers = {}) =>
    (await ask(at, `GET ${path}`, { headers })).status
  expect(await status(server, '/metrics')).toBe(401)
  expect(await status(server, '/metrics', { 'X-API-Key': WRONG })).toBe(401)
  expect(await status(server, '/metrics', { Authorization: `Bearer ${KEY}` })).toBe(200)
  for (const path of ['/healthz', '/readyz', '/v2/health/live']) expect(await status(server, path)).toBe(200)
  const open = await startServerForTest({ ...STUB, API_KEY: KEY })
  expect(await status(open, '/metrics')).toBe(200)
  expect(await status(open, '/status')).toBe(401)
})

test('pages tell browsers to trust nothing but themselves', async () => {
  const headersOf = async (path: string) => (await ask(server, `GET ${path}`)).headers
  for (const path of ['/docs', '/docs/start.js', '/healthz', '/nowhere', '/openapi.json', '/status']) {
    const headers = await headersOf(path)
    expect(headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'content-security-policy': expect.stringContaining("frame-ancestors 'none'"),
    })
    expect(headers['strict-transport-security']).toBeUndefined() // this is no TLS
  }
  expect((await headersOf('/docs'))['content-security-policy']).toContain("default-src 'self'")
})

describe('no answer tells what was sent, nor where the server lies', () => {
  const key = { 'X-API-Key': KEY }
  const json = { ...key, 'Content-Type': 'application/json' }
  const rows = (cell: unknown) => JSON.stringify({ x: new Array(100).fill(new Array(9).fill(cell)) })
  const v2 = (input: unknown) => JSON.stringify({ inputs: [input], [MARK]: MARK })
  const bodies = [
    MARK,
    `{"x": "${MARK}"}`,
    `{"${MARK}": 1}`,
    `{"x": [[${MARK}`,
    rows(MARK),
    rows({ [MARK]: MARK }),
    `{"windows": ["${MARK}"]}`,
    `{"windows": [[["${MARK}"]]]`,
    `{"__proto__": {"x": "${MARK}"}, "constructor": "${MARK}"}`,
    `${'['.repeat(20_000)}"${MARK}"`,
    v2({ name: MARK, shape: [1, 100, 9], datatype: 'FP32', data: [MARK] }),
    v2({ name: 'imu_window', shape: [MARK], datatype: MARK, data: MARK }),
    v2({ name: 'imu_window', shape: [1, 100, 9], datatype: 'FP32', parameters: { binary_data_size: MARK } }),
    '\u0000\ud800'.concat(MARK),
  ]
  const paths = ['/infer', '/encode', '/test', '/v2/models/tcn_encoder/infer', '/v2/repository/index']
  const heads: [string, Record<string, string>][] = [
    [`GET /${MARK}`, {}],
    [`GET /../../${MARK}/%2e%2e/%00`, {}],
    [`GET /docs/${MARK}.js`, {}],
    [`GET /v2/models/${MARK}/versions/%${MARK}`, key],
    [`GET /?${MARK}=${MARK}`, {}],
    [`DELETE /infer?${MARK}`, key],
    [`${MARK.toUpperCase()} /infer`, {}],
    ['POST /infer', { ...key, 'Content-Type': MARK }],
    ['POST /infer', { ...json, 'X-Deadline-Ms': MARK }],
    ['POST /infer', { ...json, 'X-Request-ID': `${MARK} ${MARK}`, 'X-Correlation-ID': `${MARK}\t1` }],
    ['POST /infer', { ...json, Origin: `https://${MARK}`, traceparent: MARK, Accept: MARK }],
    ['POST /v2/models/tcn_encoder/infer', { ...key, 'Content-Encoding': MARK }],
    ['POST /v2/models/tcn_encoder/infer', { ...key, 'Inference-Header-Content-Length': MARK }],
    ['GET /stream', { ...key, Upgrade: MARK, 'Sec-WebSocket-Version': MARK }],
  ]

  test('over HTTP', async () => {
    const answers: string[] = []
    for (const accept of ['application/json', 'application/problem+json']) {
      for (const path of paths) {
        for (const body of bodies) {
          const headers = { ...json, Accept: accept }
          answers.push(inWords(await ask(server, `POST ${path}`, { headers, body })))
        }
      }
    }
    for (const [route, headers] of heads) {
      const connection = await Connection.open(server)
      connection.send(headOf(route, { ...headers, 'Content-Length': 0, Connection: 'close' }))
      answers.push(await connection.rest())
    }
    expect(answers.filter(isTelling)).toEqual([])
    expect(answers.length).toBe(2 * paths.length * bodies.length + heads.length)
    expect(answers.every(answer => answer.length > 0)).toBe(true)
  })

  test('over WebSocket', async () => {
    const said: string[] = []
    for (const text of [MARK, `{"type":"${MARK}"}`, `{"type":"window","seq":"${MARK}","x":"${MARK}"}`]) {
      const client = await WebSocketClient.open(server, { headers: key })
      await greet(client, IN_JSON)
      client.send(text, Buffer.from(text))
      said.push(JSON.stringify([await client.next(), await client.next()]))
      client.hangUp()
    }
    expect(said.filter(isTelling)).toEqual([])
    expect(said.join()).toContain('invalid_request')
  })

  // The control: what looks for it finds it.
  test('but for X-Request-ID, which is to come back', async () => {
    const answer = await ask(server, 'GET /nowhere', { headers: { 'X-Request-ID': MARK } })
    expect(isTelling(inWords(answer))).toBe(true)
    expect(isTelling(new Error('anything').stack!)).toBe(true)
  })
})

// Who trickles a head is cut within 12 s: keep-alive.test.ts waits for that. Here is a body.
test('who trickles a body is answered when its deadline passes, and with a longer one it is read to its end', async () => {
  const body = bytesOf(windowOf(0))
  const headers = { 'X-API-Key': KEY, 'Content-Type': OCTET_STREAM }
  const statusWithin = async (deadlineMs: number) => {
    const connection = await Connection.open(server)
    connection.send(
      headOf('POST /infer', { ...headers, 'X-Deadline-Ms': deadlineMs, 'Content-Length': body.length }),
    )
    for (let at = 0; at < body.length; at += 600) {
      connection.send(body.subarray(at, at + 600))
      await sleep(20)
    }
    return (await connection.answer()).status
  }
  expect(await statusWithin(40)).toBe(504)
  expect(await statusWithin(5000)).toBe(200)
})

test('a head of more than 4096 bytes is refused, and with a higher limit it is not', async () => {
  const headers = { 'X-API-Key': KEY, 'X-Long': 'x'.repeat(5000), Connection: 'close' }
  const statusOf = async (at: TestServer) => {
    const connection = await Connection.open(at)
    connection.send(headOf('GET /healthz', headers))
    return (await connection.answer()).status
  }
  const patient = await startServerForTest({ ...STUB, UWS_HTTP_MAX_HEADERS_SIZE: '16384' })
  expect(await statusOf(server)).toBe(431)
  expect(await statusOf(patient)).toBe(200)
})

test('MAX_CONNECTIONS closes what comes beyond it, serves those who are there, and lets the next in when one leaves', async () => {
  const { port } = await startServerForTest({ ...STUB, MAX_CONNECTIONS: '3' })
  const open = await Promise.all([1, 2, 3].map(() => Connection.open({ port })))
  const healthOf = (connection: Connection) => {
    connection.send(headOf('GET /healthz'))
    return connection.answer().then(
      ({ status }) => status,
      () => 'closed',
    )
  }
  expect(await Promise.all(open.map(healthOf))).toEqual([200, 200, 200])
  const crowd = await Promise.all(Array.from({ length: 20 }, () => Connection.open({ port })))
  expect(await Promise.all(crowd.map(connection => connection.rest()))).toEqual(new Array(20).fill(''))
  expect(await Promise.all(open.map(healthOf))).toEqual([200, 200, 200])
  open[0]!.close()
  await until(async () => (await metric(port, 'hailo_connections_refused_total').catch(() => 0)) >= 20)
})

// The control: the same crowd.
test('with a higher MAX_CONNECTIONS the same crowd is served', async () => {
  const { port } = await startServerForTest({ ...STUB, MAX_CONNECTIONS: '30' })
  const crowd = await Promise.all(Array.from({ length: 23 }, () => Connection.open({ port })))
  for (const connection of crowd) connection.send(headOf('GET /healthz'))
  const statuses = await Promise.all(crowd.map(async connection => (await connection.answer()).status))
  expect(statuses).toEqual(new Array(23).fill(200))
})

function inWords({ headers, body }: { headers: object; body: Buffer }): string {
  return `${JSON.stringify(headers)} ${body}`
}
