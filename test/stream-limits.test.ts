import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FAULTS } from './faults/faults.ts'
import {
  distinctWindow,
  HOLDING,
  metric,
  post,
  residentMegabytes,
  startFaultyServer,
  startServerForTest,
  until,
  untilInFlight,
  windowsRun,
} from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { windowOf } from './windows.ts'
import { greet, IN_BINARY, IN_JSON, type Said, type Speech, WebSocketClient, wireOf } from './ws-client.ts'

const CREDITS = 32
const MAX_FRAME_BYTES = 256 * 1024

let shared: TestServer
beforeAll(async () => {
  shared = await startServer({ INFER_MODE: 'stub', WORKERS: '1', LOG_LEVEL: 'fatal' })
})
afterAll(() => shared.stop())

test('a window beyond the credits gets exactly one answer, an error in its turn, and takes nobody else down', async () => {
  const server = await startFaultyServer()
  const { port } = server
  const client = await WebSocketClient.open(server)
  const { credits } = await greet(client, IN_BINARY)
  expect(credits).toBe(CREDITS)
  client.send(IN_BINARY.window(0, HOLDING))
  await server.held()
  client.send(...sequence(1, CREDITS + 2).map(n => IN_BINARY.window(n, distinctWindow(n))))
  await untilInFlight(port, CREDITS)
  await until(async () => (await metric(port, 'hailo_inference_errors_total', 'overloaded')) === 3)
  server.release()
  const answers = await client.answers(CREDITS + 3)
  expect(answers.map(({ seq }) => seq)).toEqual(sequence(0, CREDITS + 3))
  for (const { type } of answers.slice(0, CREDITS)) expect(type).toBe('result')
  for (const answer of answers.slice(CREDITS)) {
    expect(answer).toMatchObject({ type: 'error', code: 'overloaded', retry_after_ms: 5000 })
  }
  // All credits are back, those that were never there are not.
  client.send(...sequence(100, CREDITS + 1).map(n => IN_BINARY.window(n, distinctWindow(n))))
  const next = await client.answers(CREDITS + 1)
  expect(next.map(({ type }) => type)).toEqual([...Array(CREDITS).fill('result'), 'error'])
})

test('the credits are never more than there are slots', async () => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '2', RING_SLOTS: '4' })
  const client = await WebSocketClient.open({ port })
  expect(await greet(client, IN_BINARY)).toMatchObject({ credits: 8 })
})

test('a full ring refuses a window in its turn, and says when to come back', async () => {
  const server = await startFaultyServer({ RING_SLOTS: '4' })
  const { port } = server
  const holding = await server.hold()
  const client = await WebSocketClient.open(server)
  await greet(client, IN_BINARY)
  client.send(...sequence(0, 4).map(n => IN_BINARY.window(n, distinctWindow(n))))
  await until(async () => (await metric(port, 'hailo_rejected_total', 'reason="ring_full"')) === 1)
  server.release()
  const answers = await client.answers(4)
  expect(answers.map(({ type, seq }) => [type, seq])).toEqual([
    ['result', 0],
    ['result', 1],
    ['result', 2],
    ['error', 3],
  ])
  expect(answers[3]).toMatchObject({ code: 'overloaded', detail: 'All 4 slots are taken' })
  expect((answers[3] as Said & { retry_after_ms: number }).retry_after_ms).toBeGreaterThan(0)
  expect((await holding.answer).status).toBe(200)
})

test('a window that waits past its deadline is answered so in its turn', async () => {
  const server = await startFaultyServer()
  const { port } = server
  const client = await WebSocketClient.open(server)
  await greet(client, IN_JSON)
  client.send(IN_JSON.window(0, HOLDING))
  await server.held()
  client.send(IN_JSON.window(1, windowOf(1), 600), IN_JSON.window(2, windowOf(2)))
  await until(async () => (await metric(port, 'hailo_inference_errors_total', 'deadline_exceeded')) === 1)
  server.release()
  const answers = await client.answers(3)
  expect(answers.map(({ type, seq }) => [type, seq])).toEqual([
    ['result', 0],
    ['error', 1],
    ['result', 2],
  ])
  expect(answers[1]).toMatchObject({
    code: 'deadline_exceeded',
    detail: expect.stringMatching(/^There is no result after \d+\.\d ms, .* deadline of 600.0 ms$/),
  })
})

test.each([IN_BINARY, IN_JSON])('a cancelled window costs no time of the model ($name)', async speech => {
  const server = await startFaultyServer()
  const { port } = server
  const client = await WebSocketClient.open(server)
  await greet(client, speech)
  client.send(speech.window(0, HOLDING))
  await server.held()
  client.send(
    speech.window(1, windowOf(1)),
    speech.window(2, windowOf(2)),
    speech.cancel(1),
    speech.cancel(77),
  )
  await until(async () => (await metric(port, 'hailo_cancelled_total')) === 1)
  await untilInFlight(port, 3)
  server.release()
  const answers = await client.answers(3)
  expect(answers.map(({ type, seq }) => [type, seq])).toEqual([
    ['result', 0],
    ['error', 1],
    ['result', 2],
  ])
  expect(answers[1]).toMatchObject({ code: 'cancelled' })
  client.send(speech.cancel(0), speech.window(3, windowOf(3)))
  expect(await client.nextAnswer()).toMatchObject({ type: 'result', seq: 3 })
  expect(await windowsRun(port)).toBe(3)
  expect(await metric(port, 'hailo_cancelled_total')).toBe(1)
})

test('a client that goes makes room for others at once, and costs no time of the model', async () => {
  const server = await startFaultyServer()
  const { port } = server
  const client = await WebSocketClient.open(server)
  await greet(client, IN_BINARY)
  client.send(IN_BINARY.window(0, HOLDING))
  await server.held()
  client.send(...sequence(1, 10).map(n => IN_BINARY.window(n, distinctWindow(n))))
  await untilInFlight(port, 11)
  client.hangUp()
  await until(async () => (await metric(port, 'hailo_cancelled_total')) === 11)
  server.release()
  expect((await post(port, distinctWindow(50))).status).toBe(200)
  expect(await windowsRun(port)).toBe(2)
  expect(await metric(port, 'hailo_queue_depth')).toBe(0)
})

test('a worker that dies fails its window in its turn, and the next is answered', async () => {
  const { port } = await startFaultyServer()
  const client = await WebSocketClient.open({ port })
  await greet(client, IN_BINARY)
  client.send(IN_BINARY.window(0, distinctWindow(0, FAULTS.exit)))
  expect(await client.nextAnswer()).toMatchObject({ type: 'error', seq: 0, code: 'model_unavailable' })
  await until(async () => (await metric(port, 'hailo_model_loaded')) === 1)
  client.send(IN_BINARY.window(1, distinctWindow(1)))
  expect(await client.nextAnswer()).toMatchObject({ type: 'result', seq: 1 })
})

describe.each([IN_BINARY, IN_JSON])('a flood in $name', speech => {
  test('of windows without credit is closed with 1008, and disturbs nobody', async () => {
    const server = await startFaultyServer()
    const { port } = server
    const calm = await WebSocketClient.open(server)
    await greet(calm, IN_BINARY)
    const flooder = await WebSocketClient.open(server)
    await greet(flooder, speech)
    // The worker is held for as long as it takes to read the flood.
    const window = speech.window(1, windowOf(0))
    flooder.send(speech.window(0, HOLDING), ...sequence(1, 1200).map(n => renamed(window, n, speech)))
    const { code, reason } = await flooder.rest()
    expect(code).toBe(1008)
    expect(reason).toBe('too many windows without a credit')
    server.release()
    await expectAnswered(calm, 0)
    expect(await metric(port, 'hailo_queue_depth')).toBe(0)
  })

  test('by a client that reads nothing gets it closed, and costs little memory', async () => {
    const { port, process } = await startFaultyServer()
    const calm = await WebSocketClient.open({ port })
    await greet(calm, IN_BINARY)
    // Refusals of a sequence that is not new go out at once, so they fill the buffers soonest.
    const window = speech.cancel(0)
    const bad = speech === IN_JSON ? '{' : Uint8Array.of(99, 0, 0, 0)
    const burst = Buffer.concat(Array.from({ length: 2000 }, (_, n) => wireOf(n % 2 ? bad : window)))
    const gone = async () => (await metric(port, 'hailo_ws_connections')) === 1
    let bursts = 0
    const flood = async () => {
      const before = residentMegabytes(process.pid!)
      let grownMegabytes = 0
      const flooder = await WebSocketClient.open({ port })
      await greet(flooder, speech)
      flooder.stall()
      while (!(await gone())) {
        for (let n = 0; n < 20; n++) flooder.socket.write(burst)
        await flooder.drained()
        await expectAnswered(calm, bursts++)
        grownMegabytes = Math.max(grownMegabytes, residentMegabytes(process.pid!) - before)
      }
      return grownMegabytes
    }
    // The first makes the heap what it is in a server at work.
    await flood()
    expect(await flood()).toBeLessThan(64)
    await expectAnswered(calm, bursts)
  })
})

test('half a frame and then silence harms nobody', async () => {
  const { port } = await startFaultyServer()
  const silent = await WebSocketClient.open({ port })
  await greet(silent, IN_BINARY)
  const frame = wireOf(IN_BINARY.window(0, windowOf(0)))
  silent.socket.write(frame.subarray(0, 1800))
  const calm = await WebSocketClient.open({ port })
  await greet(calm, IN_BINARY)
  for (const n of sequence(0, 50)) await expectAnswered(calm, n)
  silent.socket.write(frame.subarray(1800))
  expect(await silent.nextAnswer()).toMatchObject({ type: 'result', seq: 0 })
})

test.each([IN_BINARY, IN_JSON])('a frame beyond 256 KiB is refused with 1009 ($name)', async speech => {
  const { port } = await startFaultyServer()
  const client = await WebSocketClient.open({ port })
  await greet(client, speech)
  const payload = new Uint8Array(MAX_FRAME_BYTES + 1).fill(0x20)
  client.send(speech === IN_JSON ? Buffer.from(payload).toString() : payload)
  expect(await client.rest()).toMatchObject({ code: 1009 })
  expect(await metric(port, 'hailo_ws_frames_total', 'direction="in",type="unknown"')).toBe(1)
})

test('a frame far beyond that is cut off before it has come whole', async () => {
  const { port } = await startFaultyServer()
  const client = await WebSocketClient.open({ port })
  await greet(client, IN_BINARY)
  client.send(new Uint8Array(4 * MAX_FRAME_BYTES))
  expect(await client.rest()).toMatchObject({ code: 1006 })
  expect((await post(port, distinctWindow(1))).status).toBe(200)
})

test.each<[string, string | Uint8Array]>([
  ['a window', IN_BINARY.window(0, windowOf(0))],
  ['nothing', new Uint8Array(0)],
  ['another version', Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0)],
  ['another mode', Uint8Array.of(1, 0, 0, 0, 1, 2, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0)],
  ['a hop of 0', IN_BINARY.hello({ mode: 'samples', hop: 0 })],
  ['a hop of 10,001', IN_BINARY.hello({ mode: 'samples', hop: 10_001 })],
  ['half a hello', (IN_BINARY.hello() as Uint8Array).slice(0, 8)],
  ['a window as JSON', IN_JSON.window(0, windowOf(0))],
  ['no JSON', 'hello'],
  ['another version as JSON', '{"type":"hello","version":2,"mode":"windows"}'],
  ['another mode as JSON', '{"type":"hello","version":1,"mode":"dogs"}'],
  ['a hop of 1.5 as JSON', '{"type":"hello","version":1,"mode":"samples","hop":1.5}'],
])('a client that begins with %s is told what is wrong, and closed with 1002', async (_, first) => {
  const { port } = shared
  const client = await WebSocketClient.open({ port })
  client.send(first)
  const { code, said } = await client.rest()
  expect(code).toBe(1002)
  expect(said).toMatchObject([
    { type: 'error', code: 'invalid_request', detail: expect.stringContaining('hello') },
  ])
  expect(said[0]).not.toHaveProperty('seq')
})

async function expectAnswered(client: WebSocketClient, n: number): Promise<void> {
  client.send(IN_BINARY.window(n, distinctWindow(n)))
  expect(await client.nextAnswer()).toMatchObject({ type: 'result', seq: n })
}

/** The same window with another sequence: made quickly. */
function renamed(window: string | Uint8Array, sequence: number, speech: Speech): string | Uint8Array {
  if (speech === IN_JSON) return (window as string).replace('"seq":1', `"seq":${sequence}`)
  const copy = (window as Uint8Array).slice()
  new DataView(copy.buffer).setUint32(4, sequence, true)
  return copy
}

function sequence(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, n) => from + n)
}
