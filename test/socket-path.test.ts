import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { ask, bytesOf, OCTET_STREAM, postWindow } from './http-client.ts'
import { HOLDING, startFaultyServer, startServerForTest, until, untilInFlight } from './load.ts'
import { startServer } from './server.ts'
import { windowOf } from './windows.ts'

const STUB = { INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: '5000', LOG_LEVEL: 'fatal' }

test('SIDECAR_SOCKET carries the same routes beside the port', async () => {
  const path = socketPath()
  const server = await startWith(path)
  expect(server.stdout).toMatch(new RegExp(`^ +socket +${path}$`, 'm'))
  const client = clientOf(path)
  const health = await client('GET /healthz')
  expect(health.status).toBe(200)
  expect(JSON.parse(String(health.body))).toMatchObject({ ok: true, status: 'ok' })
  const accept = { Accept: OCTET_STREAM }
  const answer = await client('POST /infer', windowOf(0), accept)
  expect(answer.status).toBe(200)
  expect(answer.headers['x-inference-backend']).toBe('stub')
  expect(answer.body.equals((await postWindow(server, windowOf(0), accept)).body)).toBe(true)
  expect((await client('GET /nowhere')).status).toBe(404)
})

test('only its owner and its group may connect to the socket', async () => {
  const path = socketPath()
  await startWith(path)
  expect((statSync(path).mode & 0o777).toString(8)).toBe('660')
})

test('clients of the socket go through a drain like all others, and the file is gone after it', async () => {
  const path = socketPath()
  const server = await startFaultyServer({ SIDECAR_SOCKET: path })
  const idle = clientOf(path)
  expect((await idle('POST /infer', windowOf(0))).status).toBe(200)
  const inFlight = Array.from({ length: 6 }, () => clientOf(path)('POST /infer', HOLDING))
  await untilInFlight(server.port, 6)
  const ended = server.stop()
  await until(async () => (await ask(server, 'GET /readyz')).status === 503)
  const refused = await idle('POST /infer', windowOf(0))
  expect(refused).toMatchObject({ status: 503, headers: { connection: 'close', 'retry-after': '1' } })
  server.release()
  for (const answer of await Promise.all(inFlight)) {
    expect(answer).toMatchObject({ status: 200, headers: { connection: 'close' } })
  }
  expect(await ended).toBe(0)
  expect(existsSync(path)).toBe(false)
})

test('a client of the socket that is idle while the server drains may ask once more and is told', async () => {
  const path = socketPath()
  const server = await startWith(path)
  const idle = clientOf(path)
  expect((await idle('GET /healthz')).status).toBe(200)
  const ended = server.stop()
  await sleep(500) // nothing was in flight: only the connection keeps the server
  expect((await idle('GET /readyz')).status).toBe(503)
  expect(await ended).toBe(0)
})

test('a socket that a dead server left behind is replaced', async () => {
  const path = socketPath()
  const first = await startWith(path)
  await first.stop('SIGKILL')
  expect(existsSync(path)).toBe(true)
  await startWith(path)
  expect((await clientOf(path)('GET /readyz')).status).toBe(200)
})

test('a server does not start on the socket of another, which serves on', async () => {
  const path = socketPath()
  const server = await startWith(path)
  await expect(startServer({ ...STUB, SIDECAR_SOCKET: path })).rejects.toThrow(
    `the server ended with 1 before it was ready:\nhailo-inference cannot start:\nCannot listen on ${path}: another process listens there\n`,
  )
  expect((await clientOf(path)('GET /readyz')).status).toBe(200)
  expect((await ask(server, 'GET /readyz')).status).toBe(200)
})

test('a server does not start where a file is at the path, and leaves it alone', async () => {
  const path = socketPath()
  writeFileSync(path, 'notes')
  await expect(startServer({ ...STUB, SIDECAR_SOCKET: path })).rejects.toThrow(
    `Cannot listen on ${path}: there is something at this path that is not a socket`,
  )
  expect(readFileSync(path, 'utf8')).toBe('notes')
})

test('a server does not start where the folder of the path is missing, and says so', async () => {
  const path = join(socketPath(), 'dog.sock')
  await expect(startServer({ ...STUB, SIDECAR_SOCKET: path })).rejects.toThrow(
    `Cannot listen on ${path}: the socket cannot be made, its folder must exist and be writable\n`,
  )
})

test('a path of 107 bytes, the longest there is, is served', async () => {
  const folder = socketPath()
  const path = `${folder}${'x'.repeat(107 - folder.length)}`
  await startWith(path)
  expect((await clientOf(path)('GET /readyz')).status).toBe(200)
})

function startWith(path: string) {
  return startServerForTest({ ...STUB, SIDECAR_SOCKET: path })
}

/** In a folder of its own. */
function socketPath(): string {
  const folder = mkdtempSync(join(tmpdir(), 'socket-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'dog.sock')
}

/** Asks over one connection to the socket, which is kept alive. */
function clientOf(path: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  onTestFinished(() => agent.destroy())
  return async (route: string, window?: Float32Array, headers: Record<string, string> = {}) => {
    const [method, url] = route.split(' ')
    const outgoing = request({
      agent,
      socketPath: path,
      method,
      path: url,
      headers: { ...headers, 'Content-Type': OCTET_STREAM },
    })
    outgoing.end(window && bytesOf(window))
    const [incoming] = await once(outgoing, 'response')
    const { statusCode, headers: received } = incoming
    return { status: statusCode as number, headers: received, body: await buffer(incoming) }
  }
}
