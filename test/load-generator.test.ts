import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import { Histogram } from '../bench/load/histogram.ts'
import {
  GENERATOR,
  type LoadPlan,
  type LoadRequest,
  runLoad,
  type WebSocketProtocol,
} from '../bench/load/load.ts'
import {
  expectingSame,
  expectingSameStream,
  frameOf,
  inferRequest,
  STREAM,
  upgradeOf,
  v2Request,
} from '../bench/load/requests.ts'
import { cutWindows, loadRecording } from '../bench/recording.ts'
import { build } from '../native/build.ts'
import { encodeFrame } from '../src/http/frame.ts'
import { startServerForTest } from './load.ts'
import { COMPILER } from './native.ts'

const CLOSED = { kind: 'closed' } as const

describe.skipIf(COMPILER === null)('the load generator (skipped without a C++ compiler)', () => {
  beforeAll(() => build(GENERATOR), 120_000)

  test('right, wrong, refused, late and failed answers are counted apart, in the shares of their weights', async () => {
    const port = await serve((request, response) => {
      const [, status, body] = request.url!.split('/')
      response.writeHead(Number(status), { 'Content-Length': body!.length }).end(body)
    })
    const { due, statuses, answered, refused, late, firstWrong, ...result } = await runOn(port, {
      connections: 3,
      serverPid: process.pid,
      requests: [
        { ...get('/200/fine'), weight: 3, windows: 5, expected: { bytes: Buffer.from('fine') } },
        { ...get('/200/finer'), expected: { bytes: Buffer.from('fine') } },
        { ...get('/200/finest'), expected: { bytes: Buffer.from('nest'), offset: 2 } },
        { ...get('/200/fine-and-long'), expected: { bytes: Buffer.from('fine'), isPrefix: true } },
        get('/429/busy'),
        get('/504/late'),
        get('/400/what'),
      ],
    })

    const turns = due.wrong
    expect(turns).toBeGreaterThan(1)
    expectWithin(due.right, 5 * turns, 9)
    expectWithin(due.refused, turns, 9)
    expectWithin(due.late, turns, 9)
    expectWithin(due.failed, turns, 9)
    expect(due).toMatchObject({ lost: 0, unanswered: 0, unsent: 0 })
    expect(statuses).toEqual({
      200: due.right + due.wrong,
      400: due.failed,
      429: due.refused,
      504: due.late,
    })
    expect(answered.count).toBe(due.right + due.wrong)
    expect(refused.count).toBe(due.refused)
    expect(late.count).toBe(due.late)
    expect([1, 6]).toContain(firstWrong!.request)
    expect(['finer', 'what']).toContain(firstWrong!.body.toString())
    // Of five right answers three hold five windows each.
    expectWithin(result.windowsPerSecond / result.requestsPerSecond, 17 / 5, 0.5)
    expect(result.processor.server! + result.processor.serverMainThread!).toBeGreaterThan(0)
  })

  test('the wait of a server that stalls counts for every request that was due meanwhile', async () => {
    let hasStalled = false
    const startMs = performance.now()
    const port = await serve((_, response) => {
      if (!hasStalled && performance.now() - startMs > 300) {
        hasStalled = true
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
      }
      response.end()
    })
    const { due, answered } = await runOn(port, {
      connections: 2,
      loop: { kind: 'open', ratePerSecond: 400 },
      durationMs: 600,
    })
    // 240 were due, 80 of them while the server stalled: had they waited to be sent, 2 would tell of it.
    expect(due.right).toBe(240)
    expect(answered.percentileMs(98)).toBeGreaterThan(150)
    expect(answered.percentileMs(80)).toBeGreaterThan(50)
    expect(answered.maxMs).toBeGreaterThan(195)
  })

  test('an open loop keeps its rate, evenly or as chance has it, and says how late it was itself', async () => {
    const port = await serve((_, response) => response.end())
    const run = (arrivals: 'constant' | 'poisson') =>
      runOn(port, { connections: 8, loop: { kind: 'open', ratePerSecond: 1000, arrivals } })
    const [constant, poisson] = [await run('constant'), await run('poisson')]
    expect(constant.due.right).toBe(100)
    expect(poisson.due.right).not.toBe(100)
    expectWithin(poisson.due.right, 100, 5 * Math.sqrt(100))
    expect(constant.lag.count).toBe(100)
    expect(constant.lag.percentileMs(50)).toBeLessThan(constant.answered.percentileMs(50))
  })

  test('in an open loop that gives up, nothing waits for a connection to be free', async () => {
    const port = await serve((_, response) => setTimeout(() => response.end(), 20))
    const { due, answered } = await runOn(port, {
      connections: 2,
      loop: { kind: 'open', ratePerSecond: 1000, givesUp: true },
      durationMs: 400,
    })
    expect(due.right + due.unsent).toBe(400)
    expect(due.right).toBeGreaterThan(3)
    expect(due.right).toBeLessThanOrEqual(40)
    // In a queue of 18 behind each answer, the last would have waited for most of the time.
    expect(answered.percentileMs(80)).toBeLessThan(200)
  })

  test('a server that never answers ends in unanswered and unsent requests, in time', async () => {
    const port = await serve(() => {})
    const { due, ended } = await runOn(port, {
      connections: 4,
      loop: { kind: 'open', ratePerSecond: 1000 },
      warmUpMs: 0,
      graceMs: 50,
    })
    expect(due).toMatchObject({ right: 0, unanswered: 4, unsent: 96 })
    expect(ended.right).toBe(0)
  })

  test('connections that the server ends are counted, and opened again', async () => {
    let count = 0
    const port = await serve((request, response) => {
      count++
      if (count % 5 === 0) request.socket.destroy()
      else response.end()
    })
    const { due, lostConnections } = await runOn(port, { connections: 2 })
    expect(due.lost).toBeGreaterThan(1)
    expect(lostConnections).toBeGreaterThanOrEqual(due.lost)
    expectWithin(due.right, 4 * due.lost, 8)
  })

  test('answers come in pieces, after "Connection: close", and not in chunks', async () => {
    const answers = {
      pieces: ['HTTP/1.1 200 OK\r\ncontent-le', 'ngth: 4\r\n\r', '\nfi', 'ne'],
      close: ['HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine'],
      chunks: ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n'],
    }
    const run = async (pieces: string[]) => {
      const port = await serveTcp(async socket => {
        for await (const _ of socket) {
          for (const piece of pieces) {
            socket.write(piece)
            await new Promise(setImmediate)
          }
        }
      })
      return runOn(port, {
        requests: [{ ...get('/'), expected: { bytes: Buffer.from('fine') } }],
        warmUpMs: 0,
        durationMs: 50,
      })
    }
    expect(await run(answers.pieces)).toMatchObject({ due: { wrong: 0, lost: 0 }, lostConnections: 0 })
    const closed = await run(answers.close)
    expect(closed.due.lost).toBe(0)
    expectWithin(closed.lostConnections, closed.due.right, 1)
    const chunked = await run(answers.chunks)
    expect(chunked.due.right).toBe(0)
    expect(chunked.brokenAnswers).toBe(chunked.lostConnections)
  })

  test('Retry-After is passed over unless it is to be heeded', async () => {
    const port = await serve((_, response) =>
      response.writeHead(429, { 'Retry-After': '1', 'Content-Length': '0' }).end(),
    )
    const options = { connections: 2, warmUpMs: 0 }
    expect((await runOn(port, options)).due.refused).toBeGreaterThan(2)
    expect((await runOn(port, { ...options, heedRetryAfter: true })).due.refused).toBe(2)
  })

  test('a server that is not there is said so', async () => {
    await expect(runOn(await freePort())).rejects.toThrow(
      'Cannot connect: 0 of 1 connections are ready, Connection refused',
    )
  })

  test('many windows are in flight on a WebSocket, each with its sequence, and answered in order', async () => {
    const sequences = new Map<WebSocket, number[]>()
    const { port, highest } = await serveWebSocket({ first: 8 }, (socket, message, answer) => {
      sequences.set(socket, [...(sequences.get(socket) ?? []), message.readUInt32LE(4)])
      answer(message)
    })
    const options = { connections: 2, inFlight: 8, warmUpMs: 0 }
    const { due, lostConnections } = await runWebSocket(port, ECHO, options)
    expect(due.right).toBeGreaterThanOrEqual(16)
    expect(due).toMatchObject({ wrong: 0, lost: 0, unanswered: 0 })
    expect(lostConnections).toBe(0)
    expect(highest()).toBe(8)
    for (const sent of sequences.values()) expect(sent).toEqual(sent.map((_, index) => index + 1))
    expect(sequences.size).toBe(2)
  })

  test('results out of order, and those that are not what was expected, are wrong', async () => {
    let held: Buffer | null = null
    const { port } = await serveWebSocket({}, (_, message, answer) => {
      if (message.readUInt32LE(4) % 4 === 1) held = Buffer.from(message)
      else {
        if (message.readUInt32LE(4) % 4 === 3) message[20]! ^= 1
        answer(message)
        if (held) answer(held)
        held = null
      }
    })
    const { due, firstWrong } = await runWebSocket(port, ECHO, { inFlight: 2 })
    expect(due.wrong).toBeGreaterThan(2)
    expectWithin(due.wrong, 3 * due.right, 4)
    expect(firstWrong!.request).toBe(0)
  })

  test('windows wait for the welcome and for credits, and error frames are refusals or failures', async () => {
    const welcome = encodeFrame('welcome', {
      ...{ version: 1, mode: 0, backend: 2, motifs: 12, hop: 0, first: 0, deadlineMs: 40 },
      credits: 3,
      model: new Uint8Array(32),
    })
    const { port, highest } = await serveWebSocket({ first: 3, welcome }, (_, message, answer) => {
      const sequence = message.readUInt32LE(4)
      const status = [undefined, 4, 8][sequence % 4]
      if (status === undefined) answer(Buffer.concat([Buffer.of(130), message.subarray(1)]))
      else answer(encodeFrame('error', { sequence, retryAfterMs: 0, status, hasSequence: 1 }))
      answer(encodeFrame('credit', { count: 1 }))
    })
    const { due, statuses } = await runWebSocket(port, STREAM, { inFlight: 8, warmUpMs: 0 })
    expect(highest()).toBe(3)
    expectWithin(due.right, 2 * due.refused, 6)
    expectWithin(due.failed, due.refused, 4)
    expect(statuses).toEqual({ 0: due.right, 4: due.refused, 8: due.failed })
    expect(due).toMatchObject({ wrong: 0, lost: 0, unanswered: 0 })
  })

  test('what requests.ts makes is answered by the server, the same each time, whatever the protocol', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'load-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'socket')
    const { port } = await startServerForTest({
      INFER_MODE: 'stub',
      SIDECAR_SOCKET: path,
      DEADLINE_MS: '5000',
    })
    const windows = cutWindows(loadRecording(), 50)
      .slice(0, 4)
      .map(({ input }) => input)
    const options = { loop: CLOSED, warmUpMs: 0, durationMs: 60 }
    const makers = [inferRequest, v2Request]
    const encodings = ['json', 'binary'] as const
    const requests = makers.flatMap(make =>
      encodings.flatMap(encoding => [make(windows.slice(0, 1), { encoding }), make(windows, { encoding })]),
    )
    for (const target of [{ port }, { path }]) {
      const result = await runLoad({
        ...options,
        target,
        connections: requests.length, // so that each is sent at least once
        protocol: { kind: 'http' },
        requests: await expectingSame(target, requests),
      })
      expect(result.due).toEqual({ ...NOTHING, right: result.answered.count })
      expect(result.due.right).toBeGreaterThanOrEqual(requests.length)
    }
    const stream = await runLoad({
      ...options,
      target: { port },
      connections: 2,
      protocol: STREAM,
      inFlight: 4,
      requests: await expectingSameStream({ port }, windows),
    })
    expect(stream.due).toEqual({ ...NOTHING, right: stream.answered.count })
    expect(stream.due.right).toBeGreaterThanOrEqual(2 * windows.length)
  })

  test('pings of a WebSocket server are answered, those that come together too, and none beyond 125 bytes', async () => {
    const upgraded = 'HTTP/1.1 101 Switching Protocols\r\n\r\n'
    const run = async (pings: string) => {
      let received = Buffer.alloc(0)
      const port = await serveTcp(async socket => {
        const answers = [upgraded, pings] // to the upgrade, and to the first window
        for await (const bytes of socket) {
          received = Buffer.concat([received, bytes])
          socket.write(answers.shift() ?? '', 'latin1')
        }
      })
      const { brokenAnswers } = await runWebSocket(port, ECHO, { graceMs: 0 })
      return { received, brokenAnswers }
    }
    const { received, brokenAnswers } = await run('\x89\x03one\x89\x03two')
    expect(brokenAnswers).toBe(0)
    expect(received.includes('\x8a\x83\0\0\0\0one\x8a\x83\0\0\0\0two', 0, 'latin1')).toBe(true)
    expect((await run(`\x89\x7e\x00\x7e${'x'.repeat(126)}`)).brokenAnswers).toBeGreaterThan(0)
  })

  test('an answer whose end nobody can tell is not expected', async () => {
    const port = await serveTcp(async socket => {
      for await (const _ of socket) socket.write('HTTP/1.1 200 OK\r\n\r\nfi')
    })
    await expect(expectingSame({ port }, [get('/')])).rejects.toThrow('without Content-Length')
  })

  test('buckets are read as they are written, to three digits', async () => {
    const port = await serve((_, response) => response.end())
    const { answered } = await runOn(port)
    const { maxNs, buckets } = answered.toJSON()
    const [index] = buckets.at(-1)!
    const edgeNs = edgeOf(index)
    expect(edgeNs).toBeGreaterThanOrEqual(maxNs)
    expect(edgeNs).toBeLessThan(maxNs * 1.001)
    expect(answered.meanMs).toBeGreaterThan(answered.percentileMs(0))
    expect(answered.meanMs).toBeLessThan(answered.maxMs)
  })
})

test('Histogram buckets touch: exact below 2,048 ns, then 1,024 for each power of two', () => {
  expect([0, 1, 2047, 2048, 2049, 3071, 3072].map(edgeOf)).toEqual([0, 1, 2047, 2049, 2051, 4095, 4099])
})

test('Histogram percentiles are those of all values after a merge', () => {
  const one = new Histogram({ maxNs: 30, sumNs: 50, buckets: [[10, 2], [30, 1]] }) // biome-ignore format: pairs
  const other = new Histogram({ maxNs: 2000, sumNs: 2010, buckets: [[10, 1], [2000, 1]] }) // biome-ignore format: pairs
  const both = one.merge(other)
  expect(both.count).toBe(5)
  expect([50, 60, 61, 80, 81, 100].map(percent => both.percentileMs(percent) * 1e6)).toEqual([
    10, 10, 30, 30, 2000, 2000,
  ])
  expect(both.meanMs * 1e6).toBeCloseTo(412)
  expect(both.maxMs * 1e6).toBe(2000)
  expect(one.count).toBe(3)
  expect(new Histogram().percentileMs(50)).toBeNaN()
  expect([9, 10, 30, 1999, 2000].map(ns => both.countUpTo(ns / 1e6))).toEqual([0, 3, 4, 4, 5])
})

const NOTHING = { right: 0, wrong: 0, refused: 0, late: 0, failed: 0, lost: 0, unanswered: 0, unsent: 0 }
const MESSAGE = Buffer.alloc(300, 'window')
const ECHO: WebSocketProtocol = {
  kind: 'websocket',
  upgrade: upgradeOf('/'),
  dialect: { sequenceOffset: 4, requestSequenceOffset: 4 },
}

/** The largest value of a bucket. */
function edgeOf(index: number): number {
  return Math.round(
    new Histogram({ maxNs: Number.MAX_VALUE, sumNs: 0, buckets: [[index, 1]] }).percentileMs(100) * 1e6,
  )
}

function get(path: string): LoadRequest {
  return { bytes: Buffer.from(`GET ${path} HTTP/1.1\r\nHost: test\r\n\r\n`) }
}

function expectWithin(value: number, expected: number, tolerance: number): void {
  expect(Math.abs(value - expected), `${value}, not ${expected}`).toBeLessThanOrEqual(tolerance)
}

/** For a tenth of a second, in a closed loop over one connection unless told otherwise. */
function runOn(port: number, options: Partial<LoadPlan> = {}) {
  return runLoad({
    target: { port },
    protocol: { kind: 'http' },
    connections: 1,
    loop: CLOSED,
    warmUpMs: 20,
    durationMs: 100,
    requests: [get('/')],
    ...options,
  })
}

function runWebSocket(port: number, protocol: WebSocketProtocol, options: Partial<LoadPlan>) {
  return runOn(port, {
    protocol,
    requests: [{ bytes: frameOf(MESSAGE), expected: { bytes: MESSAGE.subarray(8), offset: 8 } }],
    ...options,
  })
}

async function serve(listener: RequestListener): Promise<number> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

async function serveTcp(listener: (socket: Socket) => Promise<void>): Promise<number> {
  const server = createTcpServer(socket => {
    socket.on('error', () => {})
    listener(socket).catch(() => {})
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/**
 * Answers what has come once per turn of the event loop, and so knows how much has been in flight at once.
 * @param first how many windows of a connection it waits for before it answers one
 * @param welcome its answer to the first message of a connection; without it that is a window too
 */
async function serveWebSocket(
  { first = 1, welcome }: { first?: number; welcome?: Uint8Array },
  onWindow: (socket: WebSocket, message: Buffer, answer: (message: Uint8Array) => void) => void,
): Promise<{ port: number; highest(): number }> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  onTestFinished(() => void server.close())
  let highest = 0
  server.on('connection', socket => {
    let wanted = first
    let inFlight: Buffer[] = []
    const onMessage = (message: Buffer) => {
      if (inFlight.push(message) !== wanted) return
      setImmediate(() => {
        wanted = 1
        highest = Math.max(highest, inFlight.length)
        for (const window of inFlight) onWindow(socket, window, answer => socket.send(answer))
        inFlight = []
      })
    }
    if (welcome === undefined) socket.on('message', onMessage)
    else
      socket.once('message', () => {
        socket.on('message', onMessage)
        socket.send(welcome)
      })
  })
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, highest: () => highest }
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
