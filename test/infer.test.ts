import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { cosineOf, topOf } from '../src/core/golden.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import {
  ask,
  bytesOf,
  Connection,
  headOf,
  JSON_TYPE,
  jsonOf,
  OCTET_STREAM,
  postOf,
  postWindow,
  resultOf,
  rowsOf,
} from './http-client.ts'
import { startServer, type TestServer } from './server.ts'
import { GOLDEN, MOTIF_COUNT, windowOf } from './windows.ts'

/** Long enough for a machine that does other things too. */
const DEADLINE_MS = 1000

let server: TestServer
beforeAll(async () => {
  server = await startServer({
    WORKERS: '1',
    DEADLINE_MS: String(DEADLINE_MS),
    MAX_DEADLINE_MS: String(DEADLINE_MS),
    CONFIG_VERSION: 'spring 3',
  })
})
afterAll(() => server.stop())

test.each([
  [JSON_TYPE, JSON_TYPE],
  [JSON_TYPE, OCTET_STREAM],
  [OCTET_STREAM, JSON_TYPE],
  [OCTET_STREAM, OCTET_STREAM],
])(
  'POST /infer takes %s, gives %s and agrees with the trained model on every golden window',
  async (type, accept) => {
    for (let n = 0; n < GOLDEN.count; n++) {
      const answer = await postWindow(server, windowOf(n), { 'Content-Type': type, Accept: accept })
      expect(answer.status).toBe(200)
      expect(answer.headers['content-type']).toBe(accept)
      const result = resultOf(answer)
      expect(result).toHaveLength(LATENT_DIMS + MOTIF_COUNT)
      const latent = GOLDEN.latents.subarray(n * LATENT_DIMS, (n + 1) * LATENT_DIMS)
      expect(cosineOf(result.subarray(0, LATENT_DIMS), latent)).toBeGreaterThanOrEqual(0.9999)
      const motifScores = GOLDEN.motifScores.subarray(n * MOTIF_COUNT, (n + 1) * MOTIF_COUNT)
      expect(topOf(result.subarray(LATENT_DIMS))).toBe(topOf(motifScores))
    }
  },
)

test('POST /infer answers with latent and motif_scores and nothing else', async () => {
  const { json } = await postWindow(server, windowOf(0))
  expect(Object.keys(json)).toEqual(['latent', 'motif_scores'])
  expect(json.latent).toHaveLength(64)
  expect(json.motif_scores).toHaveLength(12)
  expect(json.motif_scores.reduce((sum: number, score: number) => sum + score)).toBeCloseTo(1, 5)
})

test('POST /infer gives the same numbers as 304 bytes, latent first, as it gives as JSON', async () => {
  const { json } = await postWindow(server, windowOf(1))
  const { body, headers } = await postWindow(server, windowOf(1), { Accept: OCTET_STREAM })
  expect(body).toHaveLength(304)
  expect(headers['content-length']).toBe('304')
  const values = Array.from({ length: 76 }, (_, value) => body.readFloatLE(value * 4))
  expect(values).toEqual([...json.latent, ...json.motif_scores].map(Math.fround))
})

test.each(['/infer/infer', '/', '/infer?from=collar'])('POST %s is POST /infer', async path => {
  const body = jsonOf(windowOf(2))
  const { status, json } = await ask(server, `POST ${path}`, { body })
  expect(status).toBe(200)
  expect(json).toEqual((await postWindow(server, windowOf(2))).json)
})

test.each([
  [{}, JSON_TYPE],
  [{ Accept: '*/*' }, JSON_TYPE],
  [{ Accept: 'application/json' }, JSON_TYPE],
  [{ Accept: 'text/html' }, JSON_TYPE],
  [{ Accept: 'application/json, application/octet-stream' }, JSON_TYPE],
  [{ Accept: 'application/octet-stream, application/json;q=0.5' }, OCTET_STREAM],
  [{ Accept: 'application/octet-stream;q=0.9, */*;q=0.1' }, OCTET_STREAM],
  [{ Accept: 'application/octet-stream;q=0.1, application/json' }, JSON_TYPE],
  [{ Accept: 'application/octet-stream;q=0' }, JSON_TYPE],
  [{ Accept: 'Application/Octet-Stream' }, OCTET_STREAM],
] as [Record<string, string>, string][])('POST /infer with %o gives %s', async (headers, type) => {
  const answer = await postWindow(server, windowOf(0), headers)
  expect(answer.headers['content-type']).toBe(type)
  expect(resultOf(answer)).toHaveLength(76)
})

test.each([
  ['no Content-Type', {}, jsonOf(windowOf(3))],
  ['a charset', { 'Content-Type': 'application/json; charset=utf-8' }, jsonOf(windowOf(3))],
  ['capitals', { 'Content-Type': 'Application/JSON;Charset=UTF-8' }, jsonOf(windowOf(3))],
  ['a parameter', { 'Content-Type': 'application/octet-stream; channels=9' }, bytesOf(windowOf(3))],
  ['no Content-Length but chunks', { 'Transfer-Encoding': 'chunked' }, jsonOf(windowOf(3))],
  ['indentation', {}, JSON.stringify({ x: rowsOf(windowOf(3)) }, null, 4)],
  [
    'keys of its own beside x',
    {},
    JSON.stringify({ device: { id: 7 }, imu_window: [], x: rowsOf(windowOf(3)), timestamp: '2026-11-21' }),
  ],
] as [string, Record<string, string>, string | Uint8Array][])(
  'POST /infer takes a body with %s',
  async (_, headers, body) => {
    const { status, json } = await ask(server, 'POST /infer', { headers, body })
    expect(status).toBe(200)
    expect(json).toEqual((await postWindow(server, windowOf(3))).json)
  },
)

test('POST /infer puts a body together from many TCP segments and many chunks', async () => {
  const expected = (await postWindow(server, windowOf(4))).json
  const connection = await Connection.open(server)
  await connection.sendInSegments(postOf(jsonOf(windowOf(4)), { 'Content-Type': JSON_TYPE }), 97)
  expect((await connection.answer()).json).toEqual(expected)
  await connection.sendInSegments(postOf(bytesOf(windowOf(4)), { 'Content-Type': OCTET_STREAM }), 23)
  expect((await connection.answer()).json).toEqual(expected)

  connection.send(headOf('POST /infer', { 'Content-Type': OCTET_STREAM, 'Transfer-Encoding': 'chunked' }))
  const bytes = bytesOf(windowOf(4))
  for (let at = 0; at < bytes.length; at += 400) {
    connection.send('190\r\n', bytes.subarray(at, at + 400), '\r\n') // 0x190 is 400
  }
  connection.send('0\r\n\r\n')
  expect((await connection.answer()).json).toEqual(expected)
})

test('POST /infer asks for the body of a client that waits to be told to continue', async () => {
  const connection = await Connection.open(server)
  const headers = { 'Content-Type': OCTET_STREAM, 'Content-Length': 3600, Expect: '100-continue' }
  connection.send(headOf('POST /infer', headers))
  expect((await connection.answer()).status).toBe(100)
  connection.send(bytesOf(windowOf(5)))
  expect((await connection.answer()).status).toBe(200)
})

test('pipelined requests that need no worker are answered in their order', async () => {
  const connection = await Connection.open(server)
  const ids = ['a', 'b', 'c', 'd', 'e', 'f']
  const requests = ids.map((id, index) =>
    index % 2 === 0
      ? postOf('{}', { 'X-Request-ID': id })
      : Buffer.from(headOf('GET /readyz', { 'X-Request-ID': id })),
  )
  connection.send(Buffer.concat(requests))
  for (const [index, id] of ids.entries()) {
    const { status, headers } = await connection.answer()
    expect(headers['x-request-id']).toBe(id)
    expect(status).toBe(index % 2 === 0 ? 400 : 200)
  }
})

// uWebSockets ends a connection that sends a request before the one in a worker's hands is answered.
test('a window pipelined behind another costs its own connection and nobody else', async () => {
  const other = await Connection.open(server)
  const connection = await Connection.open(server)
  const post = postOf(jsonOf(windowOf(6)))
  connection.send(Buffer.concat([post, post]))
  expect(await connection.rest()).toBe('')
  other.send(post)
  expect((await other.answer()).status).toBe(200)
})

test('every inference answer tells who answered, for which request, and how long it took', async () => {
  const ids = { 'X-Request-ID': 'req-0001', 'X-Correlation-ID': 'walk/42' }
  const { headers } = await postWindow(server, windowOf(0), ids)
  const { hef_sha256 } = (await ask(server, 'GET /healthz')).json
  expect(headers).toMatchObject({
    'x-request-id': 'req-0001',
    'x-correlation-id': 'walk/42',
    'x-inference-backend': 'onnx',
    'x-model-sha256': hef_sha256.slice(0, 12),
    'x-config-version': 'spring 3',
    'server-timing': expect.stringMatching(/^queue;dur=\d+\.\d+, infer;dur=\d+\.\d+$/),
  })
  expect(headers['x-model-sha256']).toMatch(/^[0-9a-f]{12}$/)

  const refused = await ask(server, 'POST /infer', { headers: ids, body: '{}' })
  const provenance = Object.entries(headers).filter(([name]) => name.startsWith('x-'))
  expect(refused.headers).toMatchObject(Object.fromEntries(provenance))
})

test('requests without an id get one each', async () => {
  const answers = await Promise.all([0, 1, 2].map(n => postWindow(server, windowOf(n))))
  const ids = answers.map(({ headers }) => headers['x-request-id'])
  expect(new Set(ids).size).toBe(3)
  for (const { headers } of answers) {
    expect(headers['x-request-id']).toMatch(/^[\w-]{1,128}$/)
    expect(headers['x-correlation-id']).toBeUndefined()
  }
})

test.each([
  ['of 129 characters', 'a'.repeat(129)],
  ['with a space', 'a b'],
  ['with a tab', 'a\tb'],
  ['beyond ASCII', 'caf\u00e9-1'],
])('an id %s is not echoed', async (_, id) => {
  const headers = { 'X-Request-ID': id, 'X-Correlation-ID': id }
  const answer = await postWindow(server, windowOf(0), headers)
  expect(answer.status).toBe(200)
  expect(answer.headers['x-request-id']).toMatch(/^[\w-]{1,128}$/)
  expect(answer.headers['x-correlation-id']).toBeUndefined()
})

test.each(['soon', '0', '-5', 'NaN', '40 ms', '40,50'])(
  'X-Deadline-Ms: %s is refused in words',
  async deadline => {
    const { status, json } = await postWindow(server, windowOf(0), { 'X-Deadline-Ms': deadline })
    expect(status).toBe(400)
    expect(json.error).toBe('invalid_request')
    expect(json.detail).toMatch(/X-Deadline-Ms.*expected a number of milliseconds above 0/)
  },
)

test.each(['900', '899.5', '60000', '1e9'])('X-Deadline-Ms: %s is a deadline to meet', async deadline => {
  expect((await postWindow(server, windowOf(0), { 'X-Deadline-Ms': deadline })).status).toBe(200)
})

test('X-Deadline-Ms that has passed is answered deadline_exceeded', async () => {
  const { status, json } = await postWindow(server, windowOf(0), { 'X-Deadline-Ms': '0.0001' })
  expect(status).toBe(504)
  expect(json.error).toBe('deadline_exceeded')
})

test('X-Deadline-Ms above the maximum means the maximum', async () => {
  const connection = await Connection.open(server)
  const post = postOf(jsonOf(windowOf(0)), { 'X-Deadline-Ms': 60_000 })
  connection.send(post.subarray(0, 5000))
  await sleep(DEADLINE_MS + 100)
  connection.send(post.subarray(5000))
  const { status, json } = await connection.answer()
  expect(status).toBe(504)
  expect(json.detail).toContain(`${DEADLINE_MS}.0 ms`)
})

test('an error comes as problem+json to those who ask for it', async () => {
  const headers = { Accept: 'application/problem+json, application/json', 'X-Request-ID': 'p-1' }
  const answer = await ask(server, 'POST /infer', { headers, body: '{}' })
  expect(answer.headers['content-type']).toBe('application/problem+json')
  expect(answer.json).toEqual({
    type: 'about:blank',
    title: 'Bad Request',
    status: 400,
    error: 'invalid_window',
    detail: expect.stringContaining('no key "x"'),
    model_available: true,
    request_id: 'p-1',
  })
})

const rows = rowsOf(windowOf(0))
const withRow = (step: number, row: unknown) => JSON.stringify({ x: rows.with(step, row as number[]) })
const withValue = (step: number, channel: number, value: unknown) =>
  withRow(step, rows[step]!.with(channel, value as number))
/** JSON has no infinity, but 1e999 reads as one. */
const infinite = withValue(99, 0, 7e77).replace('7e+77', '1e999')

test.each([
  ['a window of 99 rows', JSON.stringify({ x: rows.slice(1) }), /it has 99 rows, expected 100/],
  ['a row of 8 channels', withRow(37, rows[0]!.slice(1)), /row 37 has 8 channels, expected 9/],
  ['a row that is a number', withRow(0, 9.81), /row 0 is a number, expected an array of 9 numbers/],
  ['a numeric string', withValue(4, 2, '9.81'), /row 4 channel 2 \(az\) is a string, expected a number/],
  ['a boolean', withValue(4, 3, true), /row 4 channel 3 \(gx\) is a boolean, expected a number/],
  ['null for NaN', withValue(99, 8, Number.NaN), /row 99 channel 8 \(mz\) is null, expected a number/],
  ['an infinite value', infinite, /row 99 channel 0 \(ax\) is Infinity, expected a finite number/],
  ['501 m/s²', withValue(50, 1, 501), /row 50 channel 1 \(ay\) is 501, expected .* -500 to 500 m\/s²/],
  ['-36 rad/s', withValue(50, 5, -36), /row 50 channel 5 \(gz\) is -36, expected .* -35 to 35 rad\/s/],
  ['2001 µT', withValue(50, 6, 2001), /row 50 channel 6 \(mx\) is 2001, expected .* -2000 to 2000 µT/],
  ['no x', '{"X":[]}', /no key "x", expected/],
  ['an object for x', '{"x":{"length":100}}', /got an object, expected an array of 100 rows/],
  ['rows without a key', JSON.stringify(rows), /no key "x", expected/],
  ['null', 'null', /no key "x", expected/],
  ['no body', '', /body of 0 bytes is not valid JSON, expected/],
  ['half a body', jsonOf(windowOf(0)).slice(0, 9000), /body of 9000 bytes is not valid JSON, expected/],
])('POST /infer refuses %s and says where it is and what belongs there', async (_, body, detail) => {
  const { status, json } = await ask(server, 'POST /infer', { body })
  expect(status).toBe(400)
  expect(json.error).toBe('invalid_window')
  expect(json.detail).toMatch(detail)
})

const twoWindows = bytesOf(GOLDEN.windows.subarray(0, 1800))
const withNaN = windowOf(0).with(899, Number.NaN)
test.each([
  ['3599 bytes', twoWindows.subarray(0, 3599), /body has 3599 bytes, expected 3600/],
  ['3601 bytes', twoWindows.subarray(0, 3601), /body has 3601 bytes, expected 3600/],
  ['NaN', bytesOf(withNaN), /row 99 channel 8 \(mz\) is NaN, expected a finite number/],
])('POST /infer refuses an octet-stream of %s', async (_, body, detail) => {
  const { status, json } = await ask(server, 'POST /infer', {
    headers: { 'Content-Type': OCTET_STREAM },
    body,
  })
  expect(status).toBe(400)
  expect(json.error).toBe('invalid_window')
  expect(json.detail).toMatch(detail)
})

test('no answer repeats what the client wrote', async () => {
  const word = 'tr0ub4dor'
  const answers = await Promise.all([
    ask(server, 'POST /infer', { body: word }),
    ask(server, 'POST /infer', { body: JSON.stringify({ [word]: word }) }),
    ask(server, 'POST /infer', { body: JSON.stringify({ x: word }) }),
    ask(server, 'POST /infer', { body: withRow(3, word) }),
    ask(server, 'POST /infer', { body: withValue(3, 3, word) }),
    ask(server, 'POST /infer', { body: word, headers: { 'Content-Type': `text/${word}` } }),
    ask(server, 'POST /infer', { body: word, headers: { 'X-Deadline-Ms': word } }),
    ask(server, 'POST /infer', { body: word, headers: { 'X-Request-ID': `${word} ${word}` } }),
    ask(server, `GET /${word}?${word}`, { headers: { 'X-Api-Key': word, Accept: word, Origin: word } }),
  ])
  for (const { status, headers, body } of answers) {
    expect(status).toBeGreaterThanOrEqual(400)
    expect(JSON.stringify(headers) + body).not.toContain(word)
  }
})
