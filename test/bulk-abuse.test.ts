import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { WINDOW_BYTES } from '../src/core/window.ts'
import { FAULTS } from './faults/faults.ts'
import {
  ask,
  bytesOf,
  Connection,
  headOf,
  JSON_TYPE,
  OCTET_STREAM,
  postWindow,
  rowsOf,
} from './http-client.ts'
import { distinctWindow, metric, startServerForTest, until } from './load.ts'
import { windowOf } from './windows.ts'

/** What an upload can do to others, by mistake or on purpose, and what it is told. */

const BINARY = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
const CHUNKED = { ...BINARY, 'Transfer-Encoding': 'chunked' }

/** The longest that a health check took while `work` was going on, ms, and the longest of as many without it. */
async function longestPause(
  port: number,
  work: () => Promise<unknown>,
): Promise<[during: number, idle: number]> {
  const longest = async (whileTrue: () => boolean) => {
    let longestMs = 0
    for (let asked = 0; asked < 20 || whileTrue(); asked++) {
      const startMs = performance.now()
      await ask({ port }, 'GET /readyz')
      longestMs = Math.max(longestMs, performance.now() - startMs)
    }
    return longestMs
  }
  const idle = await longest(() => false)
  let working = true
  const done = work().finally(() => {
    working = false
  })
  const during = await longest(() => working)
  await done
  return [during, idle]
}

test.each([
  ['a binary body', OCTET_STREAM, bytesOf(windowOf(0))],
  ['a JSON body', JSON_TYPE, Buffer.from(JSON.stringify({ windows: [rowsOf(windowOf(0))] }))],
])('%s in chunks of one byte stops nobody', async (_, type, window) => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub' })
  const body = Buffer.concat(Array.from({ length: Math.ceil(60_000 / window.length) }, () => window))
  const chunks = Buffer.concat(
    Array.from(body.subarray(0, 60_000), byte => Buffer.from([0x31, 13, 10, byte, 13, 10])),
  )
  const connection = await Connection.open({ port })
  connection.send(headOf('POST /infer', { ...CHUNKED, 'Content-Type': type }))
  const [during, idle] = await longestPause(port, async () => {
    connection.send(chunks, '0\r\n\r\n')
    expect((await connection.answer()).status).toBeLessThan(500)
  })
  expect(during).toBeLessThan(20 * idle + 250)
})

test.each([
  ['numbers', '1,'],
  ['empty windows', '[],'],
])('%s in place of windows are refused without keeping others from their turn', async (_, window) => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub' })
  const body = `{"windows":[${window.repeat(200_000)}1]}`
  const [during, idle] = await longestPause(port, async () => {
    const { status, json } = await ask({ port }, 'POST /infer', { body })
    expect(status).toBe(413)
    expect(json.detail).toMatch(/expected at most 10000/)
  })
  expect(during).toBeLessThan(20 * idle + 250)
})

test('a JSON body without end is refused with 413 when it is too long for its windows', async () => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub', MAX_WINDOWS_PER_REQUEST: '10' })
  const connection = await Connection.open({ port })
  connection.send(headOf('POST /infer', { 'Content-Type': JSON_TYPE, 'Transfer-Encoding': 'chunked' }))
  connection.send('7\r\n{"dog":\r\n')
  for (let chunk = 0; chunk < 11; chunk++) connection.send('10000\r\n', Buffer.alloc(0x10000, ' '), '\r\n')
  expect((await connection.answer()).status).toBe(413)
})

test.each([
  ['in JSON of a known length', JSON_TYPE, false],
  ['in JSON, chunked', JSON_TYPE, true],
  ['in binary, chunked', OCTET_STREAM, true],
])('several windows that come slowly %s are answered all the same', async (_, type, isChunked) => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub' })
  const windows = [0, 1, 2].map(windowOf)
  const body =
    type === JSON_TYPE
      ? Buffer.from(JSON.stringify({ windows: windows.map(rowsOf) }))
      : Buffer.concat(windows.map(bytesOf))
  const framing = isChunked ? { 'Transfer-Encoding': 'chunked' } : { 'Content-Length': body.length }
  const connection = await Connection.open({ port })
  connection.send(headOf('POST /infer', { 'Content-Type': type, ...framing }))
  const step = Math.ceil(body.length / 10)
  for (let at = 0; at < body.length; at += step) {
    const part = body.subarray(at, at + step)
    if (isChunked) connection.send(`${part.length.toString(16)}\r\n`, part, '\r\n')
    else connection.send(part)
    await sleep(20)
  }
  if (isChunked) connection.send('0\r\n\r\n')
  const { status, json } = await connection.answer()
  expect(status).toBe(200)
  expect(json.results).toHaveLength(3)
  expect(json.results[2]).toEqual((await postWindow({ port }, windowOf(2))).json)
})

test('an upload that is given up is not waited for again with every part of it', async () => {
  const { port } = await startServerForTest(
    { INFER_MODE: 'stub', WORKERS: '1', MAX_DEADLINE_MS: '1000', DEADLINE_MS: '1000' },
    { faults: true },
  )
  const connection = await Connection.open({ port }, { patienceMs: 10_000 })
  const hanging = Buffer.concat(
    Array.from({ length: 40 }, (_, at) => bytesOf(distinctWindow(at, FAULTS.block + 290))),
  )
  const startMs = performance.now()
  connection.send(
    headOf('POST /infer', { ...BINARY, 'X-Deadline-Ms': 500, 'Content-Length': 600 * WINDOW_BYTES }),
  )
  connection.send(hanging, Buffer.alloc(560 * WINDOW_BYTES))
  const answer = await connection.answer()
  expect(answer.status).toBeLessThan(505)
  // 600 windows are four parts and more; each would have waited for room behind 290 ms of work.
  expect(performance.now() - startMs).toBeLessThan(3000)
})

test('a drain answers an upload that is not complete: what came is told, what did not come has failed', async () => {
  const server = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1' })
  const connection = await Connection.open(server)
  connection.send(headOf('POST /infer', { ...BINARY, 'Content-Length': 5 * WINDOW_BYTES }))
  connection.send(bytesOf(windowOf(0)), bytesOf(windowOf(1)))
  await until(async () => (await metric(server.port, 'hailo_batch_size_sum')) === 2)
  const ended = server.stop('SIGTERM')
  const answer = await connection.answer()
  expect(answer.status).toBe(200)
  expect(answer.headers).toMatchObject({ 'x-windows-failed': '3', connection: 'close' })
  expect(answer.body).toHaveLength(5 * 304)
  expect(await ended).toBe(0)
})
