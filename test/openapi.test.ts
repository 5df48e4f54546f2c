import uWebSockets, { type TemplatedApp } from 'uWebSockets.js'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { z } from 'zod'
import { loadConfig } from '../src/config.ts'
import { CHANNELS, parseWindow, SENSORS, TIMESTEPS, WINDOW_BYTES, WINDOW_VALUES } from '../src/core/window.ts'
import type { Engine } from '../src/engine/engine.ts'
import { openApiOf } from '../src/http/openapi.ts'
import { MEANINGS } from '../src/http/openapi-parts.ts'
import { type ErrorCode, REPLY } from '../src/http/reply.ts'
import { WindowSchema } from '../src/http/schema.ts'
import { FrontDoor } from '../src/http/server.ts'
import type { FrontDoorMetrics, Service } from '../src/http/service.ts'
import { loadModel } from '../src/model.ts'
import { PROJECT_FOLDER, VERSION } from '../src/project.ts'
import { ServedModels } from '../src/served-models.ts'
import { FAULTS } from './faults/faults.ts'
import {
  type Answer,
  ask,
  bytesOf,
  Connection,
  headOf,
  JSON_TYPE,
  OCTET_STREAM,
  rowsOf,
} from './http-client.ts'
import { startFaultyServer, startServerForTest, until, untilInFlight } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { binaryRequestOf, HEADER_LENGTH, jsonRequestOf, MODEL } from './v2.ts'
import { windowOf } from './windows.ts'
import { WebSocketClient } from './ws-client.ts'

const PROBLEM = 'application/problem+json'
const OPENMETRICS = 'application/openmetrics-text; version=1.0.0'
const CODES = Object.keys(REPLY) as ErrorCode[]

let server: TestServer
/** Wants a key, has no model of its own, gives eight scores and lets its model be unloaded. */
let guarded: TestServer
let document: Document
let guardedDocument: Document
beforeAll(async () => {
  const patient = { WORKERS: '1', DEADLINE_MS: '2000', MAX_WINDOWS_PER_REQUEST: '100' }
  const started = await Promise.all([
    startServer(patient),
    startServer({
      ...patient,
      INFER_MODE: 'stub',
      NUM_MOTIFS: '8',
      API_KEY: 'alpha',
      ENABLE_TEST_ENDPOINTS: 'false',
      ALLOW_MODEL_UNLOAD: 'true',
    }),
  ])
  ;[server, guarded] = started
  document = (await ask(server, 'GET /openapi.json')).json
  guardedDocument = (await ask(guarded, 'GET /openapi.json')).json
})
afterAll(() => Promise.all([server, guarded].map(each => each.stop())))

test('GET /openapi.json is OpenAPI 3.1 of this version, and all that it refers to is in it', () => {
  expect(document.openapi).toMatch(/^3\.1\./)
  expect(document.info.version).toBe(VERSION)
  expect(document.servers).toEqual([{ url: '/' }])
  const text = JSON.stringify(document)
  const references = [...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, reference]) => reference!)
  expect(references.length).toBeGreaterThan(50)
  for (const reference of references) expect(resolved({ $ref: reference }), reference).toBeDefined()
  const operations = Object.values(document.paths).flatMap(path => Object.values(path))
  const ids = operations.map(({ operationId }) => operationId)
  expect(new Set(ids).size).toBe(ids.length)
})

test('every route that the front door registers is in the document, and every other way round', async () => {
  const { routes, documented } = await registeredRoutes({})
  for (const route of ['POST /infer', 'GET /stream', 'POST /v2/models/{model}/versions/{version}/infer']) {
    expect(routes).toContain(route)
  }
  expect(documented.sort()).toEqual(routes.sort())
})

test('ENABLE_TEST_ENDPOINTS=false takes POST /test out of the document too', async () => {
  const { routes, documented } = await registeredRoutes({ ENABLE_TEST_ENDPOINTS: 'false' })
  expect(routes).not.toContain('POST /test')
  expect(documented.sort()).toEqual(routes.sort())
})

test('the document tells every error code, and with which status it comes', () => {
  /** By a code in the body; or, where the body is the text of /v2, by what the code means. */
  const told = { codes: new Set<string>(), meanings: new Set<string>() }
  for (const [route, status, { description, content = {} }] of responsesOf(guardedDocument)) {
    const schema = content[JSON_TYPE]?.schema
    for (const code of (schema?.allOf?.[1]?.properties?.error?.enum ?? []) as ErrorCode[]) {
      // A stream refuses connections, not windows: whoever comes back later may get in.
      const overfull = code === 'overloaded' && ['GET /stream', 'GET /ws/v1/analysis'].includes(route)
      expect(status, `${route} ${code}`).toBe(overfull ? 503 : REPLY[code].http)
      expect(description).toContain(`\`${code}\`: `)
      told.codes.add(code)
    }
    if (schema?.$ref !== '#/components/schemas/V2Error') continue
    const meant = CODES.filter(code => description.includes(MEANINGS[code]))
    expect(meant, `${route} ${status}: ${description}`).not.toEqual([])
    for (const code of meant) {
      expect(status, `${route} ${code}`).toBe(REPLY[code].http)
      told.meanings.add(code)
    }
  }
  const ofV2Alone = ['unload_not_allowed', 'model_refused']
  expect(CODES.filter(code => !told.codes.has(code))).toEqual(ofV2Alone)
  for (const code of ofV2Alone) expect(told.meanings).toContain(code)
})

test('a key is asked for in the document where the server asks for one, and nowhere else', async () => {
  expect(JSON.stringify(document.paths)).not.toContain('"security"')
  for (const [path, operations] of Object.entries(guardedDocument.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const route = `${method.toUpperCase()} ${path}`
      const { status } = await ask(guarded, filledIn(route, guardedDocument))
      expect(operation.security, route).toEqual(status === 401 ? [{ apiKey: [] }, { bearer: [] }] : undefined)
      expect('401' in operation.responses, route).toBe(status === 401)
    }
  }
  expect(Object.keys(guardedDocument.components.securitySchemes)).toEqual(['apiKey', 'bearer'])
})

const { SEED = Date.now() % 2 ** 31 } = process.env
test(`WindowSchema, and what the document makes of it, take the windows that parseWindow() takes (SEED=${SEED})`, () => {
  const random = randomFrom(Number(SEED))
  const target = new Float32Array(WINDOW_VALUES)
  const inDocument = schemaOf({ $ref: '#/components/schemas/Window' }, document)
  let taken = 0
  for (let round = 0; round < 3000; round++) {
    const rows = mutated(rowsOf(windowOf(round % 64)), random)
    const good = parseWindow(rows, target) === null
    if (good) taken++
    expect(WindowSchema.safeParse(rows).success, `round ${round} of SEED=${SEED}`).toBe(good)
    expect(inDocument.safeParse(rows).success, `round ${round} of SEED=${SEED}`).toBe(good)
  }
  // Both kinds come up often, whatever the seed.
  expect(taken).toBeGreaterThan(500)
  expect(taken).toBeLessThan(2500)
})

test('every example of a request in the document is answered 200', async () => {
  let tried = 0
  for (const [path, { post }] of Object.entries(document.paths)) {
    const json = post?.requestBody?.content[JSON_TYPE]
    for (const { value } of Object.values(json?.examples ?? {})) {
      tried++
      expect(schemaOf(json!.schema!, document).safeParse(value).error, path).toBeUndefined()
      const route = filledIn(`POST ${path}`, document)
      const { status } = await ask(server, route, { body: JSON.stringify(value) })
      expect(status, path).toBe(200)
    }
  }
  expect(tried).toBe(6)
})

const ROWS = rowsOf(windowOf(0))
const BAD = ROWS.slice(1)
const ONE = JSON.stringify({ x: ROWS })
const SEVERAL = JSON.stringify({ windows: [ROWS, BAD, ROWS] })
const BINARY = { 'Content-Type': OCTET_STREAM }
/** Both windows have a result but the one between them: its first value is no number. */
const SEVERAL_BYTES = Buffer.concat([windowOf(0), windowOf(1), windowOf(2)].map(bytesOf))
SEVERAL_BYTES.writeFloatLE(Number.NaN, WINDOW_BYTES)
const UPGRADE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
  'Sec-WebSocket-Version': '13',
}
const REPOSITORY = '/v2/repository/models/tcn_encoder'
const TWO = [windowOf(0), windowOf(1)]
/** Both outputs in binary; the scores alone, and latents beside them as JSON. */
const IN_BINARY = { parameters: { binary_data_output: true } }
const IN_BOTH = {
  outputs: [{ name: 'motif_scores', parameters: { binary_data: true } }, { name: 'latent' }],
}
const GZIPPED = binaryRequestOf(TWO, { id: '7' })

type Ask = { headers?: Record<string, string>; body?: string | Uint8Array }
const ASKED: [route: string, status: number, asked?: Ask][] = [
  ...['/infer', '/infer/infer', '/'].flatMap((path): [string, number, Ask?][] => [
    [`POST ${path}`, 200, { body: ONE }],
    [`POST ${path}`, 200, { body: ONE, headers: { Accept: OCTET_STREAM, 'X-Correlation-ID': 'walk-7' } }],
    [`POST ${path}`, 200, { body: bytesOf(windowOf(0)), headers: BINARY }],
    [`POST ${path}`, 200, { body: SEVERAL }],
    [`POST ${path}`, 200, { body: SEVERAL, headers: { Accept: OCTET_STREAM } }],
    [`POST ${path}`, 200, { body: SEVERAL_BYTES, headers: BINARY }],
    [`POST ${path}`, 200, { body: SEVERAL_BYTES, headers: { ...BINARY, Accept: OCTET_STREAM } }],
    [`POST ${path}`, 400, { body: JSON.stringify({ windows: [BAD, BAD] }) }],
    [`POST ${path}`, 400, { body: '{}' }],
    [`POST ${path}`, 400, { body: ONE, headers: { 'X-Deadline-Ms': 'soon' } }],
    [`POST ${path}`, 413, { body: Buffer.alloc(101 * WINDOW_BYTES), headers: BINARY }],
    [`POST ${path}`, 415, { body: ONE, headers: { 'Content-Type': 'text/plain' } }],
    [`PUT ${path}`, 405],
  ]),
  ['POST /encode', 200, { body: ONE }],
  ['POST /encode', 400, { body: '{}' }],
  ['POST /encode', 413, { body: ' '.repeat(300_000) }],
  ['POST /encode', 415, { body: ONE, headers: { 'Content-Type': 'text/plain' } }],
  ['GET /encode', 405],
  ['POST /test', 200],
  ['POST /test', 400, { headers: { 'X-Deadline-Ms': '0' } }],
  ['POST /test', 413, { body: ' '.repeat(300_000) }],
  ...['/healthz', '/readyz', '/status', '/live', '/', '/metrics', '/docs', '/openapi.json'].flatMap(
    (path): [string, number, Ask?][] => [
      [`GET ${path}`, 200],
      [`HEAD ${path}`, 200],
    ],
  ),
  ['GET /metrics', 200, { headers: { Accept: OPENMETRICS } }],
  ['GET /', 200, { headers: { Accept: 'text/html,*/*;q=0.8' } }],
  ['GET /live?after=0', 200],
  ['GET /live?after=now', 400],
  ...['/stream', '/ws/v1/analysis'].flatMap((path): [string, number, Ask?][] => [
    [`GET ${path}`, 426],
    [`HEAD ${path}`, 426],
    [`GET ${path}`, 426, { headers: { ...UPGRADE, 'Sec-WebSocket-Version': '8' } }],
    [`GET ${path}`, 403, { headers: { ...UPGRADE, Origin: 'https://cats.example' } }],
    [`POST ${path}`, 405],
  ]),
  ...['/v2', '/v2/health/live', '/v2/health/ready', '/v2/models/stats'].flatMap(
    (path): [string, number, Ask?][] => [
      [`GET ${path}`, 200],
      [`HEAD ${path}`, 405],
      [`POST ${path}`, 405],
    ],
  ),
  ...[MODEL, `${MODEL}/versions/1.0.0`].flatMap((path): [string, number, Ask?][] => [
    ...['', '/ready', '/config', '/stats'].flatMap((page): [string, number, Ask?][] => [
      [`GET ${path}${page}`, 200],
      [`GET ${path.replace('tcn', 'cnn')}${page}`, 404],
      [`DELETE ${path}${page}`, 405],
    ]),
    [`POST ${path}/infer`, 200, { body: jsonRequestOf(TWO) }],
    [`POST ${path}/infer`, 200, { body: jsonRequestOf(TWO, { id: '7', ...IN_BOTH }) }],
    [`POST ${path}/infer`, 200, binaryRequestOf(TWO, IN_BINARY)],
    [`POST ${path}/infer`, 200, { body: bytesOf(windowOf(0)), headers: { [HEADER_LENGTH]: '0' } }],
    [
      `POST ${path}/infer`,
      200,
      {
        body: gzipSync(GZIPPED.body),
        headers: { ...GZIPPED.headers, 'Content-Encoding': 'gzip', 'X-Correlation-ID': 'walk-7' },
      },
    ],
    [`POST ${path}/infer`, 400, { body: '{}' }],
    [`POST ${path}/infer`, 400, { body: bytesOf(windowOf(0)), headers: { [HEADER_LENGTH]: 'all' } }],
    [`POST ${path}/infer`, 400, { body: jsonRequestOf(TWO), headers: { 'X-Deadline-Ms': 'soon' } }],
    [`POST ${path.replace('tcn', 'cnn')}/infer`, 404, { body: jsonRequestOf(TWO) }],
    [`POST ${path}/infer`, 403, { headers: { Origin: 'https://cats.example' } }],
    [`GET ${path}/infer`, 405],
    [`POST ${path}/infer`, 413, { body: Buffer.alloc(4 * 1024 * 1024 + 1) }],
    [`POST ${path}/infer`, 415, { body: jsonRequestOf(TWO), headers: { 'Content-Encoding': 'br' } }],
    [`POST ${path}/infer`, 504, { body: jsonRequestOf(TWO, { parameters: { timeout: 1 } }) }],
  ]),
  [`GET ${MODEL}/versions/0`, 404],
  ['POST /v2/repository/index', 200],
  ['POST /v2/repository/index', 200, { body: '{"ready":true}' }],
  ...['/v2/repository/index', `${REPOSITORY}/load`, `${REPOSITORY}/unload`].flatMap(
    (path): [string, number, Ask?][] => [
      [`POST ${path}`, 400, { body: 'no JSON' }],
      [`POST ${path}`, 403, { headers: { Origin: 'https://cats.example' } }],
      [`GET ${path}`, 405],
      [`POST ${path}`, 413, { body: ' '.repeat(100_000) }],
    ],
  ),
  [`POST ${REPOSITORY}/load`, 200],
  [`POST ${REPOSITORY}/load`, 400, { body: '{"parameters":{"config":"{}"}}' }],
  [`POST ${REPOSITORY}/unload`, 409],
  ['POST /v2/repository/models/dog/load', 404],
  ['POST /v2/repository/models/dog/unload', 404],
  ['GET /v2/nowhere', 404],
  ['DELETE /healthz', 405],
  ['GET /nowhere', 404],
]

test.each(ASKED)('%s is answered %d as the document says (%#)', async (route, status, asked) => {
  const answer = await ask(server, route, asked)
  expect(answer.status).toBe(status)
  expectAsDocumented(route, answer, document)
  if (status < 400) return
  const problem = await ask(server, route, { ...asked, headers: { ...asked?.headers, Accept: PROBLEM } })
  expect(problem.headers['content-type']).toBe(isOfV2(route) ? JSON_TYPE : PROBLEM)
  expectAsDocumented(route, problem, document)
})

test('every answer that the document knows of /v2 and of the streams was given above, but for those below', () => {
  const given = new Set(ASKED.map(([route, status]) => `${templateOf(route, document)} ${status}`))
  const known = responsesOf(document).map(([route, status]) => `${route} ${status}`)
  const missing = known.filter(answer => / \/(v2|stream|ws)/.test(answer) && !given.has(answer))
  const infer = ['/v2/models/{model}/infer', '/v2/models/{model}/versions/{version}/infer']
  const ready = [
    '/v2/health/ready',
    '/v2/models/{model}/ready',
    '/v2/models/{model}/versions/{version}/ready',
  ]
  expect(missing.sort()).toEqual(
    [
      ...infer.flatMap(path => [429, 503].map(status => `POST ${path} ${status}`)),
      ...ready.map(path => `GET ${path} 503`),
      ...['/stream', '/ws/v1/analysis'].flatMap(path => [101, 503].map(status => `GET ${path} ${status}`)),
      ...[409, 503].map(status => `POST /v2/repository/models/{model}/load ${status}`),
      'POST /v2/repository/models/{model}/unload 200',
    ].sort(),
  )
})

test.each(['/stream', '/ws/v1/analysis'])('GET %s upgrades as the document says', async path => {
  const headers = { 'Sec-WebSocket-Protocol': 'hailo.v1' }
  for (const options of [{ path }, { path, headers }]) {
    const client = await WebSocketClient.open(server, options)
    expect(client.status).toBe(101)
    expectAsDocumented(`GET ${path}`, { ...client, body: Buffer.alloc(0) }, document)
  }
})

test.each(['/stream', '/ws/v1/analysis'])(
  'GET %s is refused as the document says when all connections are taken',
  async path => {
    const full = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1', WS_MAX_CONNECTIONS: '1' })
    await WebSocketClient.open(full, { path })
    const refused = await ask(full, `GET ${path}`, { headers: UPGRADE })
    expect([refused.status, refused.json.error]).toEqual([503, 'overloaded'])
    expectAsDocumented(`GET ${path}`, refused, (await ask(full, 'GET /openapi.json')).json)
  },
)

test('a model that was unloaded is told of as the document says', async () => {
  const headers = { 'X-API-Key': 'alpha' }
  const version = filledIn('/v2/models/{model}/versions/{version}', guardedDocument)
  const asked = async (route: string, status: number, body = '') => {
    const answer = await ask(guarded, route, { headers, body })
    expect(answer.status, route).toBe(status)
    expectAsDocumented(route, answer, guardedDocument)
    return answer
  }
  await asked(`POST ${REPOSITORY}/unload`, 200)
  for (const path of ['/v2/health/ready', `${MODEL}/ready`, `${version}/ready`])
    await asked(`GET ${path}`, 503)
  for (const path of [MODEL, version]) await asked(`POST ${path}/infer`, 503, jsonRequestOf(TWO))
  expect((await asked('POST /v2/repository/index', 200)).json[0].state).toBe('UNAVAILABLE')
  await asked(`POST ${REPOSITORY}/load`, 200)
  for (const path of ['/v2/health/ready', `${MODEL}/ready`, `${version}/ready`])
    await asked(`GET ${path}`, 200)
  for (const path of [MODEL, version]) await asked(`POST ${path}/infer`, 200, jsonRequestOf(TWO))
})

test('a server that wants a key and gives eight scores answers as its own document says', async () => {
  const headers = { 'X-API-Key': 'alpha' }
  for (const [route, asked] of [
    ['POST /infer', { body: ONE, headers }],
    ['POST /infer', { body: ONE }],
    ['POST /encode', { body: ONE, headers }],
    ['GET /status', { headers }],
    ['GET /status', {}],
    ['GET /', { headers }],
    ['GET /healthz', {}],
    ['GET /stream', {}],
    ['GET /stream', { headers: UPGRADE }],
    ['GET /v2', {}],
    ['GET /v2', { headers }],
    [`GET ${MODEL}/config`, { headers }],
    [`POST ${MODEL}/infer`, {}],
    [`POST ${MODEL}/infer`, { headers, body: jsonRequestOf(TWO) }],
    ['POST /v2/repository/index', {}],
  ] as [string, Ask][]) {
    expectAsDocumented(route, await ask(guarded, route, asked), guardedDocument)
  }
})

test.each(['/infer', `${MODEL}/infer`])(
  'refusals, losses and lateness of POST %s are answered as the document says',
  async path => {
    const faulty = await startFaultyServer({ RING_SLOTS: '2' })
    const { json } = await ask(faulty, 'GET /openapi.json')
    const order = async (ax: number, headers = {}) => {
      const window = windowOf(0).slice().fill(ax, 0, 1)
      const answer = await ask(faulty, `POST ${path}`, {
        body: bytesOf(window),
        headers: { ...BINARY, [HEADER_LENGTH]: '0', ...headers },
      })
      expectAsDocumented(`POST ${path}`, answer, json)
      return [answer.status, answer.status === 200 ? 'ok' : answer.json.error]
    }
    /** /v2 tells no code. */
    const told = (code: string) => (isOfV2(path) ? expect.stringMatching(/ /) : code)
    const holding = await faulty.hold()
    const late = order(0, { 'X-Deadline-Ms': '1000' })
    await untilInFlight(faulty.port, 2)
    expect(await order(0)).toEqual([429, told('overloaded')])
    expect(await late).toEqual([504, told('deadline_exceeded')])
    faulty.release()
    expect((await holding.answer).status).toBe(200)
    for (const page of ['/readyz', '/v2/health/ready']) {
      // Again where the next worker serves before the page is asked for.
      await until(async () => {
        expect(await order(FAULTS.exit)).toEqual([503, told('model_unavailable')])
        const readiness = await ask(faulty, `GET ${page}`)
        expectAsDocumented(`GET ${page}`, readiness, json)
        return readiness.status === 503
      })
    }

    await until(async () => (await ask(faulty, 'GET /readyz')).status === 200)
    const last = (await faulty.hold()).answer
    faulty.process.kill()
    await until(async () => (await ask(faulty, 'GET /readyz')).status === 503)
    expect(await order(0)).toEqual([503, told('draining')])
    for (const [page, headers] of [
      ['/v2/health/ready', {}],
      ['/stream', UPGRADE],
    ] as const) {
      const refused = await ask(faulty, `GET ${page}`, { headers })
      expect(refused.status).toBe(503)
      expectAsDocumented(`GET ${page}`, refused, json)
    }
    faulty.release()
    expect((await last).status).toBe(200)
  },
)

test('GET /docs and what it loads come from this server alone, and work without a script in the page', async () => {
  const page = await ask(server, 'GET /docs')
  const html = String(page.body)
  expect(page.headers['content-type']).toBe('text/html; charset=utf-8')
  expect(page.headers['content-security-policy']).toMatch(
    /^default-src 'self'; style-src 'self' 'unsafe-inline'; /,
  )
  expect(page.headers['content-security-policy']).not.toContain('script-src')
  expect(html).not.toMatch(/\/\/|<script>|\son\w+=/)
  const loaded = [...html.matchAll(/(?:src|href)="(?!data:)([^"]+)"/g)].map(([, address]) => address!)
  expect(loaded).toEqual(['docs/swagger-ui.css', 'docs/swagger-ui-bundle.js', 'docs/start.js'])
  for (const address of loaded) {
    const part = await ask(server, `GET /${address}`)
    expect(part.status, address).toBe(200)
    expect(part.headers['content-type']).toMatch(address.endsWith('css') ? /^text\/css/ : /^text\/javascript/)
    expect(part.headers['x-content-type-options']).toBe('nosniff')
    expect(part.headers['cache-control']).toBeDefined()
  }
  const start = String((await ask(server, 'GET /docs/start.js')).body)
  expect(start).toMatch(/url: 'openapi.json'/)
  expect(start).toMatch(/validatorUrl: null/)
  // The very bytes of the library, of which uWebSockets sends as many at a time as the reader takes.
  const library = createRequire(join(PROJECT_FOLDER, 'dist/src/http/')).resolve(
    'swagger-ui-dist/swagger-ui-bundle.js',
  )
  expect((await ask(server, 'GET /docs/swagger-ui-bundle.js')).body.equals(readFileSync(library))).toBe(true)
  expect((await ask(guarded, 'GET /docs')).status).toBe(200)
})

test.each([
  '/docs/',
  '/docs/package.json',
  '/docs/swagger-ui.css/',
  '/docs/../package.json',
  '/docs/..%2fpackage.json',
  '/docs/%2e%2e/%2e%2e/package.json',
  '/docs//etc/passwd',
])('GET %s is no file', async path => {
  const connection = await Connection.open(server)
  connection.send(headOf(`GET ${path}`))
  expect((await connection.answer()).status).toBe(404)
})

/** What the tests need to know of an OpenAPI document. */
interface Document {
  readonly openapi: string
  readonly info: { readonly version: string }
  readonly servers: unknown
  readonly paths: Record<string, Record<string, DocumentedOperation>>
  readonly components: {
    readonly schemas: Record<string, JsonSchema>
    readonly headers: Record<string, Header>
    readonly responses: Record<string, DocumentedResponse>
    readonly securitySchemes: object
  }
}
interface DocumentedOperation {
  readonly operationId: string
  readonly security?: unknown
  readonly parameters?: { name: string; in: string; required: boolean; schema: JsonSchema }[]
  readonly requestBody?: { readonly content: Content }
  readonly responses: Record<string, DocumentedResponse>
}
interface DocumentedResponse {
  readonly description: string
  readonly headers?: Record<string, { $ref: string }>
  readonly content?: Content
}
type Content = Record<string, { schema?: JsonSchema; examples?: Record<string, { value: unknown }> }>
type Header = { required: boolean; schema: JsonSchema }
// biome-ignore lint/suspicious/noExplicitAny: a JSON Schema may be anything, and is read by zod
type JsonSchema = any

/** Holds status, headers, type and body of an answer against what the document says of the route. */
function expectAsDocumented(
  route: string,
  { status, headers, body }: Pick<Answer, 'status' | 'headers' | 'body'>,
  document: Document,
): void {
  const response = responseOf(route, status, document)
  expect(response, `${route} is answered ${status}, which the document does not know`).toBeDefined()

  for (const [name, reference] of Object.entries(response!.headers ?? {})) {
    const { required, schema } = resolved(reference, document) as Header
    const value = headers[name.toLowerCase()]
    if (value === undefined) expect(required, `${route} ${status} lacks ${name}`).toBe(false)
    else expect(schemaOf(schema, document).safeParse(value).error, `${name}: ${value}`).toBeUndefined()
  }
  for (const name of ['allow', 'retry-after', 'www-authenticate', HEADER_LENGTH.toLowerCase()]) {
    const known = Object.keys(response!.headers ?? {}).some(header => header.toLowerCase() === name)
    if (headers[name] !== undefined) expect(known, `${route} ${status} has ${name}`).toBe(true)
  }
  if (route.startsWith('HEAD') || response!.content === undefined) return expect(body).toHaveLength(0)
  const type = headers['content-type']!.split(';')[0]!
  const content = response!.content[type]
  expect(content, `${route} ${status} is ${type}, which the document does not know`).toBeDefined()
  const jsonBytes = headers[HEADER_LENGTH.toLowerCase()]
  if (!type.endsWith('json') && jsonBytes === undefined) return
  // Binary tensors lie behind the JSON that would else be the whole body.
  const { schema } = jsonBytes === undefined ? content! : response!.content[JSON_TYPE]!
  const json = jsonBytes === undefined ? body : body.subarray(0, Number(jsonBytes))
  const { error } = schemaOf(schema, document).safeParse(JSON.parse(String(json)))
  expect(error, `${route} ${status}: ${json.subarray(0, 300)}`).toBeUndefined()
}

/** What the document says of one status; of those that a path need not tell, what it says of all paths. */
function responseOf(route: string, status: number, document: Document): DocumentedResponse | undefined {
  const [method, path] = templateOf(route, document).split(' ') as [string, string]
  const { NotFound, MethodNotAllowed, V2NotFound, V2MethodNotAllowed } = document.components.responses
  const ofAll: Record<number, DocumentedResponse | undefined> = isOfV2(route)
    ? { 404: V2NotFound, 405: V2MethodNotAllowed }
    : { 404: NotFound, 405: MethodNotAllowed }
  return document.paths[path]?.[method.toLowerCase()]?.responses[status] ?? ofAll[status]
}

/** Every response, with its route and status; those of no route alone last. */
function responsesOf({ paths, components }: Document): [route: string, status: number, DocumentedResponse][] {
  const { NotFound, MethodNotAllowed, V2NotFound, V2MethodNotAllowed } = components.responses
  return [
    ...Object.entries(paths).flatMap(([path, operations]) =>
      Object.entries(operations).flatMap(([method, { responses }]) =>
        Object.entries(responses).map(([status, response]): [string, number, DocumentedResponse] => [
          `${method.toUpperCase()} ${path}`,
          Number(status),
          response,
        ]),
      ),
    ),
    ['', 404, NotFound!],
    ['', 405, MethodNotAllowed!],
    ['', 404, V2NotFound!],
    ['', 405, V2MethodNotAllowed!],
  ]
}

function isOfV2(route: string): boolean {
  return /^(\w+ )?\/v2(\/|$)/.test(route)
}

/** The route as the document writes it: a path that is there word by word comes before one with parameters. */
function templateOf(route: string, { paths }: Document): string {
  const [method, target] = route.split(' ') as [string, string]
  const path = target.replace(/\?.*/, '')
  const fits = (template: string) => new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path)
  const template = path in paths ? path : Object.keys(paths).find(fits)
  return `${method} ${template ?? path}`
}

/** The parameters of a path have one value each, which the document tells. */
function filledIn(route: string, { paths }: Document): string {
  const path = route.split(' ').at(-1)!
  const [operation] = Object.values(paths[path]!)
  return route.replaceAll(/\{(\w+)\}/g, (_, name) => {
    const parameter = operation!.parameters!.find(each => each.in === 'path' && each.name === name)!
    expect(parameter.required).toBe(true)
    expect(parameter.schema.enum).toHaveLength(1)
    return parameter.schema.enum[0]
  })
}

/** Validates as the document says, and also that an object has no field that the document does not know. */
function schemaOf(schema: JsonSchema, document: Document): z.ZodType {
  const $defs = Object.fromEntries(
    Object.entries(document.components.schemas).map(([name, component]) => [name, closed(component)]),
  )
  const text = JSON.stringify({ ...schema, $defs })
  return z.fromJSONSchema(JSON.parse(text.replaceAll('#/components/schemas/', '#/$defs/')))
}

function closed(schema: JsonSchema): JsonSchema {
  if (typeof schema !== 'object' || schema === null) return schema
  if (Array.isArray(schema)) return schema.map(closed)
  const parts = Object.fromEntries(Object.entries(schema).map(([key, part]) => [key, closed(part)]))
  return schema.properties && !('additionalProperties' in schema)
    ? { ...parts, additionalProperties: false }
    : parts
}

function resolved({ $ref }: { $ref: string }, within = document): unknown {
  const keys = $ref.replace(/^#\//, '').split('/')
  return keys.reduce<unknown>((part, key) => (part as Record<string, unknown> | undefined)?.[key], within)
}

/** What is handed to uWebSockets when a front door is built, whoever hands it over, and what the document says of it. */
async function registeredRoutes(env: Record<string, string>) {
  const routes = new Set<string>()
  const { App } = uWebSockets
  vi.spyOn(uWebSockets, 'App').mockImplementation(options => {
    const app: TemplatedApp = App(options)
    for (const method of ['get', 'head', 'post', 'put', 'patch', 'del', 'ws'] as const) {
      const register = app[method] as (...route: unknown[]) => TemplatedApp
      vi.spyOn(app, method as 'get').mockImplementation((...route) => {
        const name = { ws: 'GET', del: 'DELETE' }[method as string] ?? method.toUpperCase()
        routes.add(`${name} ${route[0]}`)
        return register.apply(app, route)
      })
    }
    return app
  })
  onTestFinished(() => void vi.restoreAllMocks())

  const config = loadConfig({ INFER_MODE: 'stub', ...env })
  const models = new ServedModels(await loadModel(config), null)
  const service = { config, models, version: VERSION } as Service
  const frontDoor = new FrontDoor({ ...service, engine: {} as Engine, metrics: {} as FrontDoorMetrics })
  await frontDoor.listen('127.0.0.1', 0)
  await frontDoor.close()

  const documented = Object.entries(openApiOf(service).paths).flatMap(([path, operations]) =>
    Object.keys(operations).map(method => `${method.toUpperCase()} ${path}`),
  )
  const inDocument = [...routes]
    .map(route => route.replaceAll(/:(\w+)/g, '{$1}'))
    .filter(route => !/^\w+ \/(docs|page)\//.test(route)) // the parts of a page
  return { routes: inDocument, documented }
}

/** A window that is right, or wrong in one of many ways. */
function mutated(rows: unknown[][], random: () => number): unknown {
  const pick = <Value>(values: readonly Value[]): Value => values[Math.floor(random() * values.length)]!
  const step = Math.floor(random() * TIMESTEPS)
  const channel = Math.floor(random() * CHANNELS)
  const limit = SENSORS[Math.floor(channel / 3)]!.limit
  const sign = pick([1, -1])
  const set = (value: unknown) => {
    rows[step]![channel] = value
    return rows
  }
  return pick<() => unknown>([
    () => rows,
    () => set(sign * limit),
    () => set(sign * limit * random()),
    () => set(sign * limit * (1 + Number.EPSILON)),
    () => set(sign * (limit + random())),
    () => set(pick([0, -0, Number.MIN_VALUE])),
    () => set(pick([Number.NaN, Infinity, -Infinity, 1e308])),
    () => set(pick(['1', true, null, undefined, [1], {}, 1n])),
    () => rows.slice(pick([0, 1, 50])),
    () => [...rows, pick([rows[0], [], null])],
    () =>
      rows.with(step, pick([rows[0]!.slice(1), [...rows[0]!, 0], [], null, 7, {}] as unknown[]) as unknown[]),
    () => pick([null, undefined, [], {}, '', 900, rows.flat(), [rows], { ...rows }, Array(TIMESTEPS)]),
    () => rows.map(row => row.map(value => Number(value) * random())),
  ])()
}

/** mulberry32: numbers from 0 to 1 that are the same for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
