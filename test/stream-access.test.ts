import { afterAll, beforeAll, expect, test } from 'vitest'
import { ask } from './http-client.ts'
import { metric, startServerForTest, until } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { type ConnectOptions, greet, IN_BINARY, WebSocketClient } from './ws-client.ts'

const KEY = 'woof.woof'
const PAGE = 'https://dogs.example'

let server: TestServer
let locked: TestServer
beforeAll(async () => {
  server = await startServer({ INFER_MODE: 'stub', WORKERS: '1', LOG_LEVEL: 'fatal' })
  locked = await startServer({
    INFER_MODE: 'stub',
    WORKERS: '1',
    LOG_LEVEL: 'fatal',
    API_KEY: `other,${KEY}`,
    CORS_ORIGINS: PAGE,
  })
})
afterAll(() => Promise.all([server.stop(), locked.stop()]))

test.each<[string, Record<string, string>]>([
  ['X-API-Key', { 'X-API-Key': KEY }],
  ['Authorization', { Authorization: `Bearer ${KEY}` }],
  ['a subprotocol', { 'Sec-WebSocket-Protocol': `hailo.v1, key.${KEY}` }],
])('GET /stream lets a client in that names the API key in %s', async (_, headers) => {
  const client = await WebSocketClient.open(locked, { headers })
  expect(client.status).toBe(101)
  const asked = 'Sec-WebSocket-Protocol' in headers
  expect(client.headers['sec-websocket-protocol']).toBe(asked ? 'hailo.v1' : undefined)
  expect(client.headers['sec-websocket-extensions']).toBeUndefined()
  await greet(client, IN_BINARY)
})

test.each<[string, Record<string, string>]>([
  ['no key', {}],
  ['a wrong key', { 'X-API-Key': 'meow' }],
  ['a wrong key in a subprotocol', { 'Sec-WebSocket-Protocol': 'hailo.v1, key.meow' }],
  [
    'a wrong key in a header, and a right one in a subprotocol',
    { Authorization: 'Bearer meow', 'Sec-WebSocket-Protocol': `hailo.v1, key.${KEY}` },
  ],
])('GET /stream refuses %s with 401', async (_, headers) => {
  const refused = await refusalOf(locked, { headers })
  expect(refused).toMatchObject({ status: 401, error: 'unauthorized', 'www-authenticate': 'Bearer' })
})

test('GET /stream lets in pages of its own host, and of those that CORS_ORIGINS lists, and no others', async () => {
  const own = `http://127.0.0.1:${server.port}`
  const status = async (at: TestServer, origin: string) => {
    const headers = { Origin: origin, 'X-API-Key': KEY }
    return (await WebSocketClient.open(at, { headers })).status
  }
  expect(await status(server, own)).toBe(101)
  expect(await status(server, 'http://127.0.0.1:1')).toBe(403)
  expect(await status(server, PAGE)).toBe(403)
  expect(await status(server, 'null')).toBe(403)
  expect(await status(server, `${own}.example`)).toBe(403)
  expect(await status(locked, PAGE)).toBe(101)
  expect(await status(locked, 'https://cats.example')).toBe(403)
  expect(await refusalOf(server, { headers: { Origin: PAGE } })).toMatchObject({
    status: 403,
    error: 'forbidden',
  })
})

test('GET /stream echoes X-Request-ID, in refusals too, or makes one', async () => {
  const headers = { 'X-Request-ID': 'dog-7' }
  expect((await WebSocketClient.open(server, { headers })).headers['x-request-id']).toBe('dog-7')
  expect((await WebSocketClient.open(server)).headers['x-request-id']).toMatch(/^[\w-]+$/)
  expect(await refusalOf(locked, { headers })).toMatchObject({ 'x-request-id': 'dog-7', request_id: 'dog-7' })
})

test.each(['/stream', '/ws/v1/analysis'])('GET %s that is no upgrade is answered 426', async path => {
  const answer = await ask(server, `GET ${path}`)
  expect(answer.status).toBe(426)
  expect(answer.json).toMatchObject({ error: 'upgrade_required', model_available: true })
  expect(answer.headers).toMatchObject({ upgrade: 'websocket', 'sec-websocket-version': '13' })
  expect((await ask(server, `POST ${path}`)).status).toBe(405)
})

test('GET /stream with another version of the protocol is answered 426 too', async () => {
  const refused = await refusalOf(server, { headers: { 'Sec-WebSocket-Version': '8' } })
  expect(refused).toMatchObject({ status: 426, error: 'upgrade_required', 'sec-websocket-version': '13' })
})

test('more clients than WS_MAX_CONNECTIONS are refused with 503, until one leaves', async () => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1', WS_MAX_CONNECTIONS: '2' })
  const [first] = await Promise.all([WebSocketClient.open({ port }), WebSocketClient.open({ port })])
  expect(await refusalOf({ port }, {})).toMatchObject({
    status: 503,
    error: 'overloaded',
    'retry-after': '1',
  })
  expect(await metric(port, 'hailo_http_requests_total', 'endpoint="/stream",status_code="503"')).toBe(1)
  expect(await metric(port, 'hailo_http_requests_total', 'endpoint="/stream",status_code="101"')).toBe(2)
  first.hangUp()
  await until(async () => (await metric(port, 'hailo_ws_connections')) === 1)
  expect((await WebSocketClient.open({ port })).status).toBe(101)
})

/** The answer that is no upgrade, head and body in one. */
async function refusalOf(at: { port: number }, options: ConnectOptions) {
  const client = await WebSocketClient.open(at, options)
  await until(() => client.body.length === Number(client.headers['content-length']))
  return { status: client.status, ...client.headers, ...JSON.parse(client.body) }
}
