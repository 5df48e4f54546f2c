import { setImmediate as nextTurn } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { OnePerTurn } from '../src/http/v2/one-per-turn.ts'
import { decodeRequest, Undecodable } from '../src/http/v2/tensors.ts'
import { ask } from './http-client.ts'
import { distinctWindow, startServerForTest } from './load.ts'
import { inferJson, jsonRequestOf, MODEL, outputsOf } from './v2.ts'
import { windowOf } from './windows.ts'

const ROUTE = `POST ${MODEL}/infer`
const LARGEST_BODY = 2 * 1024 * 1024
/** Live windows have 40 ms. A good batch of 64 takes some 15 ms; what is refused must not take longer. */
const LONGEST_DECODE_MS = 40

const head = '{"inputs":[{"name":"imu_window","datatype":"FP32","shape":[1,100,9],"data":'
const filled = (item: string) => item.repeat(Math.floor((LARGEST_BODY - 200) / item.length)).slice(0, -1)

test.each([
  ['nothing but brackets', '['.repeat(LARGEST_BODY), /nested deeper than 8/],
  ['brackets all over', `{"id":${'['.repeat(1e6)}${']'.repeat(1e6)}}`, /nested deeper than 8/],
  ['braces', `${'{"a":'.repeat(300_000)}1${'}'.repeat(300_000)}`, /nested deeper than 8/],
  ['rows of nothing', `${head}[${filled('[],')}]}]}`, /more than \d+ values/],
  ['numbers', `${head}[${filled('0,')}]}]}`, /more than \d+ values/],
  ['objects', `{"inputs":[${filled('{},')}]}`, /more than \d+ values/],
  ['a text without an end', `{"id":"${'['.repeat(1e6)}`, /not valid JSON/],
  ['escapes without an end', `{"id":"${'\\'.repeat(1e6 + 1)}`, /not valid JSON/],
])('a request of %s is refused before it is parsed', (_, text, why) => {
  const body = Buffer.from(text)
  let tookMs = Number.POSITIVE_INFINITY
  for (let n = 0; n < 10; n++) {
    const startedMs = performance.now()
    expect(failureOf(() => decodeRequest(body, '', 64))).toMatch(why)
    tookMs = Math.min(tookMs, performance.now() - startedMs)
  }
  expect(tookMs).toBeLessThan(LONGEST_DECODE_MS)
})

test('brackets, commas and quotes in texts are no values', () => {
  const id = `${'[{,'.repeat(200)}"\\${']}'.repeat(100)}\\\\"`
  const body = Buffer.from(jsonRequestOf([windowOf(0)], { id }))
  expect(decodeRequest(body, '', 64)).toMatchObject({ id, count: 1 })
})

test.each([undefined, 1])('a batch of 64 is decoded, indented by %o', indent => {
  const windows = Array.from({ length: 64 }, (_, n) => windowOf(n))
  const document = JSON.parse(jsonRequestOf(windows, { parameters: { a: { b: [[1]] } } }))
  const { count, windows: bytes } = decodeRequest(Buffer.from(JSON.stringify(document, null, indent)), '', 64)
  expect(count).toBe(64)
  expect(new Float32Array(bytes.slice(63 * 3600).buffer)).toEqual(windowOf(63))
})

test('a bomb of brackets in gzip is 400', async () => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1', MAX_DEADLINE_MS: '5000' })
  const body = gzipSync(`{"id":${'['.repeat(1e6)}${']'.repeat(1e6)}}`)
  const { status, json } = await ask({ port }, ROUTE, { headers: { 'Content-Encoding': 'gzip' }, body })
  expect({ status, json }).toEqual({ status: 400, json: { error: expect.stringMatching(/nested deeper/) } })
})

test('OnePerTurn lets the event loop turn between two of them, and keeps their order', async () => {
  const queue = new OnePerTurn()
  const done: number[] = []
  for (const n of [0, 1, 2]) queue.run(() => done.push(n))
  expect(done).toEqual([])
  for (const n of [1, 2, 3]) {
    await nextTurn()
    expect(done).toHaveLength(n)
  }
  expect(done).toEqual([0, 1, 2])
  queue.run(() => done.push(3))
  await nextTurn()
  expect(done).toEqual([0, 1, 2, 3])
})

test('large batches that come at once each get their own results', async () => {
  const server = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: '5000' })
  const batches = Array.from({ length: 6 }, (_, batch) =>
    Array.from({ length: 40 }, (_, n) => distinctWindow(batch * 40 + n)),
  )
  expect(jsonRequestOf(batches[0]!).length).toBeGreaterThan(256 * 1024)
  const request = { parameters: { timeout: 5_000_000, priority: 2 } }
  const alone = []
  for (const windows of batches) alone.push(outputsOf(await inferJson(server, windows, { request })))
  const together = await Promise.all(batches.map(windows => inferJson(server, windows, { request })))
  expect(together.map(outputsOf)).toEqual(alone)
})

function failureOf(decode: () => unknown): string | null {
  try {
    decode()
    return null
  } catch (error) {
    if (!(error instanceof Undecodable)) throw error
    return error.failure.detail
  }
}
