import { once } from 'node:events'
import { Agent, get } from 'node:https'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { FAULTS } from './faults/faults.ts'
import { bytesOf, OCTET_STREAM, postOf, Connection as Upload } from './http-client.ts'
import { Connection, distinctWindow, metric, startServerForTest, tallyOf } from './load.ts'
import { windowOf } from './windows.ts'

const UPGRADE =
  'GET /stream HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'

// All at once; `npm run soak` does it for longer.
test('clients that idle 9.5 to 11 s between posts never fail, nor does a pool that is held, nor an upload that waits for room', {
  timeout: 60_000,
}, async () => {
  const { port, process } = await startServerForTest({ DEADLINE_MS: '5000' })
  const slow = await startServerForTest(
    { INFER_MODE: 'stub', WORKERS: '1', RING_SLOTS: '16', DEADLINE_MS: '5000' },
    { faults: true },
  )
  const tls = await startServerForTest({
    INFER_MODE: 'stub',
    TLS_CERT: 'test/fixtures/tls/old.pem',
    TLS_KEY: 'test/fixtures/tls/old.key',
  })
  const statuses: (number | string)[] = []
  const ask = async (connection: Connection, health: boolean) =>
    statuses.push(
      await (health ? connection.get('/healthz') : connection.post(windowOf(0))).then(
        ({ status }) => status,
        String,
      ),
    )
  const idling = Array.from({ length: 40 }, async (_, client) => {
    const connection = new Connection(port)
    for (let round = 0; round < 2; round++) {
      await ask(connection, client % 4 === 0)
      // uWebSockets looks every 4 s whose time is up: 40 clients of different rhythm meet that moment.
      if (round === 0) await sleep(9500 + (1500 * client) / 40)
    }
    connection.close()
  })
  const pool = Array.from({ length: 8 }, async () => {
    const connection = new Connection(port)
    await ask(connection, false)
    await sleep(14_000) // longer than uWebSockets would wait; `npm run soak` holds one for 60 s
    await ask(connection, false)
    connection.close()
  })
  // Others come and go meanwhile, in every way: none may be taken for one that stays.
  const end = Date.now() + 12_500
  const visitors = Array.from({ length: 4 }, async (_, visitor) => {
    for (let visit = 0; Date.now() < end; visit++) {
      const connection = new Connection(port)
      if (visit % 4 !== 0) connection.socket.removeAllListeners('data') // what is said to them is no answer
      if (visit % 4 === 0) await connection.get('/readyz')
      else if (visit % 4 === 1)
        connection.socket.write('POST /infer HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n')
      else if (visit % 4 === 2) connection.socket.write('nonsense\r\n\r\n')
      await sleep(10 * visitor)
      connection.close()
    }
  })
  // Asked in the middle of that: a client of another address becomes a WebSocket.
  const interrupted = askedInTwo(port, async () => {
    const upgrading = new Connection(port, { localAddress: '127.0.0.2' })
    const upgraded = once(upgrading.socket.removeAllListeners('data'), 'data')
    upgrading.socket.write(UPGRADE)
    expect(String((await upgraded)[0])).toMatch(/^HTTP\/1\.1 101 /)
    upgrading.close()
  })
  const silent = new Connection(port)
  const halfAsked = new Connection(port)
  halfAsked.socket.write('POST /infer HTTP/1.1\r\nHost: test\r\nContent-Le')
  // A byte a second: enough for a socket, too little for a server.
  const trickling = connect(port, '127.0.0.1').on('error', () => {})
  trickling.write('POST /infer HTTP/1.1\r\nHost: test\r\nX-Slow: ')
  const trickle = setInterval(() => trickling.write('x'), 1000)
  const trickled = once(trickling, 'close')
  const overTls = Array.from({ length: 8 }, async (_, client) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false })
    const reused: boolean[] = []
    for (const idleMs of [9500 + 200 * client, 0]) {
      const asked = get({ agent, port: tls.port, host: '127.0.0.1', path: '/healthz' })
      const [answer] = await once(asked, 'response')
      reused.push(asked.reusedSocket)
      await once(answer.resume(), 'end')
      await sleep(idleMs)
    }
    agent.destroy()
    return reused
  })
  const waiting = uploadSlowly(slow.port).catch(String)
  await Promise.all([...idling, ...pool, ...visitors, overTls, interrupted])
  expect(await Promise.all(overTls)).toEqual(new Array(8).fill([false, true]))
  await trickled
  clearInterval(trickle)
  // Those who have asked nothing have no claim to that.
  expect([silent.open, halfAsked.open]).toEqual([false, false])
  expect(tallyOf(statuses)).toEqual({ 200: 40 * 2 + 8 * 2 })
  expect(await waiting).toEqual([200, '0'])
  expect(process.exitCode).toBeNull()
})

/** They take the only worker longer than uWebSockets would wait, and are too many to be read at once. */
const UPLOAD = { windows: 600, serviceMs: 25 }

/** @returns the status of an upload, and how many of its windows failed */
async function uploadSlowly(port: number): Promise<unknown[]> {
  const windows = Array.from({ length: UPLOAD.windows }, (_, n) =>
    bytesOf(distinctWindow(n, FAULTS.block + UPLOAD.serviceMs)),
  )
  const upload = await Upload.open({ port }, { patienceMs: 60_000 })
  upload.send(postOf(Buffer.concat(windows), { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }))
  const { status, headers } = await upload.answer()
  return [status, headers['x-windows-failed']]
}

/** Two requests, 14 s apart, on one connection; of the first, `between` comes between its head and its body. */
async function askedInTwo(port: number, between: () => Promise<void>): Promise<void> {
  const connection = new Connection(port)
  const window = windowOf(0)
  const body = Buffer.from(window.buffer, window.byteOffset, window.byteLength)
  const answered = connection.expectAnswer()
  connection.socket.write(
    `POST /infer HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\nContent-Length: ${body.length}\r\n\r\n`,
  )
  connection.socket.write(body.subarray(0, 100))
  await sleep(300) // until it has been read
  await between()
  connection.socket.write(body.subarray(100))
  expect((await answered).status).toBe(200)
  await sleep(14_000)
  expect(connection.open).toBe(true)
  expect((await connection.get('/healthz')).status).toBe(200)
  connection.close()
}

test('more connections than are kept are served all the same', async () => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub', DEADLINE_MS: '5000' })
  const connections = Array.from({ length: 700 }, () => new Connection(port))
  // So many at a time: a round is over before the first have idled for too long.
  const postAll = async (those: readonly Connection[], n: number) => {
    for (let at = 0; at < those.length; at += 25) {
      const answers = await Promise.all(those.slice(at, at + 25).map(each => each.post(windowOf(n))))
      expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
    }
  }
  for (const round of [0, 1]) await postAll(connections, round)
  for (const connection of connections.slice(0, 600)) connection.close()
  await postAll(connections.slice(600), 2)
  for (const connection of connections.slice(600)) connection.close()
  expect(await metric(port, 'hailo_http_requests_total', 'status_code="200"')).toBeGreaterThan(1499)
})
