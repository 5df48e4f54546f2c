import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import * as schemas from '../src/http/v2/schema.ts'
import { ask, bytesOf, Connection, rowsOf } from './http-client.ts'
import { metric } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import {
  binaryRequestOf,
  documentOf,
  HEADER_LENGTH,
  inferBinary,
  inferJson,
  inferredAlone,
  inputOf,
  jsonRequestOf,
  MODEL,
  outputsOf,
  tensorOf,
  withTail,
} from './v2.ts'
import { windowOf } from './windows.ts'

const ROUTE = `POST ${MODEL}/infer`
const batchOf = (count: number) => Array.from({ length: count }, (_, n) => windowOf(n))

let server: TestServer
beforeAll(async () => {
  server = await startServer({ WORKERS: '1', DEADLINE_MS: '2000' })
})
afterAll(() => server.stop())

test.each([1, 2, 64])(
  'a batch of %i gets the very values of POST /infer, as JSON and in binary',
  async count => {
    const windows = batchOf(count)
    const expected = await inferredAlone(server, windows)
    const binary = { parameters: { binary_data_output: true } }
    for (const infer of [inferJson, inferBinary]) {
      for (const request of [{}, binary]) {
        const answer = await infer(server, windows, { request })
        expect(answer.status).toBe(200)
        expect(outputsOf(answer)).toEqual(expected)
        const document = documentOf(answer)
        expect(document).toMatchObject({ model_name: 'tcn_encoder', model_version: '1.0.0' })
        expect(document.parameters).toEqual({ inference_backend: 'onnx' })
        expect(document.outputs.map((output: { shape: unknown }) => output.shape)).toEqual([
          [count, 64],
          [count, 12],
        ])
        expect(Number(answer.headers['content-length'])).toBe(answer.body.length)
      }
    }
  },
)

test('flat data is the same as nested', async () => {
  const windows = batchOf(2)
  const body = JSON.stringify({ inputs: [inputOf(windows, { data: [...tensorOf(windows)] })] })
  const answer = await ask(server, ROUTE, { body })
  expect(outputsOf(answer)).toEqual(await inferredAlone(server, windows))
})

test('the path may name the version', async () => {
  const path = `${MODEL}/versions/1.0.0/infer`
  expect((await inferJson(server, [windowOf(0)], { path })).status).toBe(200)
})

test('an answer has the headers of every inference', async () => {
  const { headers } = await inferJson(server, [windowOf(0)], {
    headers: { 'X-Request-ID': 'mine', 'X-Correlation-ID': 'ours' },
  })
  expect(headers).toMatchObject({
    'content-type': 'application/json',
    'x-request-id': 'mine',
    'x-correlation-id': 'ours',
    'x-inference-backend': 'onnx',
    'x-model-sha256': expect.stringMatching(/^[0-9a-f]{12}$/),
    'server-timing': expect.stringMatching(/^queue;dur=[\d.]+, infer;dur=[\d.]+$/),
  })
})

test('the id is given back, whatever words it is of', async () => {
  const id = 'a "b" \\ é 🐕'
  const json = await inferJson(server, [windowOf(0)], { request: { id } })
  expect(documentOf(json).id).toBe(id)
  const request = { id, parameters: { binary_data_output: true } }
  const binary = await inferJson(server, [windowOf(0)], { request })
  expect(documentOf(binary).id).toBe(id)
  expect(outputsOf(binary)).toEqual(outputsOf(json))
  expect(documentOf(await inferJson(server, [windowOf(0)]))).not.toHaveProperty('id')
})

test('outputs are those that were asked for, in their order, each in its own form', async () => {
  const outputs = [{ name: 'motif_scores', parameters: { binary_data: true } }, { name: 'latent' }]
  const windows = batchOf(2)
  const answer = await inferJson(server, windows, { request: { outputs } })
  expect(documentOf(answer).outputs).toEqual([
    { name: 'motif_scores', datatype: 'FP32', shape: [2, 12], parameters: { binary_data_size: 96 } },
    { name: 'latent', datatype: 'FP32', shape: [2, 64], data: expect.any(Array) },
  ])
  expect(outputsOf(answer)).toEqual(await inferredAlone(server, windows))
  expect(answer.headers['content-type']).toBe('application/octet-stream')

  const one = await inferJson(server, windows, { request: { outputs: [{ name: 'latent' }] } })
  expect(Object.keys(outputsOf(one))).toEqual(['latent'])
})

test('binary_data of one output counts for more than binary_data_output', async () => {
  const outputs = [{ name: 'latent', parameters: { binary_data: false } }, { name: 'motif_scores' }]
  const request = { outputs, parameters: { binary_data_output: true } }
  const [latent, motifScores] = documentOf(await inferBinary(server, [windowOf(0)], { request })).outputs
  expect(latent.data).toHaveLength(64)
  expect(motifScores.parameters).toEqual({ binary_data_size: 48 })
})

test('Inference-Header-Content-Length 0 takes one raw window and gives all outputs in binary', async () => {
  const headers = { [HEADER_LENGTH]: '0' }
  const answer = await ask(server, ROUTE, { headers, body: bytesOf(windowOf(3)) })
  expect(answer.status).toBe(200)
  expect(outputsOf(answer)).toEqual(await inferredAlone(server, [windowOf(3)]))
  expect(documentOf(answer).outputs[0].parameters).toEqual({ binary_data_size: 256 })
})

test('a body may come in many pieces', async () => {
  const { body, headers } = binaryRequestOf([windowOf(5)])
  const connection = await Connection.open(server)
  const lines = Object.entries({ ...headers, 'Content-Length': body.length }).map(
    ([k, v]) => `${k}: ${v}\r\n`,
  )
  await connection.sendInSegments(
    Buffer.concat([Buffer.from(`${ROUTE} HTTP/1.1\r\nHost: test\r\n${lines.join('')}\r\n`), body]),
    97,
  )
  expect(outputsOf(await connection.answer())).toEqual(await inferredAlone(server, [windowOf(5)]))
})

describe('what is refused with 400', () => {
  const window = windowOf(0)
  const data = [rowsOf(window)]
  const bytes = bytesOf(window)
  const good = inputOf([window], { data })
  const binary = inputOf([window], { parameters: { binary_data_size: 3600 } })
  const json = (document: unknown) => ({ body: JSON.stringify(document) })
  const input = (fields: object) => json({ inputs: [{ ...good, ...fields }] })
  const asked = (fields: object) => json({ inputs: [good], ...fields })
  const nan = Uint8Array.from(bytes)
  new DataView(nan.buffer).setFloat32(3596, Number.NaN, true)
  const changed = (value: unknown) => [rowsOf(window).with(37, [1, 2, 3, value, 5, 6, 7, 8, 9] as number[])]

  test.each([
    ['no JSON', { body: 'imu_window' }, /not valid JSON/],
    ['no body', { body: '' }, /not valid JSON/],
    ['null', json(null), /^The body is not valid, expected an inference request/],
    ['no inputs', json({}), /^inputs is not valid, expected an array of one tensor/],
    ['an empty list of inputs', json({ inputs: [] }), /^inputs is not valid/],
    ['inputs that are no list', json({ inputs: good }), /^inputs is not valid/],
    ['a duplicate input', json({ inputs: [good, good] }), /^inputs has 2 entries/],
    ['thousands of inputs', json({ inputs: new Array(60_000).fill(0) }), /^inputs has 60000 entries/],
    ['thousands of outputs', asked({ outputs: new Array(60_000).fill(0) }), /^outputs has 60000 entries/],
    ['an unknown input', input({ name: 'image' }), /^inputs\[0\]\.name .* expected imu_window/],
    ['a missing name', input({ name: undefined }), /^inputs\[0\]\.name/],
    ['a shape without the batch', input({ shape: [100, 9] }), /^inputs\[0\]\.shape .* \[n,100,9\]/],
    ['a shape of thousands', input({ shape: new Array(60_000).fill(0) }), /^inputs\[0\]\.shape/],
    ['another shape', input({ shape: [1, 9, 100] }), /^inputs\[0\]\.shape/],
    ['a batch of none', input({ shape: [0, 100, 9], data: [] }), /^inputs\[0\]\.shape/],
    ['half a window', input({ shape: [0.5, 100, 9] }), /^inputs\[0\]\.shape/],
    ['a batch above the maximum', input({ shape: [65, 100, 9] }), /^inputs\[0\]\.shape .* from 1 to 64/],
    ['another datatype', input({ datatype: 'FP64' }), /^inputs\[0\]\.datatype .* expected FP32/],
    ['no data', input({ data: undefined }), /^inputs\[0\] has no values/],
    ['data that is no list', input({ data: 'AAAA' }), /data is not an array/],
    ['too few windows', input({ shape: [2, 100, 9] }), /has 1 windows, expected 2/],
    ['too many values', input({ data: new Array(901).fill(1) }), /has 901 values, expected 900/],
    ['99 rows', input({ data: [rowsOf(window).slice(1)] }), /it has 99 rows, expected 100/],
    ['a numeric string', input({ data: changed('1.5') }), /row 37 channel 3 .* is a string/],
    ['a boolean', input({ data: changed(true) }), /row 37 channel 3 .* is a boolean/],
    ['null among the values', input({ data: changed(null) }), /row 37 channel 3 .* is null/],
    ['a flat string', input({ data: new Array(900).fill('1') }), /row 0 channel 0 .* is a string/],
    ['nesting in flat data', input({ data: [1, ...new Array(899).fill([])] }), /row 0 channel 1 .* an array/],
    ['a value beyond its sensor', input({ data: changed(36) }), /row 37 channel 3 \(gx\) is 36/],
    ['an unknown output', asked({ outputs: [{ name: 'logits' }] }), /^outputs\[0\]\.name .* latent or motif/],
    [
      'a duplicate output',
      asked({ outputs: [{ name: 'latent' }, { name: 'latent' }] }),
      /^outputs\[1\] asks for latent a second time/,
    ],
    [
      'classification',
      asked({ outputs: [{ name: 'motif_scores', parameters: { classification: 3 } }] }),
      /asks for classification, which this server does not support/,
    ],
    [
      'an output in shared memory',
      asked({ outputs: [{ name: 'latent', parameters: { shared_memory_region: 'r' } }] }),
      /asks for shared memory/,
    ],
    [
      'an input in shared memory',
      input({ data: undefined, parameters: { shared_memory_region: 'r', shared_memory_byte_size: 3600 } }),
      /asks for shared memory/,
    ],
    ['a sequence', asked({ parameters: { sequence_id: 7, sequence_start: true } }), /asks for sequences/],
    ['a negative timeout', asked({ parameters: { timeout: -1 } }), /^parameters\.timeout .* microseconds/],
    ['a timeout in words', asked({ parameters: { timeout: '1s' } }), /^parameters\.timeout/],
    ['a priority in words', asked({ parameters: { priority: 'high' } }), /^parameters\.priority/],
    [
      'a flag in words',
      asked({ parameters: { binary_data_output: 'yes' } }),
      /^parameters\.binary_data_output/,
    ],
    ['an id that is a number', asked({ id: 7 }), /^id is not valid, expected text/],
    ['binary_data_size without the header', json({ inputs: [binary] }), /no header Inference-Header/],
    ['data and binary_data_size', withTail({ inputs: [{ ...binary, data }] }, bytes), /both data and/],
    [
      'a header length in words',
      withTail({ inputs: [binary] }, bytes, 'all'),
      /^Cannot read Inference-Header/,
    ],
    ['a header length below 0', withTail({ inputs: [binary] }, bytes, -1), /^Cannot read Inference-Header/],
    [
      'a header length beyond the body',
      withTail({ inputs: [binary] }, bytes, 9999),
      /is 9999, expected at most/,
    ],
    [
      'a header length that cuts the JSON',
      withTail({ inputs: [binary] }, bytes, 20),
      /The 20 bytes .* not valid JSON/,
    ],
    [
      'trailing bytes',
      withTail({ inputs: [binary] }, Buffer.concat([bytes, Buffer.alloc(4)])),
      /3604 bytes, expected 3600/,
    ],
    ['missing bytes', withTail({ inputs: [binary] }, bytes.subarray(4)), /3596 bytes, expected 3600/],
    ['bytes behind JSON data', withTail({ inputs: [good] }, Buffer.alloc(4)), /4 bytes, expected 0/],
    [
      'a size that is not the product of the shape',
      withTail(
        { inputs: [inputOf([window], { parameters: { binary_data_size: 3604 } })] },
        Buffer.alloc(3604),
      ),
      /has 3604 bytes, expected 3600/,
    ],
    ['a binary NaN', withTail({ inputs: [binary] }, nan), /row 99 channel 8 \(mz\) is NaN/],
    [
      'a raw window of other length',
      { headers: { [HEADER_LENGTH]: '0' }, body: bytes.subarray(4) },
      /3596 bytes/,
    ],
  ] as [string, { body: string | Uint8Array; headers?: Record<string, string> }, RegExp][])(
    '%s',
    async (_, request, why) => {
      const { status, json, headers } = await ask(server, ROUTE, request)
      expect({ status, json }).toEqual({ status: 400, json: { error: expect.stringMatching(why) } })
      expect(headers['content-type']).toBe('application/json')
      expect(headers).toHaveProperty('x-request-id')
    },
  )

  test.each([inferJson, inferBinary])(
    '%o tells which window of a batch is bad, and submits none',
    async infer => {
      const bad = Float32Array.from(windowOf(1))
      bad[0] = 501
      const givenUp = await metric(server.port, 'hailo_cancelled_total')
      const { status, json } = await infer(server, [...batchOf(20), bad])
      expect(status).toBe(400)
      expect(json.error).toMatch(/^Window 20 of 21: .*row 0 channel 0 \(ax\) is 501/)
      expect(await metric(server.port, 'hailo_cancelled_total')).toBe(givenUp)
    },
  )
})

test('every body has a JSON schema, and what the server answers fits its own', async () => {
  const all = Object.values(schemas).filter(value => value instanceof z.ZodType)
  expect(all.length).toBeGreaterThan(10)
  for (const schema of all) expect(z.toJSONSchema(schema, { io: 'input' })).toHaveProperty('type')

  const answered = async (route: string) => (await ask(server, route)).json
  schemas.InferResponse.strict().parse((await inferJson(server, batchOf(2))).json)
  schemas.ErrorResponse.strict().parse((await inferJson(server, [])).json)
  schemas.ServerMetadata.strict().parse(await answered('GET /v2'))
  schemas.ModelMetadata.strict().parse(await answered(`GET ${MODEL}`))
  schemas.ModelConfig.strict().parse(await answered(`GET ${MODEL}/config`))
  schemas.ModelStatistics.strict().parse(await answered('GET /v2/models/stats'))
  schemas.RepositoryIndex.parse(await answered('POST /v2/repository/index'))
})

test('a batch never holds more windows than the rings do', async () => {
  const small = await startServer({ WORKERS: '1', RING_SLOTS: '2', DEADLINE_MS: '2000' })
  try {
    expect((await ask(small, `GET ${MODEL}/config`)).json.max_batch_size).toBe(2)
    expect((await inferJson(small, batchOf(2))).status).toBe(200)
    const { status, json } = await inferJson(small, batchOf(3))
    expect({ status, json }).toEqual({
      status: 400,
      json: { error: 'inputs[0].shape has 3 windows, expected at most 2' },
    })
  } finally {
    await small.stop()
  }
})

test('no garbage harms anybody', async () => {
  const whole = binaryRequestOf([windowOf(0)])
  const json = Buffer.from(
    jsonRequestOf([windowOf(0)], { id: 'x', outputs: [{ name: 'latent' }] }).slice(0, 400),
  )
  let state = 20_261_121
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    return state % below
  }
  for (let round = 0; round < 300; round++) {
    const { headers } = whole
    const body = Buffer.from(round % 2 === 0 ? whole.body.subarray(0, 200 + random(3000)) : json)
    for (let flips = random(6); flips >= 0; flips--) body[random(body.length)] = random(256)
    const claimed = round % 3 === 0 ? String(random(400)) : headers[HEADER_LENGTH]!
    const encoding = ['', 'gzip', 'deflate', 'identity'][random(4)]!
    const { status } = await ask(server, ROUTE, {
      headers: { [HEADER_LENGTH]: claimed, ...(encoding && { 'Content-Encoding': encoding }) },
      body,
    })
    expect(status, `round ${round}`).toBe(400)
  }
  for (const document of [
    '{"__proto__":{"inputs":1}}',
    `${'['.repeat(500_000)}`,
    '[]',
    '7',
    '{"inputs":[[]]}',
  ]) {
    expect((await ask(server, ROUTE, { body: document })).status).toBe(400)
  }
  expect((await inferJson(server, [windowOf(0)])).status).toBe(200)
})
