import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { request as requestPlain } from 'node:http'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import type { TLSSocket } from 'node:tls'
import { expect, onTestFinished, test, vi } from 'vitest'
import { WebSocket } from 'ws'
import { CertificateWatch } from '../src/http/certificate-watch.ts'
import type { Logger } from '../src/log.ts'
import { bytesOf, Connection, headOf, OCTET_STREAM } from './http-client.ts'
import { startServerForTest, until } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { windowOf } from './windows.ts'
import { fromFrame, IN_BINARY } from './ws-client.ts'

/** Self-signed, for localhost, and of no use to anybody. Their common names begin with "old", "new" and "odd". */
const FIXTURES = 'test/fixtures/tls'
const OLD = /^old\./
const NEW = /^new\./

test('TLS_CERT and TLS_KEY make the port speak HTTPS and nothing else, and the Unix-domain socket stays as it is', async () => {
  const { folder, env } = filesOf('old')
  const socketPath = join(folder, 'dog.sock')
  const server = await startServerForTest({ ...env, SIDECAR_SOCKET: socketPath })
  expect(server.stdout).toMatch(/^ +url +https:\/\/127\.0\.0\.1:\d+$/m)
  const health = await ask(server, 'GET /healthz')
  expect([health.status, health.subject]).toEqual([200, expect.stringMatching(OLD)])
  expect(health.headers['strict-transport-security']).toMatch(/^max-age=\d+$/)
  const answer = await ask(server, 'POST /infer', windowOf(0))
  expect([answer.status, answer.body.length]).toEqual([200, 304])

  const plain = requestPlain({ socketPath, path: '/healthz' }).end()
  const [overSocket] = await once(plain, 'response')
  expect([overSocket.statusCode, overSocket.resume() && true]).toEqual([200, true])

  const intruder = await Connection.open(server)
  intruder.send(headOf('GET /healthz'))
  expect(await intruder.rest()).not.toContain('HTTP/1.1 200')
})

test('another certificate is shown on SIGHUP, and who is connected stays: requests, /stream, and a flood of new ones', async () => {
  const { env, put } = filesOf('old')
  const server = await startServerForTest(env)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  onTestFinished(() => agent.destroy())
  const stream = await connectStream(server)
  expect((await ask(server, 'GET /healthz', null, agent)).subject).toMatch(OLD)

  let isOver = false
  const flood = Array.from({ length: 4 }, async () => {
    const subjects: string[] = []
    while (!isOver) {
      const { status, subject } = await ask(server, 'POST /infer', windowOf(1))
      expect(status).toBe(200)
      subjects.push(subject)
    }
    return subjects
  })
  // Back and forth: the last of several counts.
  for (const name of ['new', 'old', 'new'] as const) {
    put(name)
    server.process.kill('SIGHUP')
    await until(async () => (await ask(server, 'GET /healthz')).subject.startsWith(name))
  }
  isOver = true
  const subjects = (await Promise.all(flood)).flat()
  expect(subjects.some(subject => OLD.test(subject)) && subjects.some(subject => NEW.test(subject))).toBe(
    true,
  )

  for (let time = 0; time < 4; time++) expect((await ask(server, 'GET /healthz')).subject).toMatch(NEW)
  const kept = await ask(server, 'GET /healthz', null, agent)
  expect([kept.status, kept.subject, kept.reused]).toEqual([200, expect.stringMatching(OLD), true])
  expect((await stream.answerTo(windowOf(2))).type).toBe('result')
  expect((await (await connectStream(server)).answerTo(windowOf(2))).type).toBe('result')
  expect(await renewals(server)).toEqual({ done: 3, failed: 0 })
  expect(await server.stop()).toBe(0)
})

test('a certificate that comes into the files is shown by itself; a bad one changes nothing, is logged and counted', async () => {
  const { env, put, folder } = filesOf('old')
  const server = await startServerForTest({ ...env, LOG_LEVEL: 'error' })
  copyFileSync(`${FIXTURES}/new.pem`, join(folder, 'dog.pem')) // its key is yet to come
  await until(async () => (await renewals(server)).failed === 1)
  expect((await ask(server, 'GET /healthz')).subject).toMatch(OLD)
  await until(() =>
    server.stderr.includes('TLS_KEY holds no key in PEM, without a passphrase, that fits the certificate'),
  )

  put('odd')
  await until(() => server.stderr.includes('uWebSockets cannot use this kind of key'))
  expect((await ask(server, 'GET /healthz')).subject).toMatch(OLD)
  const { failed } = await renewals(server) // the watch may have seen the half of it too

  rmSync(join(folder, 'dog.key'))
  server.process.kill('SIGHUP')
  await until(async () => (await renewals(server)).failed > failed)
  await until(() => server.stderr.includes('TLS_CERT and TLS_KEY cannot be read: ENOENT'))
  expect((await ask(server, 'GET /healthz')).subject).toMatch(OLD)

  put('new')
  await until(async () => (await renewals(server)).done === 1)
  expect((await ask(server, 'GET /healthz')).subject).toMatch(NEW)
  expect(server.stderr).not.toContain('PRIVATE')
})

test('SIGHUP with the same files keeps the app that shows them', async () => {
  const server = await startServerForTest({ ...filesOf('old').env, LOG_LEVEL: 'info' })
  server.process.kill('SIGHUP')
  await until(() => server.stderr.includes('the certificate is unchanged'))
  expect(await renewals(server)).toEqual({ done: 0, failed: 0 })
})

test('a hundred certificates in one life of the process are worth a word: each keeps some memory', async () => {
  const { env, put } = filesOf('old')
  const tls = { certPath: env.TLS_CERT, keyPath: env.TLS_KEY }
  const tally = { shown() {}, renewed: vi.fn() }
  const log = { info: vi.fn(), warn: vi.fn(), error: vi.fn() } as unknown as Logger
  const watch = new CertificateWatch({ tls, sha256: '', show() {}, tally, log })
  for (let renewal = 1; renewal <= 100; renewal++) {
    expect(log.warn).not.toHaveBeenCalled()
    put(renewal % 2 === 0 ? 'old' : 'new')
    await watch.reload()
  }
  expect(log.warn).toHaveBeenCalledExactlyOnceWith({ renewals: 100 }, expect.stringContaining('restart'))
  expect(tally.renewed).toHaveBeenCalledTimes(100)
})

test.each([
  ['of another', 'new.key', 'TLS_KEY holds no key'],
  ['that is none', 'old.pem', 'TLS_KEY holds no key'],
  ['that is not there', 'nobody.key', 'cannot be read: ENOENT|ENOENT'],
  ['of ed448, which OpenSSL alone can read', 'odd.key', 'uWebSockets cannot use this kind of key', 'odd.pem'],
])('the server does not start with a key %s', async (_, key, words, cert = 'old.pem') => {
  const tls = { TLS_CERT: `${FIXTURES}/${cert}`, TLS_KEY: `${FIXTURES}/${key}` }
  await expect(startServer({ INFER_MODE: 'stub', ...tls })).rejects.toThrow(
    new RegExp(`ended with 78.*(${words})`, 's'),
  )
})

test('MAX_CONNECTIONS holds for TLS too', async () => {
  const server = await startServerForTest({ ...filesOf('old').env, MAX_CONNECTIONS: '2' })
  const agents = Array.from({ length: 5 }, () => new Agent({ keepAlive: true }))
  onTestFinished(() => agents.forEach(agent => agent.destroy()))
  const outcomes: (number | string)[] = []
  for (const agent of agents) {
    const { status } = await ask(server, 'GET /healthz', null, agent).catch(() => ({ status: 'closed' }))
    outcomes.push(status)
  }
  expect(outcomes).toEqual([200, 200, 'closed', 'closed', 'closed'])
})

/** A server's environment, and its files, which put() replaces. */
function filesOf(name: 'old' | 'new') {
  const folder = mkdtempSync(join(tmpdir(), 'tls-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const put = (name: 'old' | 'new' | 'odd') => {
    for (const kind of ['pem', 'key'])
      copyFileSync(`${FIXTURES}/${name}.${kind}`, join(folder, `dog.${kind}`))
  }
  put(name)
  const tls = { TLS_CERT: join(folder, 'dog.pem'), TLS_KEY: join(folder, 'dog.key') }
  return {
    folder,
    put,
    env: { INFER_MODE: 'stub', WORKERS: '1', LOG_LEVEL: 'fatal', DEADLINE_MS: '5000', ...tls },
  }
}

/** Asks over HTTPS: over a connection of its own, or one of the agent's. */
async function ask(
  { port }: TestServer,
  route: string,
  window: Float32Array | null = null,
  agent: Agent | false = false,
) {
  const [method, path] = route.split(' ')
  const headers = { Accept: OCTET_STREAM, 'Content-Type': OCTET_STREAM }
  const outgoing = request({
    port,
    host: '127.0.0.1',
    method,
    path,
    headers,
    agent,
    rejectUnauthorized: false,
  })
  outgoing.end(window === null ? undefined : bytesOf(window))
  const [incoming] = await once(outgoing, 'response')
  const subject = String((incoming.socket as TLSSocket).getPeerCertificate().subject?.CN)
  const { statusCode: status, headers: answered } = incoming
  return { status, headers: answered, subject, body: await buffer(incoming), reused: outgoing.reusedSocket }
}

async function renewals(server: TestServer): Promise<{ done: number; failed: number }> {
  const text = String((await ask(server, 'GET /metrics')).body)
  const of = (result: string) =>
    Number(new RegExp(`^hailo_tls_renewals_total{result="${result}"} (\\d+)`, 'm').exec(text)![1])
  return { done: of('done'), failed: of('failed') }
}

/** A client of /stream over WSS, that has said hello. */
async function connectStream({ port }: TestServer) {
  const socket = new WebSocket(`wss://127.0.0.1:${port}/stream`, { rejectUnauthorized: false })
  onTestFinished(() => socket.terminate())
  await once(socket, 'open')
  const next = async () => fromFrame((await once(socket, 'message'))[0])
  socket.send(IN_BINARY.hello())
  expect((await next()).type).toBe('welcome')
  return {
    answerTo(window: Float32Array) {
      socket.send(IN_BINARY.window(0, window))
      return next()
    },
  }
}
