import { afterAll, beforeAll, expect, test } from 'vitest'
import { VERSION } from '../src/project.ts'
import { ask, Connection, headOf, postWindow } from './http-client.ts'
import { metric, startServerForTest, until } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { inferBinary, inferJson, MODEL } from './v2.ts'
import { windowOf } from './windows.ts'

const ENVIRONMENT = {
  WORKERS: '1',
  DEADLINE_MS: '2000',
  API_KEY: 'alpha',
  CORS_ORIGINS: 'https://dogs.example',
  ALLOW_MODEL_UNLOAD: 'true',
}
const KEY = { 'X-API-Key': 'alpha' }

let server: TestServer
beforeAll(async () => {
  server = await startServer(ENVIRONMENT)
})
afterAll(() => server.stop())

const get = (path: string) => ask(server, `GET ${path}`, { headers: KEY })
const post = (path: string, body = '') => ask(server, `POST ${path}`, { headers: KEY, body })

test.each(['/v2/health/live', '/v2/health/ready', `${MODEL}/ready`, `${MODEL}/versions/1.0.0/ready`])(
  'GET %s answers 200 without a word',
  async path => {
    const { status, headers, body } = await get(path)
    expect(status).toBe(200)
    expect(body).toHaveLength(0)
    expect(headers['content-length']).toBe('0')
    expect(headers).toHaveProperty('x-request-id')
  },
)

test('GET /v2 tells what this server is', async () => {
  const { status, json, headers } = await get('/v2')
  expect({ status, json }).toEqual({
    status: 200,
    json: {
      name: 'hailo-inference',
      version: VERSION,
      extensions: [
        'binary_tensor_data',
        'model_repository',
        'statistics',
        'model_configuration',
        'parameters',
      ],
    },
  })
  expect(headers['content-type']).toBe('application/json')
})

test.each([MODEL, `${MODEL}/versions/1.0.0`, '/v2/models/tcn%5Fencoder'])(
  'GET %s tells names, types and shapes of the tensors',
  async path => {
    expect((await get(path)).json).toEqual({
      name: 'tcn_encoder',
      versions: ['1.0.0'],
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'imu_window', datatype: 'FP32', shape: [-1, 100, 9] }],
      outputs: [
        { name: 'latent', datatype: 'FP32', shape: [-1, 64] },
        { name: 'motif_scores', datatype: 'FP32', shape: [-1, 12] },
      ],
    })
  },
)

test.each([MODEL, `${MODEL}/versions/1.0.0`])('GET %s/config tells the largest batch', async path => {
  expect((await get(`${path}/config`)).json).toEqual({
    name: 'tcn_encoder',
    platform: 'onnxruntime_onnx',
    backend: 'onnxruntime',
    max_batch_size: 64,
    input: [{ name: 'imu_window', data_type: 'TYPE_FP32', dims: [100, 9] }],
    output: [
      { name: 'latent', data_type: 'TYPE_FP32', dims: [64] },
      { name: 'motif_scores', data_type: 'TYPE_FP32', dims: [12] },
    ],
    dynamic_batching: {},
    version_policy: { latest: { num_versions: 1 } },
  })
})

test.each([
  'GET /v2/models/dog',
  'GET /v2/models/dog/ready',
  'GET /v2/models/dog/stats',
  'GET /v2/models/%ff',
  `GET ${MODEL}/versions/2`,
  `GET ${MODEL}/versions/2/config`,
  'POST /v2/models/dog/infer',
  `POST ${MODEL}/versions/2/infer`,
  'POST /v2/repository/models/dog/load',
  'POST /v2/repository/models/dog/unload',
  'GET /v2/',
  'GET /v2/models',
  'GET /v2/models/tcn_encoder/nothing',
  'DELETE /v2/models/tcn_encoder/versions/1.0.0/nothing',
])('%s is 404 in the words of the protocol', async route => {
  const { status, json, headers } = await ask(server, route, { headers: KEY })
  expect({ status, json }).toEqual({ status: 404, json: { error: expect.stringMatching(/^There is no/) } })
  expect(headers['content-type']).toBe('application/json')
  expect(Number(headers['content-length'])).toBeGreaterThan(0)
})

test.each([
  ['POST /v2', 'GET'],
  ['POST /v2/health/live', 'GET'],
  ['PUT /v2/models/tcn_encoder', 'GET'],
  ['GET /v2/models/tcn_encoder/infer', 'POST'],
  ['GET /v2/models/dog/infer', 'POST'],
  ['POST /v2/models/stats', 'GET'],
  ['GET /v2/repository/index', 'POST'],
  ['DELETE /v2/repository/models/tcn_encoder/load', 'POST'],
])('%s is 405 and allows %s', async (route, allow) => {
  const { status, json, headers } = await ask(server, route, { headers: KEY })
  expect({ status, json }).toEqual({
    status: 405,
    json: { error: expect.stringMatching(new RegExp(`answers to ${allow} only$`)) },
  })
  expect(headers.allow).toBe(allow)
})

test('HEAD /v2 has no body and ends its connection, so that nothing can follow it wrongly', async () => {
  const connection = await Connection.open(server)
  connection.send(headOf('HEAD /v2', KEY))
  expect(await connection.rest()).toMatch(/^HTTP\/1\.1 405 .*\r\n\r\n$/s)
})

test('the API key guards all but the health of the server', async () => {
  for (const path of ['/v2/health/live', '/v2/health/ready']) {
    expect((await ask(server, `GET ${path}`)).status).toBe(200)
  }
  const guarded = [
    'GET /v2',
    `GET ${MODEL}`,
    `GET ${MODEL}/ready`,
    'GET /v2/models/stats',
    'GET /v2/nothing',
    'GET /v2/models/dog',
    'POST /v2/models/dog/infer',
    `POST ${MODEL}/infer`,
    'POST /v2/repository/index',
    'POST /v2/repository/models/tcn_encoder/unload',
  ]
  for (const route of guarded) {
    const { status, json, headers } = await ask(server, route)
    expect({ status, json }, route).toEqual({
      status: 401,
      json: { error: expect.stringMatching(/API key/) },
    })
    expect(headers['www-authenticate']).toBe('Bearer')
  }
  expect((await ask(server, 'GET /v2', { headers: { Authorization: 'Bearer alpha' } })).status).toBe(200)
})

test('pages of an allowed origin may ask and read', async () => {
  const headers = { Origin: 'https://dogs.example' }
  const preflight = await ask(server, `OPTIONS ${MODEL}/infer`, {
    headers: { ...headers, 'Access-Control-Request-Method': 'POST' },
  })
  expect(preflight.status).toBe(200)
  expect(preflight.headers['access-control-allow-headers']).toContain('Inference-Header-Content-Length')
  const { headers: told } = await ask(server, 'GET /v2', { headers: { ...headers, ...KEY } })
  expect(told['access-control-allow-origin']).toBe('https://dogs.example')
  expect(told['access-control-expose-headers']).toContain('Inference-Header-Content-Length')
})

test("metrics name the pattern of a path and never the client's words", async () => {
  await get('/v2/models/secret-word')
  await inferJson(server, [windowOf(0)], { headers: KEY })
  const { body } = await ask(server, 'GET /metrics')
  expect(String(body)).not.toContain('secret-word')
  for (const row of [
    'method="GET",endpoint="/v2/models/:model",status_code="404"',
    'method="POST",endpoint="/v2/models/:model/infer",status_code="200"',
  ]) {
    expect(await metric(server.port, 'hailo_http_requests_total', row), row).toBeGreaterThan(0)
  }
})

test('statistics grow by what was asked, so that two readings can be subtracted', async () => {
  const read = async (path: string) => (await get(path)).json.model_stats[0]
  const before = await read('/v2/models/stats')
  const sentMs = Date.now()
  await inferJson(server, [windowOf(0)], { headers: KEY })
  await inferBinary(server, [windowOf(1), windowOf(2), windowOf(3)], { headers: KEY })
  await postWindow(server, windowOf(4), KEY)
  await post(`${MODEL}/infer`, '{}')
  const after = await read('/v2/models/stats')

  expect(after).toMatchObject({ name: 'tcn_encoder', version: '1.0.0', batch_stats: [] })
  expect(after.last_inference).toBeGreaterThanOrEqual(sentMs)
  expect(after.inference_count - before.inference_count).toBe(5)
  const executions = after.execution_count - before.execution_count
  expect(executions).toBeGreaterThanOrEqual(3)
  expect(executions).toBeLessThanOrEqual(5)

  const grown = Object.entries(after.inference_stats as Record<string, { count: number; ns: number }>).map(
    ([name, { count, ns }]) => {
      expect(Number.isInteger(ns)).toBe(true)
      return [
        name,
        { count: count - before.inference_stats[name].count, ns: ns - before.inference_stats[name].ns },
      ]
    },
  )
  const { success, fail, queue, compute_input, compute_infer, compute_output, cache_hit, cache_miss } =
    Object.fromEntries(grown)
  for (const phase of [success, queue, compute_input, compute_infer, compute_output]) {
    expect(phase.count).toBe(2)
    expect(phase.ns).toBeGreaterThan(0)
  }
  expect(fail.count).toBe(1)
  expect(fail.ns).toBeGreaterThan(0)
  for (const phase of [cache_hit, cache_miss]) expect(phase).toEqual({ count: 0, ns: 0 })
  // Each part of a request's time is told once; half a millisecond of it may pass between parts.
  expect(queue.ns + compute_input.ns + compute_infer.ns + compute_output.ns).toBeLessThan(success.ns + 1e6)

  for (const path of [`${MODEL}/stats`, `${MODEL}/versions/1.0.0/stats`]) {
    expect(await read(path)).toEqual(after)
  }
})

test('POST /v2/repository/index lists the model', async () => {
  const entry = { name: 'tcn_encoder', version: '1.0.0', state: 'READY', reason: '' }
  for (const body of ['', '{}', '{"ready":true}', '{"ready":false}']) {
    expect((await post('/v2/repository/index', body)).json).toEqual([entry])
  }
  for (const body of ['no JSON', '{"ready":"yes"}', '[]', 'null']) {
    const { status, json } = await post('/v2/repository/index', body)
    expect({ status, json }).toEqual({ status: 400, json: { error: expect.stringMatching(/expected/) } })
  }
  expect((await post('/v2/repository/index', ' '.repeat(100_000))).status).toBe(413)
})

test('an unloaded model answers nobody, says so, and is back at once when it is loaded', async () => {
  const repository = '/v2/repository/models/tcn_encoder'
  const rejected = () => metric(server.port, 'hailo_rejected_total', 'reason="unloaded"')
  expect(await rejected()).toBe(0)
  const unloaded = await post(`${repository}/unload`)
  expect(unloaded.status).toBe(200)
  expect(unloaded.headers['content-length']).toBe('0')

  const refused = await inferJson(server, [windowOf(0)], { headers: KEY })
  expect(refused).toMatchObject({
    status: 503,
    json: { error: expect.stringMatching(/^The model was unloaded/) },
  })
  expect(refused.headers['retry-after']).toBe('1')
  expect(await postWindow(server, windowOf(0), KEY)).toMatchObject({
    status: 503,
    json: { error: 'model_unavailable', model_available: false },
  })
  expect(await rejected()).toBe(2)
  for (const path of ['/v2/health/ready', `${MODEL}/ready`]) {
    expect(await get(path)).toMatchObject({
      status: 503,
      json: { error: 'The model is not ready: unloaded' },
    })
  }
  expect((await get('/v2/health/live')).status).toBe(200)
  expect((await get('/healthz')).status).toBe(200)
  expect((await get('/readyz')).json).toEqual({ ready: false, reasons: ['unloaded'] })
  expect((await post('/v2/repository/index')).json).toEqual([
    { name: 'tcn_encoder', version: '1.0.0', state: 'UNAVAILABLE', reason: 'unloaded' },
  ])
  expect((await post('/v2/repository/index', '{"ready":true}')).json).toEqual([])

  const loaded = await post(`${repository}/load`, '{"parameters":{}}')
  expect(loaded.status).toBe(200)
  expect(loaded.body).toHaveLength(0)
  expect((await post(`${repository}/load`)).status).toBe(200)
  expect((await inferJson(server, [windowOf(0)], { headers: KEY })).status).toBe(200)
  expect((await get('/v2/health/ready')).status).toBe(200)
  await until(async () => (await metric(server.port, 'hailo_model_loaded')) === 1)
})

test('load refuses to bring another model', async () => {
  for (const parameters of [{ config: '{}' }, { 'file:1/model.onnx': 'AAAA' }]) {
    const { status, json } = await post(
      '/v2/repository/models/tcn_encoder/load',
      JSON.stringify({ parameters }),
    )
    expect({ status, json }).toEqual({ status: 400, json: { error: expect.stringMatching(/another model/) } })
  }
})

test('unload is 409 unless ALLOW_MODEL_UNLOAD allows it', async () => {
  const plain = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: '2000' })
  const { status, json } = await ask(plain, 'POST /v2/repository/models/tcn_encoder/unload')
  expect({ status, json }).toEqual({
    status: 409,
    json: { error: expect.stringMatching(/ALLOW_MODEL_UNLOAD=true/) },
  })
  expect((await ask(plain, 'GET /v2/health/ready')).status).toBe(200)
  const { json: answer } = await inferJson(plain, [windowOf(0)])
  expect(answer).toMatchObject({ model_name: 'tcn_encoder', parameters: { inference_backend: 'stub' } })
})
