import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { SHIPPED_MODEL_FOLDER, VERSION } from '../src/project.ts'
import { ask, JSON_TYPE, jsonOf, OCTET_STREAM, postWindow, rowsOf } from './http-client.ts'
import { startServer, type TestServer } from './server.ts'
import { windowOf } from './windows.ts'

const MODEL_PATH = join(SHIPPED_MODEL_FOLDER, 'model_dynamic.onnx')
const MODEL_SHA256 = createHash('sha256').update(readFileSync(MODEL_PATH)).digest('hex')
const OTHER_SHA256 = 'ab'.repeat(32)
const PAGE = 'https://dogs.example'

/** Runs the shipped model. */
let server: TestServer
/** Runs the stub, with eight motifs, where the shipped model is expected. */
let stub: TestServer
/** Wants a key, lets one web page in and has no test endpoints. */
let guarded: TestServer
beforeAll(async () => {
  const patient = { WORKERS: '1', DEADLINE_MS: '2000' }
  const settings: Record<string, string>[] = [
    {},
    { INFER_MODE: 'stub', NUM_MOTIFS: '8', EXPECTED_SHA256: MODEL_SHA256 },
    { INFER_MODE: 'stub', API_KEY: 'alpha,beta', CORS_ORIGINS: PAGE, ENABLE_TEST_ENDPOINTS: 'false' },
  ]
  const started = await Promise.all(settings.map(env => startServer({ ...patient, ...env })))
  ;[server, stub, guarded] = started as [TestServer, TestServer, TestServer]
})
afterAll(() => Promise.all([server, stub, guarded].map(each => each.stop())))

test('GET /healthz tells what runs, whether it is what was expected and whether it is well', async () => {
  await postWindow(server, windowOf(0))
  const { status, headers, json } = await ask(server, 'GET /healthz')
  expect(status).toBe(200)
  expect(headers['content-type']).toBe(JSON_TYPE)
  expect(json).toEqual({
    ok: true,
    status: 'ok',
    reason: null,
    model: 'tcn-vae-motion-12',
    version: '1.0.0',
    uptime_s: expect.any(Number),
    config_version: '1',
    hef_sha256: MODEL_SHA256,
    expected_sha256: null,
    config_ok: true,
    device: 'cpu',
    mode: 'onnx',
    fallback: null,
    latency_ms: expect.any(Number),
    contract: { window_len: 100, channels: 9, latent_dims: 64, motif_classes: 12 },
    contract_compatible: true,
    level: 0,
    warm: true,
  })
  expect(json.uptime_s).toBeGreaterThan(0)
  expect(json.uptime_s).toBeLessThan(60)
  expect(json.latency_ms).toBeGreaterThan(0)
  expect(json.latency_ms).toBeLessThan(2000)
})

test.each(['/healthz', '/readyz', '/metrics', '/status', '/', '/docs', '/openapi.json'])(
  'HEAD %s is GET without the body',
  async path => {
    const { status, headers, body } = await ask(server, `HEAD ${path}`)
    expect(status).toBe(200)
    expect(body).toHaveLength(0)
    const got = await ask(server, `GET ${path}`)
    expect(headers['content-type']).toBe(got.headers['content-type'])
    expect(Number(headers['content-length'])).toBeGreaterThan(0)
  },
)

test('GET /readyz tells that clients may come', async () => {
  const { status, json } = await ask(server, 'GET /readyz')
  expect(status).toBe(200)
  expect(json).toEqual({ ready: true, reasons: [] })
})

test('GET / lists the endpoints that there are and the configuration', async () => {
  const { status, json } = await ask(server, 'GET /')
  expect(status).toBe(200)
  expect(json).toMatchObject({
    service: 'hailo-inference',
    version: VERSION,
    model_ready: true,
    config: { mode: 'onnx', model_sha256: MODEL_SHA256, workers: 1, deadline_ms: 2000, num_motifs: 12 },
  })
  expect(json.config.max_windows_per_request).toBeGreaterThan(1)
  expect(json.config.motif_labels).toHaveLength(12)
  expect(json.endpoints).toEqual({
    infer: 'POST /infer',
    encode: 'POST /encode',
    test: 'POST /test',
    health: 'GET /healthz',
    ready: 'GET /readyz',
    metrics: 'GET /metrics',
    status: 'GET /status',
    docs: 'GET /docs',
    openapi: 'GET /openapi.json',
    live: 'GET /live',
    stream: 'GET /stream',
    v2: 'GET /v2',
    v2_infer: 'POST /v2/models/tcn_encoder/infer',
  })
  for (const endpoint of Object.values<string>(json.endpoints)) {
    const { status } = await ask(server, endpoint, { body: endpoint.startsWith('GET') ? '' : '{}' })
    // 426: what a WebSocket says to those who do not ask for one.
    expect(endpoint === 'GET /stream' ? [426] : [200, 400], endpoint).toContain(status)
  }
})

test('GET /status keeps the fields of the sidecar', async () => {
  await postWindow(server, windowOf(0))
  const { status, json } = await ask(server, 'GET /status')
  expect(status).toBe(200)
  expect(json).toMatchObject({
    ready: true,
    model_name: 'tcn-vae-motion-12',
    hef_path: MODEL_PATH,
    hef_exists: true,
    hailort_available: false,
    initialization_error: null,
    num_motifs: 12,
    endpoint_status: { infer: true, encode: true, test: true },
    api_version: expect.stringMatching(/^v\d+$/),
  })
  expect(Math.abs(Date.parse(json.last_inference_time) - Date.now())).toBeLessThan(5000)
})

test.each(['imu_window', 'x'])('POST /encode answers {"%s"} with the latent of POST /infer', async key => {
  const body = JSON.stringify({ [key]: rowsOf(windowOf(1)) })
  const { status, headers, json } = await ask(server, 'POST /encode', { body })
  expect(status).toBe(200)
  expect(json).toEqual({
    latent_embedding: (await postWindow(server, windowOf(1))).json.latent,
    model_version: '1.0.0',
    accuracy: 0.9004,
  })
  expect(headers['x-inference-backend']).toBe('onnx')
})

test.each([
  ['no key', '{}', /no key "imu_window" or "x", expected/],
  ['99 rows', JSON.stringify({ imu_window: rowsOf(windowOf(1)).slice(1) }), /99 rows, expected 100/],
  ['no JSON', 'x', /not valid JSON, expected {"imu_window"/],
])('POST /encode with %s is an invalid window', async (_, body, detail) => {
  const { status, json } = await ask(server, 'POST /encode', { body })
  expect(status).toBe(400)
  expect(json.error).toBe('invalid_window')
  expect(json.detail).toMatch(detail)
})

test('POST /test runs a window of its own through the pipeline', async () => {
  const { status, headers, json } = await ask(server, 'POST /test')
  expect(status).toBe(200)
  expect(json).toEqual({
    test_status: 'success',
    latent_shape: [64],
    motif_shape: [12],
    latent_range: [expect.any(Number), expect.any(Number)],
    motif_range: [expect.any(Number), expect.any(Number)],
    inference_time_ms: expect.any(Number),
  })
  expect(json.latent_range[0]).toBeLessThan(json.latent_range[1])
  expect(json.motif_range[0]).toBeGreaterThanOrEqual(0)
  expect(json.motif_range[1]).toBeLessThanOrEqual(1)
  expect(json.inference_time_ms).toBeGreaterThan(0)
  expect(headers['x-inference-backend']).toBe('onnx')
})

test('ENABLE_TEST_ENDPOINTS=false takes POST /test away', async () => {
  const headers = { 'X-API-Key': 'alpha' }
  const { status, json } = await ask(guarded, 'POST /test', { headers })
  expect(status).toBe(404)
  expect(json.error).toBe('not_found')
  expect((await ask(guarded, 'GET /', { headers })).json.endpoints.test).toBeNull()
  expect((await ask(guarded, 'GET /status', { headers })).json.endpoint_status.test).toBe(false)
})

test.each([
  ['GET /nowhere', 404, 'not_found'],
  ['POST /infer/', 404, 'not_found'],
  ['GET /infer', 405, 'method_not_allowed', 'POST'],
  ['PUT /infer', 405, 'method_not_allowed', 'POST'],
  ['OPTIONS /infer', 405, 'method_not_allowed', 'POST'],
  ['BREW /infer/infer', 405, 'method_not_allowed', 'POST'],
  ['GET /encode', 405, 'method_not_allowed', 'POST'],
  ['GET /test', 405, 'method_not_allowed', 'POST'],
  ['POST /healthz', 405, 'method_not_allowed', 'GET, HEAD'],
  ['DELETE /readyz', 405, 'method_not_allowed', 'GET, HEAD'],
  ['POST /metrics', 405, 'method_not_allowed', 'GET, HEAD'],
  ['PATCH /status', 405, 'method_not_allowed', 'GET, HEAD'],
  ['DELETE /', 405, 'method_not_allowed', 'GET, HEAD, POST'],
  ['POST /infer', 400, 'invalid_window'],
  ['POST /encode', 400, 'invalid_window'],
] as [string, number, string, string?][])(
  '%s is answered %d %s in the shape of all errors',
  async (route, code, error, allow) => {
    const headers = { 'X-Request-ID': 'walk-7' }
    const answer = await ask(server, route, { headers })
    expect(answer.status).toBe(code)
    expect(answer.headers['content-type']).toBe(JSON_TYPE)
    expect(answer.headers['x-request-id']).toBe('walk-7')
    expect(answer.headers.allow).toBe(allow)
    const fields = { error, detail: expect.stringMatching(/./), model_available: true, request_id: 'walk-7' }
    expect(answer.json).toEqual(fields)

    const problem = await ask(server, route, { headers: { ...headers, Accept: 'application/problem+json' } })
    expect(problem.headers['content-type']).toBe('application/problem+json')
    expect(problem.json).toEqual({ type: 'about:blank', title: expect.any(String), status: code, ...fields })
  },
)

test.each([
  ['/infer', 'text/plain', 'application/json or application/octet-stream'],
  ['/infer', 'application/x-www-form-urlencoded', 'application/json or application/octet-stream'],
  ['/infer', 'application/jsonl', 'application/json or application/octet-stream'],
  ['/encode', OCTET_STREAM, 'application/json'],
])('POST %s of %s is answered 415 and told what is understood', async (path, type, understood) => {
  const answer = await ask(server, `POST ${path}`, {
    headers: { 'Content-Type': type },
    body: jsonOf(windowOf(0)),
  })
  expect(answer.status).toBe(415)
  expect(answer.json.error).toBe('unsupported_media_type')
  expect(answer.json.detail).toMatch(new RegExp(`expected ${understood}$`))
})

test.each([
  [{ 'X-API-Key': 'alpha' }, 200],
  [{ 'X-API-Key': 'beta' }, 200],
  [{ Authorization: 'Bearer beta' }, 200],
  [{ Authorization: 'bearer alpha' }, 200],
  [{}, 401],
  [{ 'X-API-Key': 'gamma' }, 401],
  [{ 'X-API-Key': 'alpha,beta' }, 401],
  [{ 'X-API-Key': '' }, 401],
  [{ Authorization: 'Bearer gamma' }, 401],
  [{ Authorization: 'Bearer' }, 401],
  [{ Authorization: 'Basic YWxwaGE6' }, 401],
  [{ Authorization: 'alpha' }, 401],
] as [Record<string, string>, number][])('with API_KEY set, %o is answered %d', async (headers, status) => {
  const answers = [
    await postWindow(guarded, windowOf(0), headers),
    await ask(guarded, 'GET /status', { headers }),
    await ask(guarded, 'GET /', { headers }),
  ]
  for (const answer of answers) {
    expect(answer.status).toBe(status)
    if (status === 200) continue
    expect(answer.json.error).toBe('unauthorized')
    expect(answer.headers['www-authenticate']).toBe('Bearer')
  }
})

test.each(['/healthz', '/readyz', '/metrics', '/docs', '/openapi.json'])(
  'with API_KEY set, GET %s needs no key',
  async path => {
    expect((await ask(guarded, `GET ${path}`)).status).toBe(200)
    expect((await ask(guarded, `HEAD ${path}`)).status).toBe(200)
  },
)

test('with API_KEY set, nobody without a key is told more of any other path', async () => {
  for (const route of ['GET /nowhere', 'GET /infer', 'POST /test']) {
    expect((await ask(guarded, route)).status, route).toBe(401)
  }
})

const WITH_KEY = { 'X-API-Key': 'alpha' }
test.each([
  ['an inference', (Origin: string) => postWindow(guarded, windowOf(0), { ...WITH_KEY, Origin })],
  ['a refusal', (Origin: string) => ask(guarded, 'POST /infer', { headers: { ...WITH_KEY, Origin } })],
  ['a page', (Origin: string) => ask(guarded, 'GET /status', { headers: { ...WITH_KEY, Origin } })],
  ['a 404', (Origin: string) => ask(guarded, 'GET /nowhere', { headers: { ...WITH_KEY, Origin } })],
])('CORS_ORIGINS lets its pages, and no others, read %s', async (_, answerTo) => {
  const allowed = await answerTo(PAGE)
  expect(allowed.headers['access-control-allow-origin']).toBe(PAGE)
  expect(allowed.headers.vary).toBe('Origin')
  const others = [
    await answerTo('https://cats.example'),
    await answerTo(`${PAGE}.evil.example`),
    await answerTo('null'),
  ]
  for (const { headers } of others) expect(headers['access-control-allow-origin']).toBeUndefined()
})

test.each(['/infer', '/encode', '/v2/models/tcn_encoder/infer', '/v2/repository/models/tcn_encoder/unload'])(
  'POST %s is refused to pages that CORS_ORIGINS does not list, before anything is done for them',
  async path => {
    const post = async (at: TestServer, origin: string) => {
      const headers = { 'Content-Type': 'text/plain', Origin: origin }
      return (await ask(at, `POST ${path}`, { headers, body: '{}' })).status
    }
    for (const origin of [PAGE, 'null', 'http://127.0.0.1:1']) expect(await post(server, origin)).toBe(403)
    expect(await post(guarded, 'https://cats.example')).toBe(403)
    expect(await post(guarded, PAGE)).toBe(401)
    expect(await post(server, `http://127.0.0.1:${server.port}`)).not.toBe(403)
  },
)

test('CORS_ORIGINS answers the preflight of its pages, which carries no key', async () => {
  const headers = {
    Origin: PAGE,
    'Access-Control-Request-Method': 'POST',
    'Access-Control-Request-Headers': 'content-type,x-api-key,x-deadline-ms',
  }
  for (const path of ['/infer', '/encode', '/status']) {
    const answer = await ask(guarded, `OPTIONS ${path}`, { headers })
    expect(answer.status).toBe(200)
    expect(answer.body).toHaveLength(0)
    expect(answer.headers['access-control-allow-origin']).toBe(PAGE)
    expect(answer.headers['access-control-allow-methods']).toMatch(/\bPOST\b/)
    for (const name of ['Content-Type', 'X-API-Key', 'Authorization', 'X-Deadline-Ms', 'X-Request-ID']) {
      expect(answer.headers['access-control-allow-headers']).toContain(name)
    }
  }
  const other = await ask(guarded, 'OPTIONS /infer', {
    headers: { ...headers, Origin: 'https://cats.example' },
  })
  expect(other.headers['access-control-allow-origin']).toBeUndefined()
})

test('without CORS_ORIGINS no page is let in', async () => {
  for (const route of ['POST /infer', 'GET /status']) {
    const { headers } = await ask(server, route, { headers: { Origin: PAGE } })
    expect(headers['access-control-allow-origin'], route).toBeUndefined()
  }
})

test('the stub says everywhere that it is one', async () => {
  const health = (await ask(stub, 'GET /healthz')).json
  expect(health).toMatchObject({ mode: 'stub', model: 'stub', hef_sha256: 'stub', device: 'none (stub)' })
  const status = (await ask(stub, 'GET /status')).json
  expect(status).toMatchObject({ mode: 'stub', model_name: 'stub', hef_path: null, hef_exists: false })
  expect((await ask(stub, 'GET /')).json.config).toMatchObject({ mode: 'stub', model_sha256: 'stub' })
  const { headers } = await postWindow(stub, windowOf(0))
  expect(headers).toMatchObject({ 'x-inference-backend': 'stub', 'x-model-sha256': 'stub' })
  const metrics = String((await ask(stub, 'GET /metrics')).body)
  expect(metrics).toContain('hailo_inference_mode{mode="stub"} 1\n')
  expect(metrics).toContain('hailo_inference_mode{mode="onnx"} 0\n')
  expect(stub.stdout).toMatch(/^ +mode +stub$/m)
})

test('the stub answers the same window with the same numbers, and another with others', async () => {
  const [first, again, other] = await Promise.all([0, 0, 1].map(n => postWindow(stub, windowOf(n))))
  expect(again!.json).toEqual(first!.json)
  expect(other!.json.latent).not.toEqual(first!.json.latent)
})

test('EXPECTED_SHA256 is not met by the stub, which runs nevertheless', async () => {
  const { status, json } = await ask(stub, 'GET /healthz')
  expect(status).toBe(200)
  expect(json).toMatchObject({ ok: true, expected_sha256: MODEL_SHA256, config_ok: false })
})

test('NUM_MOTIFS=8 gives eight scores and says that EdgeInfer will not take them', async () => {
  expect((await postWindow(stub, windowOf(0))).json.motif_scores).toHaveLength(8)
  expect((await postWindow(stub, windowOf(0), { Accept: OCTET_STREAM })).body).toHaveLength(288)
  const { json } = await ask(stub, 'GET /healthz')
  expect(json).toMatchObject({ contract: { motif_classes: 8 }, contract_compatible: false })
  expect((await ask(stub, 'GET /status')).json.num_motifs).toBe(8)
})

test.each([
  [{ INFER_MODE: 'hailo' }, [/^HEF_PATH: is not set, but INFER_MODE=hailo /m]],
  [{ HEF_PATH: '/models/dog.hef' }, [/^\/models\/dog\.hef: no such file, expected a HEF/m]],
  [
    { WORKERS: 'many', DEADLINE_MS: '-1', LOG_LEVEL: 'loud', EXPECTED_SHA256: 'abc' },
    [/^WORKERS: many is/m, /^DEADLINE_MS: -1 is/m, /^LOG_LEVEL: loud is/m, /^EXPECTED_SHA256: abc is/m],
  ],
  [
    { EXPECTED_SHA256: OTHER_SHA256 },
    [new RegExp(`sha256 ${MODEL_SHA256}, expected EXPECTED_SHA256 ${OTHER_SHA256}`)],
  ],
  [{ ONNX_PATH: '/nowhere/dog.onnx' }, [/^\/nowhere\/dog\.onnx: no such file, expected an ONNX model/m]],
] as [Record<string, string>, RegExp[]][])(
  'the server does not start with %o, exits 78 and says why',
  async (env, reasons) => {
    const { exitCode, message } = await failedStart(env)
    expect(exitCode).toBe('78')
    for (const reason of reasons) expect(message).toMatch(reason)
  },
)

test('the server does not start with a model of which one byte is wrong', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'model-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const bytes = readFileSync(MODEL_PATH)
  bytes[bytes.length >> 1]! ^= 1
  const path = join(folder, 'model_dynamic.onnx')
  writeFileSync(path, bytes)
  const { exitCode, message } = await failedStart({
    ONNX_PATH: path,
    MODEL_MANIFEST: join(SHIPPED_MODEL_FOLDER, 'model.json'),
  })
  expect(exitCode).toBe('78')
  expect(message).toContain(`${path}: sha256 ${createHash('sha256').update(bytes).digest('hex')}`)
  expect(message).toContain(`expected ${MODEL_SHA256} as `)
})

test('the server does not start on a port that is taken, and says which', async () => {
  const { exitCode, message } = await failedStart({ SIDECAR_PORT: String(server.port) })
  expect(exitCode).not.toBe('0')
  expect(message.trimEnd().split('\n')).toHaveLength(2) // what cannot be done, and why
  expect(message).toMatch(new RegExp(`127\\.0\\.0\\.1 port ${server.port}`))
  expect((await ask(server, 'GET /readyz')).status).toBe(200)
})

/** Starts a server that must not start. */
async function failedStart(env: Record<string, string>): Promise<{ exitCode: string; message: string }> {
  const failure = await startServer(env).then(
    async started => new Error(`started, ended with ${await started.stop()}`),
    (error: Error) => error,
  )
  const [, exitCode, message] = /^the server ended with (\S+) before it was ready:\n(.*)$/s.exec(
    failure.message,
  )!
  expect(message).toMatch(/^hailo-inference cannot start:\n/)
  expect(message).not.toMatch(/^ +at /m) // no stack trace
  return { exitCode: exitCode!, message: message! }
}

// hyper-express stops reading a body that nobody takes.
test.each([
  ['POST /nowhere', 404],
  ['PUT /infer', 405],
  ['GET /openapi.json', 200],
])('%s with a body of 100 KB is answered %d', async (route, status) => {
  const answer = await ask(server, route, { body: Buffer.alloc(100_000) })
  expect(answer.status).toBe(status)
})
