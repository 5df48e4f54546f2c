import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, onTestFinished, test } from 'vitest'
import { FAULTS } from './faults/faults.ts'
import { ask, postWindow } from './http-client.ts'
import { distinctWindow, startServerForTest, until } from './load.ts'
import { inferBinary } from './v2.ts'
import { windowOf } from './windows.ts'
import { greet, IN_BINARY, WebSocketClient } from './ws-client.ts'

const KEY = 'k3y-0f-the-d0g'
/** One character is missing: no key, and nearly one. */
const WRONG = KEY.slice(0, -1)
/** Through every door they are carried as they are, or as the header Authorization may have them. */
const SECRETS = [KEY, WRONG].flatMap(key => [
  key,
  Buffer.from(key).toString('base64'),
  encodeURIComponent(key),
])
const PATHS = [
  '/',
  '/status',
  '/live',
  '/metrics',
  '/healthz',
  '/readyz',
  '/openapi.json',
  '/docs',
  '/v2',
  '/nowhere',
]

test('whatever door a key is shown at, the server writes it nowhere: log, answers, metrics, telemetry, spans, files', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'secrets-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const spans: string[] = []
  const collector = createServer(async (request, response) => {
    spans.push(JSON.stringify(request.headers), await text(request))
    response.end('{}')
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void collector.close())
  await once(collector, 'listening')
  const { port } = collector.address() as AddressInfo
  const [telemetry, state] = ['telemetry', 'state'].map(name => join(folder, name))
  mkdirSync(telemetry!)
  const server = await startServerForTest(
    {
      API_KEY: `another,${KEY}`,
      LOG_LEVEL: 'trace',
      WORKERS: '1',
      DEADLINE_MS: '2000',
      TELEMETRY_DIR: telemetry!,
      STATE_DIR: state!,
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      RATE_LIMIT_PER_ADDRESS: '1000:1000',
    },
    { faults: true },
  )
  const answers: string[] = []
  const keep = ({ status, headers, body }: { status: number; headers: object; body: string | Buffer }) => {
    answers.push(`${JSON.stringify(headers)} ${body}`)
    return status
  }
  const lastly: string[] = []
  for (const key of [KEY, WRONG]) {
    const basic = Buffer.from(`dog:${key}`).toString('base64')
    const shown = [
      { 'X-API-Key': key },
      { Authorization: `Bearer ${key}` },
      { Authorization: `bearer  ${key} ` },
      { Authorization: `Basic ${basic}` },
      { Cookie: `key=${key}` },
      { 'X-API-Key': `${key}, another` },
    ]
    for (const headers of shown) {
      for (const path of PATHS) keep(await ask(server, `GET ${path}`, { headers }))
      keep(await postWindow(server, windowOf(0), headers))
      keep(await ask(server, 'POST /infer', { headers, body: '{' }))
      keep(await inferBinary(server, [windowOf(0)], { headers }))
      keep(await ask(server, 'POST /v2/repository/models/tcn_encoder/unload', { headers }))
    }
    keep(await ask(server, `GET /status?key=${key}&api_key=${key}`))
    keep(await ask(server, `GET /${key}`))
    for (const headers of [{ 'Sec-WebSocket-Protocol': `hailo.v1, key.${key}` }, { 'X-API-Key': key }]) {
      const client = await WebSocketClient.open(server, { headers })
      keep(client)
      if (client.status !== 101) continue
      await greet(client, IN_BINARY)
      client.send(IN_BINARY.window(0, windowOf(0)), new Uint8Array(9))
      lastly.push(JSON.stringify(await client.answers(2)))
      client.hangUp()
    }
  }
  // A worker that dies in the middle of the owner's window has much to tell.
  const crash = await postWindow(server, distinctWindow(0, FAULTS.throw), { 'X-API-Key': KEY })
  expect(keep(crash)).toBe(503)
  await until(() => server.stderr.includes('a window asked for this failure'))
  expect(await server.stop()).toBe(0)

  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  const written = files.map(name => join(folder, name)).filter(path => statSync(path).isFile())
  const places = {
    log: server.stderr,
    banner: server.stdout,
    answers: [...answers, ...lastly].join('\n'),
    spans: spans.join('\n'),
    files: [...files, ...written.map(path => readFileSync(path, 'latin1'))].join('\n'),
  }
  for (const [place, all] of Object.entries(places)) {
    expect(all.length, place).toBeGreaterThan(100) // it was looked at
    for (const secret of SECRETS) expect(all.includes(secret), `${secret} in ${place}`).toBe(false)
  }
  const found = {
    files: '"request_id"',
    spans: 'hailo.request_id',
    answers: 'unauthorized',
    log: 'unauthorized',
  }
  for (const [place, words] of Object.entries(found)) {
    expect(places[place as keyof typeof found].includes(words), `${words} in ${place}`).toBe(true)
  }
})

// ONNX Runtime would tell its makers of it, and note an id of this machine in the home folder.
test('the server leaves nothing in the home folder, and reports to nobody', async () => {
  const home = mkdtempSync(join(tmpdir(), 'home-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  const server = await startServerForTest({ INFER_MODE: 'onnx', WORKERS: '1', HOME: home })
  expect((await postWindow(server, windowOf(0))).status).toBe(200)
  expect(await server.stop()).toBe(0)
  expect(readdirSync(home)).toEqual([])
})
