import { expect, test } from 'vitest'
import { clientOf, clientOfText, TokenBuckets } from '../src/http/rate-limit.ts'
import { ask, bytesOf, Connection, headOf, OCTET_STREAM, postOf, postWindow } from './http-client.ts'
import { metric, startServerForTest, until } from './load.ts'
import { windowOf } from './windows.ts'
import { greet, IN_BINARY, IN_JSON, WebSocketClient } from './ws-client.ts'

type Server = { readonly port: number }
type Headers = Record<string, string>

const STUB = { INFER_MODE: 'stub', WORKERS: '1', LOG_LEVEL: 'fatal' }
/** So slow that a test is over before there is another window. */
const THREE = '0.02:3'

test('a bucket gives its burst, then windows at its rate, and tells when the next one comes', () => {
  const buckets = new TokenBuckets({ perSecond: 2, burst: 3 }, 8)
  const takenOf = (nowMs: number) => {
    let taken = 0
    while (buckets.waitMs('dog', 1, nowMs) === 0) {
      buckets.spend('dog', 1, nowMs)
      taken++
    }
    return taken
  }
  expect(takenOf(0)).toBe(3)
  expect(buckets.waitMs('dog', 1, 0)).toBe(500)
  expect(buckets.waitMs('dog', 1, 100)).toBe(400)
  expect(takenOf(500)).toBe(1)
  expect(takenOf(60_000)).toBe(3) // it holds no more than the burst
})

test('more windows than a burst are taken from a full bucket, which owes them', () => {
  const buckets = new TokenBuckets({ perSecond: 10, burst: 10 }, 8)
  expect(buckets.waitMs('dog', 1000, 0)).toBe(0)
  buckets.spend('dog', 1000, 0)
  expect(buckets.waitMs('dog', 1, 0)).toBe(99_100)
  expect(buckets.waitMs('dog', 1000, 0)).toBe(100_000)
})

test('buckets take bounded memory: the client that was seen least recently is forgotten', () => {
  const buckets = new TokenBuckets({ perSecond: 1, burst: 1 }, 2)
  buckets.spend('old', 1, 0)
  buckets.spend('new', 1, 0)
  expect(buckets.waitMs('old', 1, 0)).toBe(1000) // seen again
  for (let stranger = 0; stranger < 10_000; stranger++) {
    buckets.waitMs(`stranger ${stranger}`, 1, 0)
    buckets.waitMs('old', 1, 0)
  }
  expect(buckets.size).toBe(2)
  expect(buckets.waitMs('old', 1, 0)).toBe(1000)
  expect(buckets.waitMs('new', 1, 0)).toBe(0)
})

test.each([
  ['10.0.0.7', '10.0.0.7'],
  ['10.0.0.7:4711', '10.0.0.7'],
  ['::ffff:10.0.0.7', '10.0.0.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['[2001:db8:1:2::9]:443', '2001:db8:1:2'],
  ['::1', '0:0:0:0'],
  ['dog.example', null],
  ['10.0.0.7.8', null],
  ['', null],
])('clientOfText(%j) is %j', (text, client) => {
  expect(clientOfText(text)).toBe(client)
})

test('clientOf() takes addresses as sockets have them', () => {
  const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'))
  expect(clientOf(bytes('0a000007'))).toBe('10.0.0.7')
  expect(clientOf(bytes('00000000000000000000ffff0a000007'))).toBe('10.0.0.7')
  expect(clientOf(bytes('20010db8000100020003000400050006'))).toBe('2001:db8:1:2')
  expect(clientOf(bytes(''))).toBe('local')
})

test('RATE_LIMIT_PER_KEY refuses what one key sends too much of, over HTTP, in bulk, over /v2 and on /stream, and no other key', async () => {
  const { port } = await startServerForTest({
    ...STUB,
    API_KEY: 'busy,bulk,v2,stream,calm',
    RATE_LIMIT_PER_KEY: THREE,
  })
  const post = (key: string) => postWindow({ port }, windowOf(0), { 'X-API-Key': key })

  expect(await statusesOf(4, () => post('busy'))).toEqual([200, 200, 200, 429])
  const refused = await post('busy')
  expect(refused.json).toMatchObject({ error: 'rate_limited', model_available: true })
  // From the bucket: with 50 s for each window, and none left.
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(40)
  expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(50)
  expect((await post('calm')).status).toBe(200)

  // Four windows: one more than the burst has, so it owes one.
  const bulk = { headers: { 'Content-Type': OCTET_STREAM, 'X-API-Key': 'bulk' }, body: windowsOf(4) }
  expect(await statusesOf(2, () => ask({ port }, 'POST /infer', bulk))).toEqual([200, 429])
  // Of windows that no head told of, each further one is refused as soon as one is owed.
  const json = { windows: new Array(9).fill(new Array(100).fill(new Array(9).fill(0))) }
  const jsonBulk = { headers: { 'X-API-Key': 'calm' }, body: JSON.stringify(json) }
  const { status, json: answer } = await ask({ port }, 'POST /infer', jsonBulk)
  expect([status, answer.failed]).toEqual([200, 6])
  expect(answer.results[3]).toMatchObject({ error: 'rate_limited' })
  expect((await ask({ port }, 'POST /infer', jsonBulk)).status).toBe(429)

  const v2 = { headers: { 'X-API-Key': 'v2' }, body: v2Of(4) }
  const inferV2 = () => ask({ port }, 'POST /v2/models/tcn_encoder/infer', v2)
  expect(await statusesOf(2, inferV2)).toEqual([200, 429])

  for (const [speech, taken] of [
    [IN_BINARY, 3],
    [IN_JSON, 0], // another connection has no bucket of its own
  ] as const) {
    const client = await WebSocketClient.open({ port }, { headers: { 'X-API-Key': 'stream' } })
    await greet(client, speech)
    for (let sequence = 0; sequence < 4; sequence++) client.send(speech.window(sequence, windowOf(0)))
    const answers = await client.answers(4)
    expect(answers.map(({ type, code }) => code ?? type)).toEqual([
      ...new Array(taken).fill('result'),
      ...new Array(4 - taken).fill('rate_limited'),
    ])
    client.hangUp()
  }
  // 2 of busy, 1 of bulk (binary, of which no more than the head came), 1 of bulk (JSON) and 6 in it, 1 of v2,
  // 1 + 4 of stream
  expect(await metric(port, 'hailo_rejected_total', 'reason="rate_limited"')).toBe(16)
})

test('RATE_LIMIT_PER_ADDRESS counts those behind one address together, keys or none, and believes no header', async () => {
  const { port } = await startServerForTest({ ...STUB, API_KEY: 'a,b', RATE_LIMIT_PER_ADDRESS: THREE })
  const tries = [{ 'X-API-Key': 'a' }, { 'X-API-Key': 'b' }, { 'X-API-Key': 'guessed' }, { 'X-API-Key': 'a' }]
  const statuses: number[] = []
  for (const [index, headers] of tries.entries()) {
    const told = { ...headers, 'X-Forwarded-For': `10.0.0.${index}` }
    statuses.push((await postWindow({ port }, windowOf(0), told)).status)
  }
  expect(statuses).toEqual([200, 200, 401, 429])
  expect((await ask({ port }, 'GET /healthz')).status).toBe(200)
})

test('a head that tells of many windows costs one without a right key, and what came of them with one', async () => {
  const limits = { RATE_LIMIT_PER_ADDRESS: '0.02:4', DEADLINE_MS: '5000' }
  const { port } = await startServerForTest({ ...STUB, API_KEY: 'a', ...limits })
  const head = (key: string) =>
    headOf('POST /infer', { 'X-API-Key': key, 'Content-Type': OCTET_STREAM, 'Content-Length': 1000 * 3600 })
  const post = () => postWindow({ port }, windowOf(0), { 'X-API-Key': 'a' })

  const brokenOff = await Connection.open({ port })
  brokenOff.send(head('a'), windowsOf(1))
  await until(async () => (await metric(port, 'hailo_inference_requests_total', 'success')) === 1)
  expect((await post()).status).toBe(429) // a thousand are still to come
  brokenOff.close()
  await until(async () => (await post()).status === 200)

  const stranger = await Connection.open({ port })
  stranger.send(head('guessed'))
  expect((await stranger.answer()).status).toBe(401)
  expect(await statusesOf(2, post)).toEqual([200, 429]) // the last of four
})

test.each([
  ['a page', (at: Server, headers: Headers) => ask(at, 'GET /status', { headers })],
  ['/v2', (at: Server, headers: Headers) => ask(at, 'GET /v2', { headers })],
  [
    'an unload',
    (at: Server, headers: Headers) => ask(at, 'POST /v2/repository/models/tcn_encoder/unload', { headers }),
  ],
  ['/stream', (at: Server, headers: Headers) => WebSocketClient.open(at, { headers })],
])('a wrong key costs a window where %s is asked for too, and a right one none', async (_, asked) => {
  const server = await startServerForTest({ ...STUB, API_KEY: 'a', RATE_LIMIT_PER_ADDRESS: THREE })
  const wrong = { 'X-API-Key': 'guessed' }
  const right = { 'X-API-Key': 'a' }
  for (let time = 0; time < 4; time++) expect([401, 429]).not.toContain((await asked(server, right)).status)
  expect(await statusesOf(4, () => asked(server, wrong))).toEqual([401, 401, 401, 429])
  expect((await postWindow(server, windowOf(0), right)).status).toBe(429)
  expect([401, 429]).not.toContain((await asked(server, right)).status)
})

test('requests of /v2 that were let in together do not go on once one of them owes windows', async () => {
  const { port } = await startServerForTest({ ...STUB, RATE_LIMIT_PER_ADDRESS: THREE, DEADLINE_MS: '5000' })
  const body = v2Of(4)
  const [first, second] = await Promise.all([Connection.open({ port }), Connection.open({ port })])
  for (const connection of [first, second]) {
    connection.send(headOf('POST /v2/models/tcn_encoder/infer', { 'Content-Length': body.length }))
  }
  // Read after both heads, and the last that the bucket has.
  expect((await postWindow({ port }, windowOf(0))).status).toBe(200)
  first.send(body)
  expect((await first.answer()).status).toBe(200)
  second.send(body)
  expect((await second.answer()).status).toBe(429)
})

test('with TRUST_PROXY the address is the one that the proxy has added, not what its client has told it', async () => {
  const { port } = await startServerForTest({ ...STUB, RATE_LIMIT_PER_ADDRESS: THREE, TRUST_PROXY: 'true' })
  const connection = await Connection.open({ port })
  const postVia = async (forwarded: string, lie: string) => {
    const lines = { 'X-Forwarded-For': lie, 'x-forwarded-for': forwarded } // some proxies add a line of their own
    connection.send(postOf(bytesOf(windowOf(0)), { ...lines, 'Content-Type': OCTET_STREAM }))
    return (await connection.answer()).status
  }
  const statuses: number[] = []
  for (let lie = 0; lie < 4; lie++) {
    statuses.push(await postVia(`192.0.2.1, 192.0.2.${lie}, 10.0.0.1`, `192.0.2.${lie}`))
  }
  expect(statuses).toEqual([200, 200, 200, 429])
  expect(await postVia('192.0.2.1, 192.0.2.1, 10.0.0.2', '10.0.0.1')).toBe(200)
  for (let host = 0; host < 4; host++) statuses.push(await postVia(`2001:db8::${host}`, ''))
  expect(statuses.slice(4)).toEqual([200, 200, 200, 429])
})

// The control: the same flood.
test('without a limit nobody is refused for the rate', async () => {
  const { port } = await startServerForTest({ ...STUB, API_KEY: 'busy' })
  const post = () => postWindow({ port }, windowOf(0), { 'X-API-Key': 'busy' })
  expect(await statusesOf(4, post)).toEqual([200, 200, 200, 200])
  expect(await metric(port, 'hailo_rejected_total', 'reason="rate_limited"')).toBe(0)
})

async function statusesOf(times: number, send: () => Promise<{ status: number }>): Promise<number[]> {
  const statuses: number[] = []
  for (let time = 0; time < times; time++) statuses.push((await send()).status)
  return statuses
}

function v2Of(windows: number): string {
  const shape = [windows, 100, 9]
  const input = { name: 'imu_window', datatype: 'FP32', shape, data: new Array(windows * 900).fill(0) }
  return JSON.stringify({ inputs: [input] })
}

function windowsOf(count: number): Uint8Array {
  return Buffer.concat(Array.from({ length: count }, (_, index) => bytesOf(windowOf(index))))
}
