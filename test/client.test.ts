import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { promisify } from 'node:util'
import { expect, onTestFinished, test, vi } from 'vitest'
import { errorCode } from '../client/error.ts'
import { InferenceClient, InferenceError } from '../client/index.ts'
import { WINDOW_STATUSES, type WindowStatus } from '../src/http/frame.ts'
import { REPLY } from '../src/http/reply.ts'
import { PROJECT_FOLDER } from '../src/project.ts'

test('infer() posts the very bytes of a window and reads what the headers tell', async () => {
  const server = await startServer(asModel)
  const window = distinctWindow(7)
  expect(await new InferenceClient(server.url).infer(window)).toEqual({
    ...resultFor(window),
    backend: 'onnx',
    modelSha256: '0123456789ab',
    requestId: 'r-1',
    queueMs: 1.25,
    inferMs: 0.5,
  })
  const [{ method, url, headers, body }] = server.requests as [Recorded]
  expect({ method, url }).toEqual({ method: 'POST', url: '/infer' })
  expect(headers).toMatchObject({ 'content-type': OCTETS, accept: OCTETS })
  expect(headers).not.toHaveProperty('x-deadline-ms')
  expect(headers).not.toHaveProperty('x-api-key')
  expect(body.equals(Buffer.from(window.buffer))).toBe(true)
})

test('infer() sends a view of a larger array, and of shared memory', async () => {
  const server = await startServer(asModel)
  const client = new InferenceClient(server.url)
  const shared = new Float32Array(new SharedArrayBuffer(3 * 3600))
  for (let index = 0; index < 3; index++) shared.set(distinctWindow(index), index * 900)
  const { latent } = await client.infer(shared.subarray(900, 1800))
  expect(latent).toEqual(resultFor(distinctWindow(1)).latent)
  const plain = shared.slice()
  expect((await client.infer(plain.subarray(1800))).latent).toEqual(resultFor(distinctWindow(2)).latent)
})

test('infer() with json: true speaks JSON both ways', async () => {
  const server = await startServer(asModel)
  const window = distinctWindow(3)
  const { latent, motifScores } = await new InferenceClient(server.url, { json: true }).infer(window)
  expect({ latent, motifScores }).toEqual(resultFor(window))
  expect(server.requests[0]!.headers).toMatchObject({
    'content-type': 'application/json',
    accept: 'application/json',
  })
})

test('infer() sends key and deadline, its own before the one of the client, to a base URL with a path', async () => {
  const server = await startServer(asModel)
  const client = new InferenceClient(`${server.url}/imu/v1`, { apiKey: 'secret', deadlineMs: 20 })
  await client.infer(distinctWindow(0))
  await client.infer(distinctWindow(0), { deadlineMs: 35 })
  expect(server.requests.map(({ url, headers }) => [url, headers['x-deadline-ms']])).toEqual([
    ['/imu/v1/infer', '20'],
    ['/imu/v1/infer', '35'],
  ])
  expect(server.requests[0]!.headers['x-api-key']).toBe('secret')
})

test('infer() refuses an array of another length before it asks the server', async () => {
  const server = await startServer(asModel)
  const client = new InferenceClient(server.url)
  await expect(client.infer(new Float32Array(899))).rejects.toMatchObject({ code: 'invalid_window' })
  await expect(client.inferMany(new Float32Array(901))).rejects.toMatchObject({ code: 'invalid_window' })
  await expect(client.inferMany([new Float32Array(1800)])).rejects.toMatchObject({ code: 'invalid_window' })
  expect(server.requests).toHaveLength(0)
})

test('infer() rejects with what the server said, and does not ask again', async () => {
  const server = await startServer(refusal(429, 'overloaded', { 'Retry-After': '3' }))
  const error = await failureOf(new InferenceClient(server.url).infer(distinctWindow(0)))
  expect(error).toBeInstanceOf(InferenceError)
  expect(error).toMatchObject({
    code: 'overloaded',
    status: 429,
    detail: 'because',
    retryAfterMs: 3000,
    requestId: 'r-1',
    message: 'overloaded: because',
  })
  expect(server.requests).toHaveLength(1)
})

test('the client knows every code of the server, and takes a new one for a bad answer', () => {
  const codes = [...Object.keys(REPLY), ...WINDOW_STATUSES.filter(status => status !== 'ok')]
  expect(codes.filter(code => errorCode(code) !== code)).toEqual([])
  expect(errorCode('quantum_decoherence')).toBe('bad_answer')
})

test.each([
  ['a 502 of a proxy', (response: ServerResponse) => response.writeHead(502).end('<html>'), 502],
  ['a row too short', (response: ServerResponse) => response.end(Buffer.alloc(256)), 200],
  ['a torn row', (response: ServerResponse) => response.end(Buffer.alloc(303)), 200],
  ['nothing', (response: ServerResponse) => response.end(), 200],
])('infer() takes %s for a bad answer', async (_, answer, status) => {
  const server = await startServer((_request, response) => void answer(response))
  const error = await failureOf(new InferenceClient(server.url).infer(distinctWindow(0)))
  expect(error).toMatchObject({ code: 'bad_answer', status })
})

test.each([
  {},
  [],
  null,
  { latent: [1], motif_scores: [1] },
  { latent: Array(64).fill(1), motif_scores: ['1'] },
])('infer() with json: true takes %j for a bad answer', async answer => {
  const server = await startServer((_request, response) => void response.end(JSON.stringify(answer)))
  const client = new InferenceClient(server.url, { json: true })
  expect(await failureOf(client.infer(distinctWindow(0)))).toMatchObject({ code: 'bad_answer', status: 200 })
})

test('infer() rejects with `disconnected` and the cause when nobody listens, or nobody answers in time', async () => {
  const server = await startServer(() => {})
  const silent = new InferenceClient(server.url, { timeoutMs: 50 })
  expect(await failureOf(silent.infer(distinctWindow(0)))).toMatchObject({
    code: 'disconnected',
    detail: `No answer from ${server.url}/infer in 50 ms`,
    status: null,
  })
  await server.close()
  const error = await failureOf(new InferenceClient(server.url).infer(distinctWindow(0)))
  expect(error).toMatchObject({ code: 'disconnected', detail: `No answer from ${server.url}/infer` })
  expect(error.cause).toBeInstanceOf(TypeError)
})

test('infer() takes a timeout beyond what setTimeout() holds, and none at all', async () => {
  const server = await startServer((request, response) => {
    void setTimeout(20).then(() => asModel(request, response))
  })
  for (const timeoutMs of [3e9, Infinity]) {
    const { latent } = await new InferenceClient(server.url, { timeoutMs }).infer(distinctWindow(1))
    expect(latent).toEqual(resultFor(distinctWindow(1)).latent)
  }
})

test('infer() given up by its signal rejects with the reason of the signal, also between two tries', async () => {
  const server = await startServer(refusal(429, 'overloaded', { 'Retry-After': '5' }))
  const client = new InferenceClient(server.url)
  const reason = new Error('enough')
  await expect(client.infer(distinctWindow(0), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  expect(server.requests).toHaveLength(0)
  const controller = new AbortController()
  const promise = client.infer(distinctWindow(0), { retries: 3, signal: controller.signal })
  await vi.waitFor(() => expect(server.requests).toHaveLength(1))
  await setTimeout(50) // until the answer is here and the pause has begun
  const abortedMs = performance.now()
  controller.abort(reason)
  await expect(promise).rejects.toBe(reason)
  expect(performance.now() - abortedMs).toBeLessThan(4000)
})

test('infer() given up while the server thinks rejects with the reason of the signal', async () => {
  const server = await startServer(() => {})
  const controller = new AbortController()
  const promise = new InferenceClient(server.url).infer(distinctWindow(0), { signal: controller.signal })
  await vi.waitFor(() => expect(server.requests).toHaveLength(1))
  const reason = new Error('enough')
  controller.abort(reason)
  await expect(promise).rejects.toBe(reason)
})

test('infer() with retries waits as long as Retry-After says, and tells the server what is left of the deadline', async () => {
  const server = await startServer((request, response) =>
    server.requests.length === 1
      ? refusal(503, 'model_unavailable', { 'Retry-After': '1' })(request, response)
      : asModel(request, response),
  )
  const startMs = performance.now()
  await new InferenceClient(server.url).infer(distinctWindow(0), { retries: 1, deadlineMs: 9000 })
  expect(performance.now() - startMs).toBeGreaterThan(990)
  const left = server.requests.map(({ headers }) => Number(headers['x-deadline-ms']))
  expect(left[0]).toBe(9000)
  expect(left[1]).toBeGreaterThan(1000)
  expect(left[1]).toBeLessThan(8001)
})

test.each([
  ['a 400', 400, 'invalid_window', {}, {}],
  ['a 504', 504, 'deadline_exceeded', {}, {}],
  ['what comes back after the deadline', 429, 'overloaded', { 'Retry-After': '5' }, { deadlineMs: 4000 }],
])('infer() with retries does not try %s again', async (_, status, code, headers, options) => {
  const server = await startServer(refusal(status, code, headers))
  const startMs = performance.now()
  const promise = new InferenceClient(server.url).infer(distinctWindow(0), { retries: 5, ...options })
  expect(await failureOf(promise)).toMatchObject({ code })
  expect(server.requests).toHaveLength(1)
  expect(performance.now() - startMs).toBeLessThan(4000)
})

test('infer() with retries gives up after so many', async () => {
  const server = await startServer(refusal(503, 'draining', {}))
  const promise = new InferenceClient(server.url).infer(distinctWindow(0), { retries: 2 })
  expect(await failureOf(promise)).toMatchObject({ code: 'draining' })
  expect(server.requests).toHaveLength(3)
})

test.each([
  ['one array', (windows: Float32Array[]) => Float32Array.from(windows.flatMap(window => [...window]))],
  ['an iterable', (windows: Float32Array[]) => new Set(windows)],
  [
    'an async iterable that uses its array again',
    async function* (windows: Float32Array[]) {
      const reused = new Float32Array(900)
      for (const window of windows) {
        reused.set(window)
        yield reused
      }
    },
  ],
])('inferMany() infers the windows of %s in order, so many per request', async (_, arrange) => {
  const server = await startServer(asModel)
  const windows = Array.from({ length: 10 }, (_, index) => distinctWindow(index))
  const { results, failedCount } = await new InferenceClient(server.url).inferMany(arrange(windows), {
    windowsPerRequest: 4,
  })
  expect(server.requests.map(({ body }) => body.length / 3600)).toEqual([4, 4, 2])
  expect(results).toHaveLength(10)
  expect(results).toMatchObject(windows.map(window => ({ ...resultFor(window), backend: 'onnx' })))
  expect(failedCount).toBe(0)
})

test('inferMany() of no window asks nobody', async () => {
  const server = await startServer(asModel)
  const client = new InferenceClient(server.url)
  for (const nothing of [[], new Float32Array(0)]) {
    expect(await client.inferMany(nothing)).toEqual({ results: [], failedCount: 0 })
  }
  expect(server.requests).toHaveLength(0)
})

test.each([0, -1, 1.5, NaN, Infinity])(
  'inferMany() refuses requests of %d windows',
  async windowsPerRequest => {
    const server = await startServer(asModel)
    const client = new InferenceClient(server.url)
    for (const windows of [distinctWindow(0), [distinctWindow(0)]]) {
      const promise = client.inferMany(windows, { windowsPerRequest })
      await expect(promise).rejects.toThrow(
        `Cannot send ${windowsPerRequest} windows per request, expected a whole number from 1`,
      )
    }
    expect(server.requests).toHaveLength(0)
  },
)

test('inferMany() tells every window that failed, and why, from the NaNs of its row', async () => {
  const fates: WindowStatus[] = ['ok', ...WINDOW_STATUSES]
  const server = await startServer((request, response) => asModel(request, response, fates))
  const windows = fates.map((_, index) => distinctWindow(index))
  const { results, failedCount } = await new InferenceClient(server.url).inferMany(windows)
  expect(results).toMatchObject(
    fates.map((fate, index) => (fate === 'ok' ? resultFor(windows[index]!) : { error: fate })),
  )
  expect(failedCount).toBe(fates.length - 2)
})

test('inferMany() gives a request without any result to each of its windows, and goes on', async () => {
  const server = await startServer((request, response) =>
    server.requests.length === 2
      ? refusal(429, 'overloaded', {})(request, response)
      : asModel(request, response),
  )
  const windows = Array.from({ length: 5 }, (_, index) => distinctWindow(index))
  const { results, failedCount } = await new InferenceClient(server.url).inferMany(windows, {
    windowsPerRequest: 2,
  })
  const errors = results.map(result => ('error' in result ? result.error : null))
  expect(errors).toEqual([null, null, 'overloaded', 'overloaded', null])
  expect(failedCount).toBe(2)
})

test.each([
  [401, 'unauthorized'],
  [413, 'body_too_large'],
  [500, 'internal_error'],
])('inferMany() rejects at a %i: that is not about the windows', async (status, code) => {
  const server = await startServer(refusal(status, code, {}))
  const promise = new InferenceClient(server.url).inferMany([distinctWindow(0)])
  expect(await failureOf(promise)).toMatchObject({ code, status })
})

test('health() and ready() read an answer with 200 and with 503, and reject at anything else', async () => {
  let status = 200
  const server = await startServer(({ url }, response) => {
    const bodies: Record<string, object> = {
      '/healthz': { ok: status === 200, mode: 'onnx', device: null },
      '/readyz': { ready: status === 200, reasons: status === 200 ? [] : ['warming'] },
    }
    response.writeHead(status).end(JSON.stringify(status === 404 ? { error: 'not_found' } : bodies[url!]))
  })
  const client = new InferenceClient(server.url)
  expect(await client.health()).toEqual({ ok: true, mode: 'onnx', device: null })
  expect(await client.ready()).toEqual({ ready: true, reasons: [] })
  status = 503
  expect(await client.health()).toMatchObject({ ok: false })
  expect(await client.ready()).toEqual({ ready: false, reasons: ['warming'] })
  status = 404
  expect(await failureOf(client.health())).toMatchObject({ code: 'not_found', status: 404 })
  expect(await failureOf(client.ready())).toMatchObject({ code: 'not_found' })
})

test('the package exports the client, and Node.js finds it by that name', async () => {
  const script = `console.log(Object.keys(await import('hailo-inference/client')).join())`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script])
  expect(stdout.trim().split(',')).toContain('InferenceClient')
})

// typed-binary's types name Float16Array, which is in no `lib` before esnext.
test.each([
  ['of Node.js', 'es2023', 'node'],
  ['of browsers', 'es2023,dom', ''],
])('the types of the client compile with those %s and no skipLibCheck', async (_, lib, types) => {
  const folder = await mkdtemp(join(PROJECT_FOLDER, 'dist', 'consumer-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const program = join(folder, 'consumer.ts')
  await writeFile(
    program,
    `import { InferenceClient, StreamClient, type StreamOptions } from 'hailo-inference/client'
    const options: StreamOptions = { mode: 'samples', hop: 50 }
    export const stream = new StreamClient('ws://server/stream', options)
    export const latent = new InferenceClient('http://server').infer(new Float32Array(900)).then(({ latent }) => latent)
    `,
  )
  const options = '--ignoreConfig --strict --noEmit --module nodenext --target es2022'.split(' ')
  const tsc = join(PROJECT_FOLDER, 'node_modules/typescript/bin/tsc')
  const compiled = promisify(execFile)(process.execPath, [
    tsc,
    ...options,
    '--lib',
    lib,
    '--types',
    types,
    program,
  ])
  expect(await compiled.catch(({ stdout }) => ({ stdout }))).toMatchObject({ stdout: '' })
})

const OCTETS = 'application/octet-stream'

interface Recorded {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

type Handler = (request: Recorded, response: ServerResponse) => void

/** Records each request, then lets `handle` answer it. */
async function startServer(handle: Handler) {
  const requests: Recorded[] = []
  const server = createServer(async (request, response) => {
    const { method, url, headers } = request
    const recorded = { method: method!, url: url!, headers, body: await buffer(request) }
    requests.push(recorded)
    handle(recorded, response.setHeader('X-Request-ID', `r-${requests.length}`))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const close = async () => {
    server.closeAllConnections()
    if (server.listening) await once(server.close(), 'close')
  }
  onTestFinished(close)
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, close }
}

/** Answers like `POST /infer`, with resultFor() for a model and what `fates` says for each window. */
function asModel({ headers, body }: Recorded, response: ServerResponse, fates: WindowStatus[] = []): void {
  response.setHeader('X-Inference-Backend', 'onnx').setHeader('X-Model-Sha256', '0123456789ab')
  response.setHeader('Server-Timing', 'queue;dur=1.250, infer;dur=0.500')
  if (headers['content-type'] === 'application/json') {
    const { latent, motifScores } = resultFor(Float32Array.from(JSON.parse(body.toString()).x.flat()))
    response.end(JSON.stringify({ latent: [...latent], motif_scores: [...motifScores] }))
    return
  }
  const windows = new Float32Array(new Uint8Array(body).buffer)
  const rows = Array.from({ length: windows.length / 900 }, (_, index) => {
    const status = WINDOW_STATUSES.indexOf(fates[index] ?? 'ok')
    if (status > 0) return new Uint8Array(new Uint32Array(76).fill(0x7fc00000 | status).buffer)
    const { latent, motifScores } = resultFor(windows.subarray(index * 900, (index + 1) * 900))
    return new Uint8Array(Float32Array.of(...latent, ...motifScores).buffer)
  })
  response.end(Buffer.concat(rows))
}

function refusal(status: number, error: string, headers: Record<string, string>): Handler {
  return (_request, response) =>
    void response.writeHead(status, headers).end(JSON.stringify({ error, detail: 'because' }))
}

/** A window that follows from its sequence alone and is like no other. */
function distinctWindow(sequence: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: 900 }, (_, value) => Math.fround(sequence + value / 1024))
}

/** What a model makes of a window: only its own values lead to it. */
function resultFor(window: Float32Array) {
  return {
    latent: Float32Array.from({ length: 64 }, (_, dim) => window[dim * 13]! / 2),
    motifScores: Float32Array.from({ length: 12 }, (_, motif) => window[motif * 71 + 5]! / 4),
  }
}

async function failureOf(promise: Promise<unknown>): Promise<InferenceError> {
  return promise.then(
    () => {
      throw new Error('it did not fail')
    },
    error => error,
  )
}
