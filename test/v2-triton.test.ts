import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Answer, bytesOf, Connection, headOf, OCTET_STREAM } from './http-client.ts'
import { startServer, type TestServer } from './server.ts'
import { inferredAlone, tensorOf } from './v2.ts'
import { windowOf } from './windows.ts'

/**
 * What tritonclient.http (github.com/triton-inference-server/client, commit 58a44caa) sent for these
 * calls, byte for byte, and how it reads the answers. Keep the JSON as it is: its length is in a header.
 */
const INPUT = (count: number) =>
  `{"name":"imu_window","shape":[${count},100,9],"datatype":"FP32","parameters":{"binary_data_size":${count * 3600}}}`

/** client.infer(model, [input], request_id='7') */
const ALL_OUTPUTS = `{"id":"7","inputs":[${INPUT(1)}],"parameters":{"binary_data_output":true}}`
/** client.infer(model, [input], outputs=[motif_scores, latent with binary_data=False], priority=2, timeout=1000000) */
const CHOSEN_OUTPUTS = `{"inputs":[${INPUT(2)}],"outputs":[{"name":"motif_scores","parameters":{"binary_data":true}},{"name":"latent","parameters":{"binary_data":false}}],"parameters":{"priority":2,"timeout":1000000}}`

let server: TestServer
beforeAll(async () => {
  server = await startServer({ WORKERS: '1', DEADLINE_MS: '2000' })
})
afterAll(() => server.stop())

test.each([{}, { 'Content-Type': OCTET_STREAM }, { 'Accept-Encoding': 'gzip' }])(
  'infer() of tritonclient with binary tensors gets all outputs in binary, with %o',
  async headers => {
    const result = read(await send('tcn_encoder', ALL_OUTPUTS, [windowOf(0)], headers))
    expect(result.id).toBe('7')
    const { latent, motif_scores } = await inferredAlone(server, [windowOf(0)])
    expect(result.asArray('latent')).toEqual({ shape: [1, 64], values: latent })
    expect(result.asArray('motif_scores')).toEqual({ shape: [1, 12], values: motif_scores })
  },
)

test('infer() of tritonclient with outputs, priority and timeout gets each output as it was asked for', async () => {
  const windows = [windowOf(1), windowOf(2)]
  const result = read(await send('tcn_encoder/versions/1.0.0', CHOSEN_OUTPUTS, windows))
  const { latent, motif_scores } = await inferredAlone(server, windows)
  const asJson = result.asArray('latent')
  expect({ ...asJson, values: asJson.values.map(Math.fround) }).toEqual({ shape: [2, 64], values: latent })
  expect(result.asArray('motif_scores')).toEqual({ shape: [2, 12], values: motif_scores })
})

test('infer() of tritonclient with request_compression_algorithm="gzip" sends the length before compression', async () => {
  const headers = { 'Content-Encoding': 'gzip' }
  const result = read(await send('tcn_encoder', ALL_OUTPUTS, [windowOf(3)], headers, gzipSync))
  expect(result.asArray('latent').values).toEqual((await inferredAlone(server, [windowOf(3)])).latent)
})

test('tritonclient finds the text of an error', async () => {
  const { status, json } = await send('dog', ALL_OUTPUTS, [windowOf(0)])
  expect(status).toBe(404)
  expect(json.error).toBe('There is no such model here, only tcn_encoder')
})

async function send(
  model: string,
  json: string,
  windows: readonly Float32Array[],
  headers = {},
  pack = (body: Uint8Array): Uint8Array => body,
): Promise<Answer> {
  const body = pack(Buffer.concat([Buffer.from(json), bytesOf(tensorOf(windows))]))
  const connection = await Connection.open(server)
  connection.send(
    headOf(`POST /v2/models/${model}/infer`, {
      ...headers,
      'Inference-Header-Content-Length': json.length,
      'Content-Length': body.length,
    }),
    body,
  )
  return connection.answer()
}

/** As InferResult of tritonclient does: the buffer is cut in the order in which the JSON lists the outputs. */
function read({ status, headers, body }: Answer) {
  expect(status).toBe(200)
  const headerLength = Number(headers['inference-header-content-length'])
  const result = JSON.parse(String(body.subarray(0, headerLength)))
  const buffer = body.subarray(headerLength)
  const starts = new Map<string, number>()
  let bufferIndex = 0
  for (const { name, parameters } of result.outputs) {
    if (parameters?.binary_data_size === undefined) continue
    starts.set(name, bufferIndex)
    bufferIndex += parameters.binary_data_size
  }
  expect(bufferIndex).toBe(buffer.length)
  return {
    id: result.id,
    asArray(name: string) {
      const output = result.outputs.find((output: { name: string }) => output.name === name)
      expect(output.datatype).toBe('FP32')
      const start = starts.get(name)
      const values =
        start === undefined
          ? output.data
          : Array.from({ length: output.parameters.binary_data_size / 4 }, (_, value) =>
              buffer.readFloatLE(start + value * 4),
            )
      return { shape: output.shape, values }
    },
  }
}
