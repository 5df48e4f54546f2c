import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { deflateRawSync, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { encodeFrame } from '../src/http/frame.ts'
import { bytesOf, jsonOf, postWindow, rowsOf } from './http-client.ts'
import { metric, until } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { GOLDEN, windowOf } from './windows.ts'
import { wireOf } from './ws-client.ts'

/**
 * Throws at every route and every frame what nobody would send on purpose. FUZZ_SECONDS per property,
 * FUZZ_SEED to see a case again: fast-check prints the seed and the smallest case that it finds.
 */
const { FUZZ_SECONDS, FUZZ_SEED } = process.env
const SECONDS = Number(FUZZ_SECONDS ?? 4)
const SEED = Number(FUZZ_SEED ?? Date.now() % 2 ** 31)
/** What has not answered by then is waiting for more, which will not come. */
const SILENT_MS = 30
const PATIENT = { 'X-Deadline-Ms': '3000' }

let server: TestServer
let golden: string
const folder = mkdtempSync(join(tmpdir(), 'fuzz-'))
const SOCKET_PATH = join(folder, 'socket')
beforeAll(async () => {
  console.log(`FUZZ_SEED=${SEED}`)
  server = await startServer({
    LOG_LEVEL: 'fatal',
    MAX_WINDOWS_PER_REQUEST: '200',
    SIDECAR_SOCKET: SOCKET_PATH,
  })
  golden = String((await postWindow(server, windowOf(0), PATIENT)).body)
})
afterAll(async () => {
  await server.stop()
  rmSync(folder, { recursive: true })
})

/** A request as it goes over the wire, before it is cut into segments. */
interface Request {
  readonly line: string
  readonly headers: readonly (readonly [string, string])[]
  readonly body: Uint8Array
}

const WINDOW = bytesOf(windowOf(1))
const SEVERAL = bytesOf(GOLDEN.windows).subarray(0, 5 * 3600)
const OIP = JSON.stringify({
  id: 'a',
  inputs: [
    { name: 'imu_window', shape: [1, 100, 9], datatype: 'FP32', data: Array.from(windowOf(2), Number) },
  ],
})
const OIP_HEAD = JSON.stringify({
  inputs: [
    {
      name: 'imu_window',
      shape: [1, 100, 9],
      datatype: 'FP32',
      parameters: { binary_data_size: 3600 },
    },
  ],
})
const OCTETS = ['Content-Type', 'application/octet-stream'] as const
const JSON_BODY = ['Content-Type', 'application/json'] as const

/** What clients send when all is well. */
const GOOD: readonly Request[] = [
  { line: 'POST /infer', headers: [JSON_BODY], body: Buffer.from(jsonOf(windowOf(1))) },
  { line: 'POST /infer', headers: [OCTETS], body: WINDOW },
  { line: 'POST /infer', headers: [OCTETS, ['Accept', OCTETS[1]]], body: SEVERAL },
  {
    line: 'POST /infer',
    headers: [JSON_BODY],
    body: Buffer.from(JSON.stringify({ windows: [0, 1].map(window => rowsOf(windowOf(window))) })),
  },
  {
    line: 'POST /encode',
    headers: [JSON_BODY],
    body: Buffer.from(JSON.stringify({ imu_window: rowsOf(windowOf(3)) })),
  },
  { line: 'POST /infer/infer', headers: [OCTETS, ['X-Deadline-Ms', '20']], body: WINDOW },
  { line: 'POST /', headers: [OCTETS, ['Accept', 'application/problem+json']], body: WINDOW },
  { line: 'POST /test', headers: [], body: Buffer.alloc(0) },
  { line: 'POST /v2/models/tcn_encoder/infer', headers: [JSON_BODY], body: Buffer.from(OIP) },
  {
    line: 'POST /v2/models/tcn_encoder/infer',
    headers: [OCTETS, ['Inference-Header-Content-Length', String(OIP_HEAD.length)]],
    body: Buffer.concat([Buffer.from(OIP_HEAD), WINDOW]),
  },
  {
    line: 'POST /v2/models/tcn_encoder/infer',
    headers: [OCTETS, ['Inference-Header-Content-Length', '0']],
    body: WINDOW,
  },
  {
    line: 'POST /v2/models/tcn_encoder/infer',
    headers: [JSON_BODY, ['Content-Encoding', 'gzip']],
    body: gzipSync(OIP),
  },
  {
    line: 'POST /v2/models/tcn_encoder/infer',
    headers: [JSON_BODY, ['Content-Encoding', 'deflate']],
    body: deflateRawSync(OIP),
  },
  { line: 'POST /v2/repository/index', headers: [JSON_BODY], body: Buffer.from('{"ready":true}') },
  {
    line: 'POST /v2/repository/models/tcn_encoder/load',
    headers: [JSON_BODY],
    body: Buffer.from('{"parameters":{}}'),
  },
  // Nobody may, unless ALLOW_MODEL_UNLOAD says so: here it does not.
  { line: 'POST /v2/repository/models/tcn_encoder/unload', headers: [], body: Buffer.alloc(0) },
  ...[
    '/',
    '/healthz',
    '/readyz',
    '/metrics',
    '/status',
    '/docs',
    '/openapi.json',
    '/infer',
    '/stream',
    '/v2',
    '/v2/health/ready',
    '/v2/models/tcn_encoder',
    '/v2/models/tcn_encoder/config',
    '/v2/models/stats',
    '/nowhere',
  ].map(path => ({ line: `GET ${path}`, headers: [], body: Buffer.alloc(0) })),
]

const HEADER_NAMES = [
  'Accept',
  'Content-Type',
  'Content-Encoding',
  'X-Deadline-Ms',
  'X-Request-ID',
  'X-Correlation-ID',
  'Inference-Header-Content-Length',
  'Origin',
  'Expect',
  'Upgrade',
  'Sec-WebSocket-Key',
  'Connection',
]
const headerValue = fc.oneof(
  fc.string({ maxLength: 40 }).map(text => text.replace(/[^\x20-\x7e]/g, '?')),
  fc.constantFrom(
    'gzip',
    'deflate',
    'br',
    '0',
    '-1',
    '1e9',
    'NaN',
    '100-continue',
    'websocket',
    'close',
    '*/*',
  ),
  fc.nat().map(String),
)
const extraHeaders = fc.array(fc.tuple(fc.constantFrom(...HEADER_NAMES), headerValue), { maxLength: 3 })

/** Bytes, of which some are changed, cut off, repeated or put in. */
function mutated(bytes: Uint8Array, edits: readonly Edit[]): Uint8Array {
  let result = Buffer.from(bytes)
  for (const { kind, at, value } of edits) {
    const place = Math.floor(at * result.length)
    if (kind === 'set' && result.length > 0) result[place % result.length] = value[0] ?? 0
    else if (kind === 'cut') result = result.subarray(0, place)
    else if (kind === 'repeat')
      result = Buffer.concat([result.subarray(0, place), result.subarray(place / 2)])
    else if (kind === 'insert')
      result = Buffer.concat([result.subarray(0, place), value, result.subarray(place)])
  }
  return result
}
interface Edit {
  readonly kind: 'set' | 'cut' | 'repeat' | 'insert'
  readonly at: number
  readonly value: Uint8Array
}
const edits = fc.array(
  fc.record<Edit>({
    kind: fc.constantFrom('set', 'set', 'insert', 'cut', 'repeat'),
    at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    value: fc.uint8Array({ minLength: 1, maxLength: 12 }),
  }),
  { maxLength: 4 },
)
/** Where the client connects, how the bytes are cut into segments, and whether it waits for its answers. */
const delivery = fc.record({
  segmentBytes: fc.constantFrom(1_000_000, 100_000, 4096, 1448, 37),
  hangsUp: fc.boolean(),
  overSocket: fc.constantFrom(false, false, true),
})
type Delivery = typeof delivery extends fc.Arbitrary<infer How> ? How : never

test('whatever is sent over HTTP: no crash, no slot lost, and every error has its shape', {
  timeout: SECONDS * 1000 + 30_000,
}, async () => {
  const message = fc.record({
    request: fc.constantFrom(...GOOD),
    extraHeaders,
    bodyEdits: edits,
    framing: fc.constantFrom('length', 'length', 'length', 'chunked', 'too short', 'too long', 'none'),
    wireEdits: fc.oneof({ weight: 4, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: edits }),
  })
  await holds(
    fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 3 }), delivery, async (messages, how) => {
      const wire = messages.map(({ request, extraHeaders, bodyEdits, framing, wireEdits }) =>
        mutated(onWire(request, extraHeaders, mutated(request.body, bodyEdits), framing), wireEdits),
      )
      const received = await exchange(Buffer.concat(wire), how, messages.length)
      for (const answer of answersIn(received)) expectTyped(answer)
    }),
  )
})

test('whatever is sent over a stream: no crash, no slot lost', {
  timeout: SECONDS * 1000 + 30_000,
}, async () => {
  const hello = encodeFrame('hello', { version: 1, mode: 0, hop: 50, first: 0 })
  const samplesHello = encodeFrame('hello', { version: 1, mode: 1, hop: 7, first: 0 })
  const frames = [
    hello,
    samplesHello,
    encodeFrame('window', { sequence: 1, deadlineMs: 0 }, WINDOW),
    encodeFrame('window', { sequence: 2, deadlineMs: 5 }, WINDOW),
    encodeFrame('samples', { index: 0 }, SEVERAL.subarray(0, 36 * 150)),
    encodeFrame('samples', { index: 400 }, SEVERAL.subarray(0, 36 * 150)),
    encodeFrame('cancel', { sequence: 1 }),
    encodeFrame('bye', {}),
    ...[
      '{"type":"hello","version":1,"mode":"windows"}',
      '{"type":"hello","version":1,"mode":"samples","hop":10}',
      JSON.stringify({ type: 'window', seq: 1, x: rowsOf(windowOf(4)) }),
      JSON.stringify({ type: 'samples', index: 3, samples: rowsOf(windowOf(4)) }),
      '{"type":"cancel","seq":1}',
    ].map(text => Buffer.from(text)),
  ]
  const opening = fc.constantFrom(hello, samplesHello, frames[8]!, frames[9]!, Buffer.from('x'))
  const frame = fc.record({
    payload: fc.oneof(
      fc.tuple(fc.constantFrom(...frames), edits).map(([bytes, edits]) => mutated(bytes, edits)),
      fc.uint8Array({ maxLength: 200 }),
    ),
    opcode: fc.constantFrom(1, 2, 2, 2, 0, 8, 9, 10, 5),
    wireEdits: fc.oneof({ weight: 6, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: edits }),
  })
  await holds(
    fc.asyncProperty(opening, fc.array(frame, { maxLength: 12 }), delivery, async (first, rest, how) => {
      const isText = first[0] === 0x7b
      const wire = [
        UPGRADE,
        wireOf(first, { opcode: isText ? 1 : 2 }),
        ...rest.map(({ payload, opcode, wireEdits }) =>
          mutated(wireOf(payload, { opcode: isText && opcode === 2 ? 1 : opcode }), wireEdits),
        ),
      ]
      await exchange(Buffer.concat(wire), how)
    }),
  )
})

/** Runs the property as often as the time allows, then asks for what must still be true of the server. */
async function holds<Case extends [unknown, ...unknown[]]>(
  property: fc.IAsyncPropertyWithHooks<Case>,
): Promise<void> {
  let cases = 0
  await fc.assert(
    property.afterEach(() => {
      cases++
      expect(server.process.exitCode).toBeNull()
    }),
    { seed: SEED, numRuns: 1_000_000, interruptAfterTimeLimit: SECONDS * 1000 },
  )
  console.log(`fuzz: ${cases} inputs tried`)
  await until(async () => (await metric(server.port, 'hailo_queue_depth')) === 0)
  expect(await metric(server.port, 'hailo_inference_errors_total', 'internal_error')).toBe(0)
  expect(await metric(server.port, 'hailo_worker_restarts_total')).toBe(0)
  expect(String((await postWindow(server, windowOf(0), PATIENT)).body)).toBe(golden)
}

const UPGRADE = Buffer.from(
  'GET /stream HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
    'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
)

function onWire(
  { line, headers }: Request,
  extra: readonly (readonly [string, string])[],
  body: Uint8Array,
  framing: string,
): Buffer {
  const lines = [...headers, ...extra].map(([name, value]) => `${name}: ${value}\r\n`)
  const declared = { length: body.length, 'too short': body.length >> 1, 'too long': body.length + 50 }[
    framing
  ]
  if (declared !== undefined) lines.push(`Content-Length: ${declared}\r\n`)
  if (framing === 'chunked') lines.push('Transfer-Encoding: chunked\r\n')
  const head = Buffer.from(`${line} HTTP/1.1\r\nHost: test\r\n${lines.join('')}\r\n`)
  if (framing !== 'chunked') return Buffer.concat([head, body])
  const chunks: Buffer[] = [head]
  for (let at = 0; at < body.length; at += 1000) {
    const chunk = body.subarray(at, at + 1000)
    chunks.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), Buffer.from(chunk), Buffer.from('\r\n'))
  }
  return Buffer.concat([...chunks, Buffer.from('0\r\n\r\n')])
}

/** Sends it all, and gives back what has come when the server closes, has answered all, or is silent. */
async function exchange(
  wire: Buffer,
  { segmentBytes, hangsUp, overSocket }: Delivery,
  answers = Number.POSITIVE_INFINITY,
): Promise<Buffer> {
  const socket = connect(
    overSocket ? { path: SOCKET_PATH } : { port: server.port, host: '127.0.0.1', noDelay: true },
  )
  const received: Buffer[] = []
  let isAnswered = () => {}
  const answered = new Promise<void>(resolve => {
    isAnswered = resolve
  })
  socket.on('data', bytes => {
    received.push(bytes)
    if (answersIn(Buffer.concat(received)).length >= answers) isAnswered()
  })
  socket.on('error', () => {})
  const closed = once(socket, 'close').catch(() => {})
  await once(socket, 'connect')
  const segments = Math.min(50, Math.ceil(wire.length / segmentBytes))
  for (let segment = 0; segment < segments && !socket.destroyed; segment++) {
    const end = segment === segments - 1 ? wire.length : (segment + 1) * segmentBytes
    socket.write(wire.subarray(segment * segmentBytes, end))
    if (segments > 1) await new Promise(resolve => setImmediate(resolve))
  }
  if (!hangsUp) await Promise.race([closed, answered, sleep(SILENT_MS)])
  socket.destroy()
  return Buffer.concat(received)
}

interface Received {
  readonly status: number
  readonly headers: Map<string, string>
  readonly body: Buffer
}

/** The whole answers in what came. uWebSockets' own, for what is no HTTP, end it without a Content-Length. */
function answersIn(received: Buffer): Received[] {
  const answers: Received[] = []
  let at = 0
  while (true) {
    const headEnd = received.indexOf('\r\n\r\n', at)
    if (headEnd === -1) return answers
    const [statusLine, ...lines] = received.toString('latin1', at, headEnd).split('\r\n')
    const status = Number(statusLine!.split(' ')[1])
    const headers = new Map(
      lines.map(line => [line.split(':')[0]!.toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    )
    at = headEnd + 4
    if (status === 100) continue
    const length = status === 101 ? 0 : Number(headers.get('content-length') ?? received.length - at)
    if (at + length > received.length) return answers
    answers.push({ status, headers, body: received.subarray(at, at + length) })
    at += length
    if (status === 101) return answers
  }
}

function expectTyped({ status, headers, body }: Received): void {
  // Bytes that are no HTTP, behind a request whose answer is being written: uWebSockets puts its page into our head.
  if ([...headers.keys()].some(name => /^http\/1\.1 (400|431|505) /.test(name))) return
  if (headers.get('x-request-id') === undefined) return expectOfUWebSockets({ status, headers, body })
  expect([101, 200, 400, 401, 403, 404, 405, 409, 413, 415, 426, 429, 503, 504]).toContain(status)
  if (status === 101 || status === 200) return
  const json = JSON.parse(String(body))
  expect(json.error).toMatch(/./)
  if ('detail' in json)
    expect(json).toMatchObject({ detail: expect.stringMatching(/./), request_id: expect.any(String) })
}

/** What is no HTTP never reaches us: uWebSockets refuses it in a page of its own, and closes. */
function expectOfUWebSockets({ status, headers, body }: Received): void {
  expect([400, 431, 505]).toContain(status)
  expect([...headers.keys()].filter(name => name !== 'connection')).toEqual([])
  expect(String(body)).toMatch(/^(<h1>.*)?$/s)
}
