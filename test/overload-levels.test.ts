import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { LEVEL } from '../src/core/degradation.ts'
import { CHANNELS } from '../src/core/window.ts'
import { FAULTS } from './faults/faults.ts'
import { type Answer, ask, bytesOf, Connection, headOf, OCTET_STREAM, postOf } from './http-client.ts'
import {
  closedLoop,
  distinctWindow,
  metric,
  type Outcome,
  post,
  startServerForTest,
  tallyOf,
  until,
} from './load.ts'
import { inferBinary, tensorOf } from './v2.ts'
import { GOLDEN, windowOf } from './windows.ts'
import { greet, IN_BINARY, WebSocketClient } from './ws-client.ts'

/** The only worker takes so long for a window, however fast the machine is. */
const SERVICE_MS = 8
const SLOTS = 128
/** Clients that each have a window on its way at all times: so full is the ring. The last leaves a few slots for others. */
const CLIENTS = { [LEVEL.elevated]: 100, [LEVEL.degraded]: 114, [LEVEL.shed]: 124 } as const
/** So few keep the level that was reached, and leave room for what a test asks beside them. */
const KEEPING = { [LEVEL.elevated]: 90, [LEVEL.degraded]: 95, [LEVEL.shed]: 105 } as const
const LOAD_WAVE = { periodMs: 1200, periods: 3 }
/** Samples of a recording, of which no window orders anything of the worker. */
const SAMPLES = 300

type Server = { readonly port: number }

test('under a rising load telemetry gives way first, then what overlaps and bulk, and live windows never; a square wave changes nothing, and calm brings all of it back', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'levels-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const server = await startServerForTest(
    {
      INFER_MODE: 'stub',
      WORKERS: '1',
      RING_SLOTS: String(SLOTS),
      DEADLINE_MS: '5000',
      TELEMETRY_DIR: folder,
      LOG_LEVEL: 'info',
    },
    { faults: true },
  )
  const { port } = server
  const press = startPressing(port)
  const climb = async (level: keyof typeof CLIENTS) => {
    press.with(CLIENTS[level])
    await until(async () => (await levelOf(server)) >= level)
    press.with(KEEPING[level])
    await until(async () => (await metric(port, 'hailo_queue_depth')) <= KEEPING[level])
    expect(await levelOf(server)).toBe(level)
  }
  const sampled = () => metric(port, 'hailo_telemetry_dropped_total', 'reason="sampled"')
  expect(await pauseOf(server)).toBe(1000)

  await climb(LEVEL.elevated)
  await until(async () => (await sampled()) > 0)
  expect(await pauseOf(server)).toBe(5000)
  expect((await bulkOf(server, 2)).status).toBe(200)
  expect((await answersOf(server, { thin: true })).map(({ type }) => type)).toEqual(
    new Array(5).fill('result'),
  )

  await climb(LEVEL.degraded)
  const [thinned, whole] = await Promise.all([
    answersOf(server, { thin: true }),
    answersOf(server, { thin: false }),
  ])
  expect(thinned.map(({ seq, code = 'ok' }) => [seq, code])).toEqual([
    [0, 'ok'],
    [1, 'thinned'],
    [2, 'ok'],
    [3, 'thinned'],
    [4, 'ok'],
  ])
  expect(whole.map(({ type }) => type)).toEqual(new Array(5).fill('result'))
  expect(await metric(port, 'hailo_stream_thinned_total')).toBe(2)
  expect((await bulkOf(server, 2)).status).toBe(200)
  expect(await refusedBulk(server)).toBe(0)

  await climb(LEVEL.shed)
  const low = { request: { parameters: { priority: 2 } } }
  const refused = [await bulkOf(server, 2), await inferBinary(server, [windowOf(0)], low)]
  for (const { status, headers } of refused) {
    expect(status).toBe(429)
    expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(1)
  }
  expect(await refusedBulk(server)).toBe(2)
  expect((await post(port, windowOf(1))).status).toBe(200)

  const changes = () => metric(port, 'hailo_backpressure_changes_total')
  expect(await changes()).toBe(3)
  for (let period = 0; period < LOAD_WAVE.periods; period++) {
    press.with(CLIENTS[LEVEL.shed])
    await sleep(LOAD_WAVE.periodMs / 2)
    press.with(0)
    await sleep(LOAD_WAVE.periodMs / 2)
  }
  expect(await changes()).toBe(3)
  // Whatever was asked of it as a live window, it has answered.
  expect(tallyOf(await press.stop())).toEqual({ 200: expect.any(Number) })

  await until(async () => (await levelOf(server)) === LEVEL.normal)
  expect(await changes()).toBe(6)
  expect(server.stderr.match(/"msg":"backpressure (grows|falls)"/g)).toHaveLength(6)
  expect((await bulkOf(server, 2)).status).toBe(200)
  expect(await pauseOf(server)).toBe(1000)
  const sampledBefore = await sampled()
  expect((await post(port, windowOf(2))).status).toBe(200)
  expect(await sampled()).toBe(sampledBefore)
}, 60_000)

// The control: the same load, and nothing that gives way to it.
test('without levels bulk fills the slots that live windows need, and nobody is turned away', async () => {
  const connections = CLIENTS[LEVEL.shed] + CROWD
  const server = await startServerForTest(
    {
      INFER_MODE: 'stub',
      WORKERS: '1',
      RING_SLOTS: String(SLOTS),
      DEADLINE_MS: '5000',
      MAX_CONNECTIONS: String(Math.floor(connections / 0.91)),
      FAULTS_LEVELS: 'none',
    },
    { faults: true },
  )
  const press = startPressing(server.port)
  press.with(CLIENTS[LEVEL.shed])
  const crowd = Array.from({ length: CROWD }, () => idleConnection(server))
  await until(async () => (await metric(server.port, 'hailo_queue_depth')) > 0.95 * SLOTS)
  await sleep(500)
  expect(await levelOf(server)).toBe(LEVEL.normal)
  expect((await bulkOf(server, 2)).status).toBe(200)
  const newcomers = Array.from({ length: 20 }, () => askAnew(server, 'GET /readyz', ANOTHER_HOST))
  expect(tallyOf(await Promise.all(newcomers))).toEqual({ 200: 20 })
  for (const socket of crowd) socket.destroy()
  await press.stop()
}, 30_000)

/** 0.9 of them lead to REJECT. */
const MAX_CONNECTIONS = 400
const CROWD = 365
/** To the server, whoever does not come from 127.0.0.1. */
const ANOTHER_HOST = '127.0.0.2'
/** More than the few that are let in each second. */
const NEWCOMERS = 60

test('in REJECT nobody new is let in but a few, those who are connected are served, and it passes', async () => {
  const server = await startServerForTest({
    INFER_MODE: 'stub',
    WORKERS: '1',
    DEADLINE_MS: '5000',
    MAX_CONNECTIONS: String(MAX_CONNECTIONS),
  })
  const kept = await Connection.open(server)
  const stream = await WebSocketClient.open(server)
  await greet(stream, IN_BINARY)
  const askKept = (...request: (string | Uint8Array)[]): Promise<Answer> => {
    kept.send(...request)
    return kept.answer()
  }
  const kepts = async (name: string, labels = '') =>
    rowOf(await askKept(headOf('GET /metrics')), name, labels)

  const crowd = Array.from({ length: CROWD }, () => idleConnection(server))
  await until(async () => (await kepts('hailo_backpressure_level')) === LEVEL.reject)
  const newcomers = Array.from({ length: NEWCOMERS }, () => idleConnection(server, ANOTHER_HOST))
  await until(async () => (await kepts('hailo_connections_refused_total', 'reason="level"')) > 0)
  expect(await kepts('hailo_connections_refused_total', 'reason="limit"')).toBe(0)

  // Who is there goes on: probes, Prometheus and live windows, over HTTP and on a stream.
  expect((await askKept(headOf('GET /healthz'))).json).toMatchObject({ ok: true, level: LEVEL.reject })
  expect((await askKept(headOf('GET /readyz'))).status).toBe(200)
  const window = postOf(bytesOf(windowOf(0)), { 'Content-Type': OCTET_STREAM })
  expect((await askKept(window)).status).toBe(200)
  stream.send(IN_BINARY.window(0, windowOf(0)))
  expect(await stream.nextAnswer()).toMatchObject({ type: 'result', seq: 0 })
  const upgrade = headOf('GET /stream', {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version': 13,
  })
  expect((await askKept(upgrade)).status).toBe(503)
  // A probe on this host comes in, however often, while the others do not.
  const refused = () => kepts('hailo_connections_refused_total', 'reason="level"')
  const before = await refused()
  newcomers.push(...Array.from({ length: NEWCOMERS }, () => idleConnection(server, ANOTHER_HOST)))
  for (let n = 0; n < 10; n++) expect(await askAnew(server, 'GET /healthz').catch(String)).toBe(200)
  await until(async () => (await refused()) > before)
  for (const newcomer of newcomers) newcomer.destroy()
  // A probe of another host gets through when it tries again, once the flood is over.
  await until(() =>
    askAnew(server, 'GET /healthz', ANOTHER_HOST).then(
      status => status === 200,
      () => false,
    ),
  )

  for (const socket of crowd) socket.destroy()
  await until(async () => (await kepts('hailo_backpressure_level')) < LEVEL.reject)
  const again = Array.from({ length: 20 }, () => askAnew(server, 'GET /readyz', ANOTHER_HOST))
  expect(tallyOf(await Promise.all(again))).toEqual({ 200: 20 })
}, 30_000)

/** Clients that post the next window when they have the answer to the last, as many at a time as is said. */
function startPressing(port: number) {
  let pressing = 0
  let over = false
  const started: Promise<Outcome[][]>[] = []
  const client = async (index: number) => {
    while (!over) {
      if (index >= pressing) await sleep(10)
      else {
        const more = () => index < pressing
        const request = (connection: Parameters<Parameters<typeof closedLoop>[0]['request']>[0]) =>
          connection.post(distinctWindow(index, FAULTS.block + SERVICE_MS))
        started.push(closedLoop({ port, clients: 1, more, request }))
        await started.at(-1)
      }
    }
  }
  const clients = Array.from({ length: CLIENTS[LEVEL.shed] }, (_, index) => client(index))
  return {
    with(clients: number): void {
      pressing = clients
    },
    /** How each of their requests ended. */
    async stop(): Promise<Outcome[]> {
      pressing = 0
      over = true
      await Promise.all(clients)
      return (await Promise.all(started)).flat(2)
    },
  }
}

function levelOf({ port }: Server): Promise<number> {
  return metric(port, 'hailo_backpressure_level')
}

/** How long the live page is told to wait. */
async function pauseOf(server: Server): Promise<number> {
  return (await ask(server, 'GET /live')).json.pause_ms
}

function bulkOf(server: Server, count: number): Promise<Answer> {
  const windows = Array.from({ length: count }, (_, n) => windowOf(n))
  const headers = { 'Content-Type': OCTET_STREAM }
  return ask(server, 'POST /infer', { headers, body: bytesOf(tensorOf(windows)) })
}

function refusedBulk({ port }: Server): Promise<number> {
  return metric(port, 'hailo_rejected_total', 'reason="low_priority"')
}

/** What a client of `/stream` gets for five windows that overlap by half. */
async function answersOf(server: Server, { thin }: { thin: boolean }) {
  const client = await WebSocketClient.open(server)
  await greet(client, IN_BINARY, { mode: 'samples', hop: 50, thin })
  client.send(IN_BINARY.samples(0, GOLDEN.windows.subarray(0, SAMPLES * CHANNELS)))
  return client.answers(5)
}

function idleConnection({ port }: Server, localAddress = '127.0.0.1'): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  socket.on('error', () => {})
  onTestFinished(() => void socket.destroy())
  return socket
}

/** Over a connection of its own. @throws when that is closed instead */
async function askAnew(server: Server, route: string, localAddress = '127.0.0.1'): Promise<number> {
  const connection = await Connection.open(server, { localAddress })
  connection.send(headOf(route))
  return connection
    .answer()
    .then(({ status }) => status)
    .finally(() => connection.close())
}

function rowOf({ body }: Answer, name: string, labels: string): number {
  const row = String(body)
    .split('\n')
    .find(row => /^\w+/.exec(row)?.[0] === name && row.includes(labels))
  return Number(row!.split(' ').at(-1))
}
