import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { FAULTS } from './faults/faults.ts'
import {
  Connection,
  closedLoop,
  distinctWindow,
  get,
  type Outcome,
  post,
  startFaultyServer,
  tallyOf,
  until,
  untilInFlight,
} from './load.ts'

test.each(['SIGTERM', 'SIGINT'] as const)(
  '%s under load ends no request without its answer',
  async signal => {
    const server = await startFaultyServer()
    const { port } = server
    let ended = 0
    const request = (connection: Connection) => connection.post(distinctWindow(1)).finally(() => ended++)
    const more = () => true // until the port is closed
    const kept = closedLoop({ port, clients: 12, more, request })
    const fresh = closedLoop({ port, clients: 4, keepAlive: false, more, request })
    await until(() => ended > 100)
    expect(await server.stop(signal)).toBe(0)

    const outcomes = [...(await kept), ...(await fresh)]
    for (const course of outcomes.map(courseOf)) {
      // Reset: the kernel had accepted a new connection, the server had not yet when it closed its port.
      expect(course).toMatch(/^(200( stale 200)*( stale)?)?( ?503)?( ?ECONNRESET)? ?ECONNREFUSED$/)
    }
    const { 200: answered = 0, 503: told = 0, stale = 0, ECONNRESET: reset = 0 } = tallyOf(outcomes.flat())
    expect(answered).toBeGreaterThan(100)
    expect(told).toBeGreaterThan(0)
    expect(stale).toBeLessThan(8)
    expect(reset).toBeLessThan(2)
  },
)

test('a server that drains answers what is in flight, and tells everybody else to go elsewhere', async () => {
  const server = await startFaultyServer()
  const { port } = server
  const idle = new Connection(port)
  expect((await idle.post(distinctWindow(1))).status).toBe(200)
  const holding = await server.hold()
  const inFlight = [holding.answer, ...Array.from({ length: 5 }, (_, n) => post(port, distinctWindow(n)))]
  await untilInFlight(port, 6)
  const ended = server.stop('SIGTERM')
  await until(async () => (await get(port, '/readyz')).status === 503)

  const refused = await idle.post(distinctWindow(10))
  expect(refused).toMatchObject({ status: 503, headers: { connection: 'close', 'retry-after': '1' } })
  expect(JSON.parse(refused.body.toString())).toMatchObject({ error: 'draining' })
  const readiness = await get(port, '/readyz')
  expect(readiness).toMatchObject({ status: 503, headers: { connection: 'close' } })
  expect(JSON.parse(readiness.body.toString())).toEqual({ ready: false, reasons: ['draining'] })
  const health = await get(port, '/healthz')
  expect(health.status).toBe(200)
  expect(JSON.parse(health.body.toString())).toMatchObject({ ok: true, status: 'draining' })

  // Twice as long as the front door leaves its connections open when nobody waits for the windows.
  await sleep(2500)
  server.release()
  for (const answer of await Promise.all(inFlight)) {
    expect(answer).toMatchObject({ status: 200, headers: { connection: 'close' } })
  }
  expect(await ended).toBe(0)
})

test('a second signal, of either kind, changes nothing', async () => {
  const server = await startFaultyServer()
  const { answer } = await server.hold()
  const ended = server.stop('SIGTERM')
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    await sleep(50)
    server.process.kill(signal)
  }
  server.release()
  expect((await answer).status).toBe(200)
  expect(await ended).toBe(0)
})

// Without `exec` in the script, npm's shell takes the signal and the server lives on without a parent.
test('a signal to npm start reaches the server, which drains and ends npm with 0', async () => {
  const { PATH = '', HOME = '' } = process.env
  const npm = spawn('npm', ['start'], {
    env: { PATH, HOME, SIDECAR_PORT: '0', INFER_MODE: 'stub' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void npm.kill('SIGKILL'))
  let printed = ''
  let logged = ''
  npm.stderr.on('data', text => (logged += text))
  await new Promise<void>(resolve => {
    npm.stdout.on('data', text => {
      printed += text
      if (printed.includes('  url ')) resolve()
    })
  })
  npm.kill('SIGTERM')
  expect(await once(npm, 'close')).toEqual([0, null])
  expect(logged).toContain('"drained"')
})

test('a worker that hangs does not keep the server from ending', async () => {
  const server = await startFaultyServer()
  const hanging = post(server.port, distinctWindow(0, FAULTS.hang), { deadlineMs: 300 })
  await untilInFlight(server.port, 1)
  const startedMs = performance.now()
  expect(await server.stop('SIGTERM')).toBe(0)
  expect((await hanging).status).toBe(504)
  expect(performance.now() - startedMs).toBeLessThan(8000)
})

test('after SIGKILL under load another server serves at once on the same port', async () => {
  const port = await freePort()
  const first = await startFaultyServer({ SIDECAR_PORT: String(port) })
  let sequence = 0
  let stopped = false
  const load = closedLoop({
    port,
    clients: 16,
    more: () => !stopped,
    request: connection => connection.post(distinctWindow(sequence++)),
  })
  await until(() => sequence > 100)
  expect(await first.stop('SIGKILL')).toBe('SIGKILL')
  stopped = true
  const { 200: answered = 0 } = tallyOf((await load).flat())
  expect(answered).toBeGreaterThan(16)

  await startFaultyServer({ SIDECAR_PORT: String(port) })
  const answers = await Promise.all(
    Array.from({ length: 16 }, (_, index) => post(port, distinctWindow(index))),
  )
  expect(tallyOf(answers.map(({ status }) => status))).toEqual({ 200: 16 })
})

async function freePort(): Promise<number> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  await once(server.close(), 'close')
  return port
}

/** What a client went through, each turn of events once. */
function courseOf(outcomes: Outcome[]): string {
  return outcomes.filter((outcome, index) => outcome !== outcomes[index - 1]).join(' ')
}
