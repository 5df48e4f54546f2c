import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { WINDOW_BYTES } from '../src/core/window.ts'
import { WINDOW_STATUSES } from '../src/http/frame.ts'
import { FAULTS } from './faults/faults.ts'
import {
  ask,
  bytesOf,
  Connection,
  headOf,
  JSON_TYPE,
  OCTET_STREAM,
  postWindow,
  resultOf,
  rowsOf,
} from './http-client.ts'
import {
  distinctWindow,
  metric,
  Connection as PostConnection,
  residentMegabytes,
  startServerForTest,
  until,
  untilInFlight,
  windowsRun,
} from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { GOLDEN, windowOf } from './windows.ts'

const BINARY = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
const ROW_BYTES = 304

let server: TestServer
/** What the single route answers to each golden window: float32[64][76] as bytes. */
let singly: Buffer
beforeAll(async () => {
  server = await startServer({ LOG_LEVEL: 'fatal', WORKERS: '2' })
  const rows: Uint8Array[] = []
  for (let window = 0; window < 64; window++)
    rows.push((await postWindow(server, windowOf(window), BINARY)).body)
  singly = Buffer.concat(rows)
})

afterAll(() => server.stop())

/** Windows one behind the other. */
function joined(windows: readonly Float32Array[]): Buffer {
  return Buffer.concat(windows.map(bytesOf))
}

/** `count` golden windows, over and over. */
function golden(count: number): Buffer {
  const all = bytesOf(GOLDEN.windows)
  return Buffer.concat(Array.from({ length: Math.ceil(count / 64) }, () => all)).subarray(
    0,
    count * WINDOW_BYTES,
  )
}

function rowOf(body: Buffer, window: number): Buffer {
  return body.subarray(window * ROW_BYTES, (window + 1) * ROW_BYTES)
}

/** The status that a row carries in place of a result. */
function statusOf(row: Buffer): string {
  const words = Array.from({ length: ROW_BYTES / 4 }, (_, at) => row.readUInt32LE(at * 4))
  expect(new Set(words).size).toBe(1)
  expect(words[0]! & ~0xff).toBe(0x7fc00000)
  return WINDOW_STATUSES[words[0]! & 0xff]!
}

describe('windows in, results out, in the same order', () => {
  test('octet-stream both ways gives bit by bit what single posts give', async () => {
    const answer = await ask(server, 'POST /infer', { headers: BINARY, body: golden(64) })
    expect(answer.status).toBe(200)
    expect(answer.headers).toMatchObject({
      'content-type': OCTET_STREAM,
      'x-windows-failed': '0',
      'x-inference-backend': 'onnx',
      'x-model-sha256': expect.stringMatching(/^[0-9a-f]{12}$/),
      'server-timing': expect.stringMatching(/^queue;dur=[\d.]+, infer;dur=[\d.]+$/),
    })
    expect(answer.body.equals(singly)).toBe(true)
  })

  test.each(['JSON to JSON', 'JSON to octet-stream', 'octet-stream to JSON'])('%s', async kind => {
    const [from, to] = kind.split(' to ').map(type => (type === 'JSON' ? JSON_TYPE : OCTET_STREAM))
    const windows = Array.from({ length: 64 }, (_, window) => rowsOf(windowOf(window)))
    const body = from === JSON_TYPE ? JSON.stringify({ dog: 'Rex', windows }) : golden(64)
    const answer = await ask(server, 'POST /infer', { headers: { 'Content-Type': from!, Accept: to! }, body })
    expect(answer.status).toBe(200)
    if (to === OCTET_STREAM) return expect(answer.body.equals(singly)).toBe(true)
    expect(answer.json.failed).toBe(0)
    const rows = answer.json.results.map((json: object) => Buffer.from(resultOf({ ...answer, json }).buffer))
    expect(Buffer.concat(rows).equals(singly)).toBe(true)
  })

  test('a JSON body that is small enough for one window may hold several', async () => {
    const windows = [3, 1, 2].map(window => rowsOf(windowOf(window)))
    const { status, json } = await ask(server, 'POST /infer', { body: JSON.stringify({ windows }) })
    expect(status).toBe(200)
    expect(json.results).toHaveLength(3)
    const single = await postWindow(server, windowOf(3))
    expect(json.results[0]).toEqual(single.json)
  })

  test.each([1, 7, 3599, 3601, 65_536])('in segments of %d bytes', async segmentBytes => {
    const count = segmentBytes === 1 ? 2 : 64
    const body = golden(count)
    const connection = await Connection.open(server)
    connection.send(headOf('POST /infer', { ...BINARY, 'Content-Length': body.length }))
    await connection.sendInSegments(body, segmentBytes)
    const answer = await connection.answer()
    expect(answer.status).toBe(200)
    expect(answer.body.equals(singly.subarray(0, count * ROW_BYTES))).toBe(true)
  })

  test('a chunked body of unknown length', async () => {
    const connection = await Connection.open(server)
    connection.send(headOf('POST /infer', { ...BINARY, 'Transfer-Encoding': 'chunked' }))
    const body = golden(64)
    for (let at = 0; at < body.length; at += 10_000) {
      const chunk = body.subarray(at, at + 10_000)
      connection.send(`${chunk.length.toString(16)}\r\n`, chunk, '\r\n')
    }
    connection.send('0\r\n\r\n')
    expect((await connection.answer()).body.equals(singly)).toBe(true)
  })

  test.each([JSON_TYPE, OCTET_STREAM])('10,000 windows, answered as %s', async type => {
    const answer = await ask(server, 'POST /infer', {
      headers: { ...BINARY, Accept: type },
      body: golden(10_000),
    })
    expect(answer.status).toBe(200)
    if (type === JSON_TYPE) {
      expect(answer.json.results).toHaveLength(10_000)
      expect(answer.json.results[9999]).toEqual(answer.json.results[9999 % 64])
    } else {
      for (let window = 0; window < 10_000; window++) {
        if (!rowOf(answer.body, window).equals(rowOf(singly, window % 64))) expect.fail(`window ${window}`)
      }
    }
  })
})

describe('one bad window does not spoil the others', () => {
  const windows = [0, 1, 2, 3].map(windowOf)
  windows[1] = windowOf(1).with(17, Number.NaN)
  windows[3] = windowOf(3).with(0, 501)

  test('as octet-stream its row carries why', async () => {
    const answer = await ask(server, 'POST /infer', { headers: BINARY, body: joined(windows) })
    expect(answer.status).toBe(200)
    expect(answer.headers['x-windows-failed']).toBe('2')
    for (const good of [0, 2]) expect(rowOf(answer.body, good).equals(rowOf(singly, good))).toBe(true)
    for (const bad of [1, 3]) expect(statusOf(rowOf(answer.body, bad))).toBe('invalid_window')
  })

  test('as JSON it says why in words', async () => {
    const body = JSON.stringify({ windows: [...windows.slice(0, 3).map(rowsOf), 'window', [[1]]] })
    const { status, json } = await ask(server, 'POST /infer', { body })
    expect(status).toBe(200)
    expect(json.failed).toBe(3)
    expect(json.results.map((result: { error?: string }) => result.error ?? 'ok')).toEqual([
      'ok',
      'invalid_window',
      'ok',
      'invalid_window',
      'invalid_window',
    ])
    expect(json.results[1].detail).toMatch(/row 1 channel 8 \(mz\) is null, expected a number/)
  })

  test('when all are bad the answer is an error like any other', async () => {
    const errors = await metric(server.port, 'hailo_inference_errors_total', 'invalid_window')
    const { status, json } = await ask(server, 'POST /infer', {
      headers: BINARY,
      body: joined([windows[1]!, windows[3]!]),
    })
    expect(status).toBe(400)
    expect(json).toMatchObject({
      error: 'invalid_window',
      detail: expect.stringMatching(/^None of 2 windows has a result. The first: .*row 1 channel 8/),
    })
    expect(await metric(server.port, 'hailo_inference_errors_total', 'invalid_window')).toBe(errors + 2)
  })
})

describe('what is wrong with the whole', () => {
  /** Too many for one window's body. */
  const MANY_WINDOWS = Array.from({ length: 20 }, () => JSON.stringify(rowsOf(windowOf(0)))).join()

  test.each<[string, string, Record<string, string>, string | Uint8Array]>([
    ['half a window more', 'has 9000 bytes, expected 3600 ', BINARY, golden(3).subarray(0, 9000)],
    ['no window', 'there are none', {}, '{"windows":[]}'],
    ['windows that are no array', 'unexpected character before a value', {}, '{"windows":{"0":[]}}'],
    ['a body that ends early', 'ends in a window', {}, `{"windows":[${MANY_WINDOWS},[[`],
    [
      'a body that goes on behind its end',
      'behind the object',
      {},
      `{"windows":[[]]}${' '.repeat(300_000)}]`,
    ],
  ])('%s is refused', async (_, detail, headers, body) => {
    const { status, json } = await ask(server, 'POST /infer', { headers, body })
    expect(status).toBe(400)
    expect(json.error).toBe('invalid_window')
    expect(json.detail).toContain(detail)
  })

  test('more windows than allowed are refused with 413, by what is declared or when they come', async () => {
    const { port } = await startServerForTest({ MAX_WINDOWS_PER_REQUEST: '80' })
    const declared = await ask({ port }, 'POST /infer', { headers: BINARY, body: golden(81) })
    expect(declared.status).toBe(413)
    expect(declared.json.detail).toMatch(/expected at most 80/)
    expect((await ask({ port }, 'POST /infer', { headers: BINARY, body: golden(80) })).status).toBe(200)

    const connection = await Connection.open({ port })
    connection.send(headOf('POST /infer', { ...BINARY, 'Transfer-Encoding': 'chunked' }))
    connection.send(`${(81 * WINDOW_BYTES).toString(16)}\r\n`, golden(81), '\r\n0\r\n\r\n')
    expect((await connection.answer()).status).toBe(413)
    await untilInFlight(port, 0)
  })
})

describe('uploads beside others', () => {
  test('a slow upload holds no slots, and one that stops is given up', async () => {
    const connection = await Connection.open(server)
    connection.send(headOf('POST /infer', { ...BINARY, 'Content-Length': 10 * WINDOW_BYTES }))
    const body = golden(10)
    for (let at = 0; at < 5 * WINDOW_BYTES; at += 1800) {
      connection.send(body.subarray(at, at + 1800))
      await sleep(20)
    }
    await untilInFlight(server.port, 0)
    expect((await postWindow(server, windowOf(1))).status).toBe(200)
    const answer = await connection.answer()
    expect(answer.status).toBe(504)
    expect(answer.json.detail).toMatch(/^The body brought 18000 bytes in 7000 ms, expected 114688 or more$/)
  })

  test('a client that goes takes its windows with it', async () => {
    const { port } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1' }, { faults: true })
    const cancelled = () => metric(port, 'hailo_cancelled_total')
    const connection = await Connection.open({ port })
    const body = joined(Array.from({ length: 40 }, (_, at) => distinctWindow(at, FAULTS.block + 50)))
    connection.send(headOf('POST /infer', { ...BINARY, 'Content-Length': 50 * WINDOW_BYTES }), body)
    await until(async () => (await metric(port, 'hailo_queue_depth')) > 2)
    connection.close()
    await until(async () => (await cancelled()) > 0)
    await untilInFlight(port, 0)
    expect((await postWindow({ port }, windowOf(0), { 'X-Deadline-Ms': '1000' })).status).toBe(200)
  })

  test('X-Deadline-Ms bounds the whole: what is not done by then fails, what is done stays', async () => {
    const { port } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1' }, { faults: true })
    const body = joined(Array.from({ length: 40 }, (_, at) => distinctWindow(at, FAULTS.block + 60)))
    const answer = await ask({ port }, 'POST /infer', {
      headers: { ...BINARY, 'X-Deadline-Ms': '1000' },
      body,
    })
    expect(answer.status).toBe(200)
    const failed = Number(answer.headers['x-windows-failed'])
    expect(failed).toBeGreaterThan(10)
    expect(failed).toBeLessThan(40)
    expect(statusOf(rowOf(answer.body, 39))).toBe('deadline_exceeded')
    expect(rowOf(answer.body, 0).readFloatLE(0)).not.toBeNaN()
  })

  test('an upload gets on, slowly, beside live traffic that leaves no room', async () => {
    const { port } = await startServerForTest(
      { INFER_MODE: 'stub', WORKERS: '1', RING_SLOTS: '8', DEADLINE_MS: '1000' },
      { faults: true },
    )
    let more = true
    const live = Array.from({ length: 12 }, async (_, client) => {
      const connection = new PostConnection(port)
      while (more) {
        const { status } = await connection.post(distinctWindow(client, FAULTS.block + 5))
        if (status === 429) await sleep(5)
      }
      connection.close()
    })
    await untilInFlight(port, 8)
    const upload = () => ask({ port }, 'POST /infer', { headers: BINARY, body: golden(12) })
    let answer = await upload()
    // On a machine that stands still for a moment it is overload, and an upload is told to come back.
    while (answer.status === 429) {
      await sleep(100)
      answer = await upload()
    }
    more = false
    expect(answer.status).toBe(200)
    expect(answer.headers['x-windows-failed']).toBe('0')
    await Promise.all(live)
  })

  test('so many uploads at once, and no more: the next is told when to come back', async () => {
    const { port } = await startServerForTest({ INFER_MODE: 'stub' })
    const head = headOf('POST /infer', { ...BINARY, 'Content-Length': 2 * WINDOW_BYTES })
    const uploads = await Promise.all(Array.from({ length: 32 }, () => Connection.open({ port })))
    for (const upload of uploads) upload.send(head, golden(1))
    await until(async () => (await metric(port, 'hailo_batch_size_sum')) === 32)
    const refused = await ask({ port }, 'POST /infer', { headers: BINARY, body: golden(2) })
    expect(refused.status).toBe(429)
    expect(refused.headers['retry-after']).toBe('1')
    for (const upload of uploads) upload.send(golden(1))
    for (const upload of uploads) expect((await upload.answer()).status).toBe(200)
    expect((await ask({ port }, 'POST /infer', { headers: BINARY, body: golden(2) })).status).toBe(200)
  })

  test('a server that drains answers what an upload has in flight, and fails the rest in words', async () => {
    const draining = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1' }, { faults: true })
    const { port } = draining
    const body = joined(Array.from({ length: 60 }, (_, at) => distinctWindow(at, FAULTS.block + 50)))
    const upload = ask({ port }, 'POST /infer', { headers: BINARY, body })
    await until(async () => (await metric(port, 'hailo_queue_depth')) > 2)
    const ended = draining.stop('SIGTERM')
    const answer = await upload
    expect(answer.status).toBe(200)
    const statuses = Array.from({ length: 60 }, (_, at) => rowOf(answer.body, at)).map(row =>
      Number.isNaN(row.readFloatLE(0)) ? statusOf(row) : 'ok',
    )
    expect(new Set(statuses)).toEqual(new Set(['ok', 'draining']))
    expect(await ended).toBe(0)
  })

  // At the pace of a network, until it is paused: a sender on the same host can be faster than that, docs/architecture.md, limits.
  test('an upload stays with its sender while the worker is busy', { retry: 5 }, async () => {
    const server = await startServerForTest(
      { INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: '9000', MAX_DEADLINE_MS: '9000' },
      { faults: true },
    )
    const { port } = server
    const before = residentMegabytes(server.process.pid!)
    // Each is too short for the worker to be taken for one that hangs, all are longer than the test.
    const slow = Array.from({ length: 100 }, (_, at) => distinctWindow(at, FAULTS.block + 290))
    const body = Buffer.concat([joined(slow), golden(9_900)])
    const socket = connect(port, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    socket.write(headOf('POST /infer', { ...BINARY, 'Content-Length': body.length }))
    const first = 16 * 65_536 // more than finds room
    for (let at = 0; at < first; at += 65_536) {
      socket.write(body.subarray(at, at + 65_536))
      await sleep(10)
    }
    // Half of the ring is taken, and the rest of what has come waits, read to its end.
    await until(async () => (await metric(port, 'hailo_queue_depth')) >= 64)
    await sleep(200)
    socket.write(body.subarray(first))
    await sleep(1000) // it looks after its uploads twice in that time
    expect(await windowsRun(port)).toBeLessThan(slow.length / 2)
    // Less than half, with all that the kernel holds between them.
    expect(socket.bytesWritten - socket.writableLength).toBeLessThan(body.length / 2)
    expect(residentMegabytes(server.process.pid!) - before).toBeLessThan(body.length / 2 / 2 ** 20)
  })
})
