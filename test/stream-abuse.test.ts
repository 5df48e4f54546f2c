import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { JSON_TEXT } from '../src/http/json-frames.ts'
import { distinctWindow, HOLDING, metric, startFaultyServer, startServerForTest, until } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { windowOf } from './windows.ts'
import { greet, IN_BINARY, IN_JSON, WebSocketClient } from './ws-client.ts'

/** Live windows have 40 ms: no frame may keep the event loop for much of that. Reading the JSON takes some 5 ms. */
const LONGEST_READ_MS = 40
const MAX_FRAME_BYTES = 256 * 1024
/** Frames within a second that lead to nothing. */
const MAX_IDLE_FRAMES = 256
const CREDITS = 32

describe('the largest JSON frame is read in no time', () => {
  test.each([
    ['rows of nothing', '[]', /^Cannot read samples: row 0 has 0 channels, expected 9/],
    ['numbers for rows', '0', /^Cannot read samples: row 0 is not an array of 9 numbers/],
    ['rows of texts', '["","","","","","","","",""]', /^Cannot read samples: row 0 channel 0 \(ax\) is not/],
  ])('with %s', (_, row, why) => {
    const { frame, tookMs } = read(`{"type":"samples","index":0,"samples":[${filledWith(row)}]}`)
    expect(frame).toMatchObject({ type: 'unreadable', name: 'samples', detail: expect.stringMatching(why) })
    expect(tookMs).toBeLessThan(LONGEST_READ_MS)
  })

  test('with a bad row at its end', () => {
    const good = filledWith('[0,0,9,0,0,0,0,0,0]')
    const { frame, tookMs } = read(`{"type":"samples","index":0,"samples":[${good},[0]]}`)
    const rows = good.split('],').length
    expect(frame).toMatchObject({ detail: expect.stringContaining(`row ${rows} has 1 channels`) })
    expect(tookMs).toBeLessThan(LONGEST_READ_MS)
  })

  test('with good samples', () => {
    const { frame, tookMs } = read(
      `{"type":"samples","index":7,"samples":[${filledWith('[0,0,9,0,0,0,0,0,-1]')}]}`,
    )
    if (frame.type !== 'samples') throw new Error(frame.type)
    const values = new Float32Array(frame.bytes.buffer)
    expect(values.length % 9).toBe(0)
    expect(values.length).toBeGreaterThan(100_000)
    expect([...values.subarray(-9)]).toEqual([0, 0, 9, 0, 0, 0, 0, 0, -1])
    expect(tookMs).toBeLessThan(LONGEST_READ_MS)
  })

  test('with a window of rows of nothing', () => {
    const { frame, tookMs } = read(`{"type":"window","seq":0,"x":[${filledWith('[]')}]}`)
    if (frame.type !== 'window') throw new Error(frame.type)
    const input = new Float32Array(new SharedArrayBuffer(3600))
    expect(frame.fill({ input, inputBytes: new Uint8Array(input.buffer) })).toMatch(/rows, expected 100$/)
    expect(tookMs).toBeLessThan(LONGEST_READ_MS)
  })
})

test('samples as JSON are finite numbers', () => {
  const { frame } = read('{"type":"samples","index":0,"samples":[[1,2,3,4,5,6,7,8,1e999]]}')
  expect(frame).toMatchObject({
    type: 'unreadable',
    detail: 'Cannot read samples: row 0 channel 8 (mz) is not a finite number',
  })
})

describe('a flood of small frames is closed before it has kept anybody waiting', () => {
  let server: TestServer
  beforeAll(async () => {
    server = await startServer({ INFER_MODE: 'stub', WORKERS: '1', LOG_LEVEL: 'fatal' })
  })
  afterAll(() => server.stop('SIGKILL'))
  const framesRead = () => metric(server.port, 'hailo_ws_frames_total', 'direction="in"')

  const short = IN_BINARY.window(1, windowOf(0)).slice(0, 12) as Uint8Array
  test.each<[string, (n: number) => string | Uint8Array, string]>([
    ['cancels of nothing', () => IN_BINARY.cancel(7), 'too many cancels of nothing'],
    ['cancels of nothing as JSON', () => IN_JSON.cancel(7), 'too many cancels of nothing'],
    ['nothing', () => new Uint8Array(0), 'too many frames that cannot be taken'],
    ['no JSON', () => '{', 'too many frames that cannot be taken'],
    ['frames for another mode', n => IN_BINARY.samples(n, windowOf(0).subarray(0, 9)), 'cannot be taken'],
    ['the same sequence', () => short, 'cannot be taken'],
    ['new windows too short to be one', n => renamed(short, n), 'that are too short'],
    [
      'new JSON windows too short to be one',
      n => `{"type":"window","seq":${n},"x":[]}`,
      'that are too short',
    ],
    ['whole windows of the same sequence', () => IN_BINARY.window(0, windowOf(0)), 'cannot be taken'],
  ])('of %s', async (_, frameAt, why) => {
    const before = await framesRead()
    const flooder = await WebSocketClient.open(server)
    await greet(flooder, typeof frameAt(1) === 'string' ? IN_JSON : IN_BINARY)
    flooder.send(...Array.from({ length: 2000 }, (_, n) => frameAt(n + 1)))
    const { code, reason } = await flooder.rest()
    expect({ code, reason }).toEqual({ code: 1008, reason: expect.stringContaining(why) })
    expect((await framesRead()) - before).toBeLessThanOrEqual(MAX_IDLE_FRAMES + 3)
  })

  test('of gaps', async () => {
    const flooder = await WebSocketClient.open(server)
    await greet(flooder, IN_BINARY, { mode: 'samples' })
    const sample = windowOf(0).subarray(0, 9)
    flooder.send(...Array.from({ length: 2000 }, (_, n) => IN_BINARY.samples(51 * n, sample)))
    expect(await flooder.rest()).toMatchObject({ code: 1008 })
  })

  test('of windows without a credit within one piece of samples', async () => {
    const flooder = await WebSocketClient.open(server)
    await greet(flooder, IN_BINARY, { mode: 'samples', hop: 1 })
    flooder.send(IN_BINARY.samples(0, new Float32Array(9 * (100 + CREDITS + MAX_IDLE_FRAMES))))
    const { code, reason } = await flooder.rest()
    expect({ code, reason }).toEqual({ code: 1008, reason: 'too many windows without a credit' })
  })
})

test('a client that cancels every window too late, and is now and then ahead of its credits, stays', async () => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1' })
  const client = await WebSocketClient.open({ port })
  await greet(client, IN_BINARY)
  const most = Array.from({ length: MAX_IDLE_FRAMES - 16 }, (_, n) => IN_BINARY.cancel(n))
  client.send(...most)
  await until(async () => (await metric(port, 'hailo_ws_frames_total', 'direction="in"')) === 1 + most.length)
  await sleep(1100)
  client.send(...most, IN_BINARY.window(0, distinctWindow(0)))
  expect(await client.nextAnswer()).toMatchObject({ type: 'result', seq: 0 })
})

test('a cancel that hits is no idle frame', async () => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: '5000' })
  const client = await WebSocketClient.open({ port })
  await greet(client, IN_BINARY)
  for (let n = 0; n < 2 * MAX_IDLE_FRAMES; n++) {
    // In one write, so that mostly the cancel comes before the result does.
    client.send(IN_BINARY.window(n, distinctWindow(n)), IN_BINARY.cancel(n))
    expect(await client.nextAnswer()).toMatchObject({ seq: n })
  }
  expect(await metric(port, 'hailo_cancelled_total')).toBeGreaterThan(MAX_IDLE_FRAMES)
})

test('windows without a credit count as refused', async () => {
  const server = await startFaultyServer()
  const { port } = server
  const client = await WebSocketClient.open(server)
  await greet(client, IN_BINARY)
  client.send(IN_BINARY.window(0, HOLDING))
  await server.held()
  client.send(
    ...Array.from({ length: CREDITS + 2 }, (_, n) => IN_BINARY.window(n + 1, distinctWindow(n + 1))),
  )
  await until(async () => (await metric(port, 'hailo_rejected_total', 'reason="no_credit"')) === 3)
  server.release()
  await client.answers(CREDITS + 3)
  expect(await metric(port, 'hailo_rejected_total', 'reason="no_credit"')).toBe(3)
  expect(await metric(port, 'hailo_inference_requests_total', 'status="rejected"')).toBe(3)
})

/** The same window with another sequence. */
function renamed(window: Uint8Array, sequence: number): Uint8Array {
  const copy = window.slice()
  new DataView(copy.buffer).setUint32(4, sequence, true)
  return copy
}

/** As many of these as a frame can hold. */
function filledWith(item: string): string {
  return Array(Math.floor((MAX_FRAME_BYTES - 100) / (item.length + 1)))
    .fill(item)
    .join()
}

/** The quickest of ten: others may want the processor too. */
function read(text: string) {
  const message = Buffer.from(text)
  expect(message.length).toBeLessThanOrEqual(MAX_FRAME_BYTES)
  let tookMs = Number.POSITIVE_INFINITY
  for (let n = 0; n < 10; n++) {
    const startedMs = performance.now()
    JSON_TEXT.read(message)
    tookMs = Math.min(tookMs, performance.now() - startedMs)
  }
  return { frame: JSON_TEXT.read(message), tookMs }
}
