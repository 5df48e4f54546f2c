import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import {
  type Inference,
  InferenceClient,
  InferenceError,
  StreamClient,
  type StreamFailure,
  type StreamOptions,
  type StreamResult,
} from '../client/index.ts'
import { CHANNELS, TIMESTEPS, WINDOW_VALUES } from '../src/core/window.ts'
import { OCTET_STREAM, postWindow, resultOf } from './http-client.ts'
import { startServer, type TestServer } from './server.ts'
import { GOLDEN, windowOf } from './windows.ts'

const KEY = 'correct-horse.battery_staple'
/** Deadlines are not what is tested here, and the machine may be slow. */
const ENV = {
  // Below those that the system gives to clients: one of them could have it while the server is away.
  SIDECAR_PORT: String(20_000 + (process.pid % 10_000)),
  WORKERS: '2',
  DEADLINE_MS: '9000',
  MAX_DEADLINE_MS: '9000',
  LOG_LEVEL: 'fatal',
  API_KEY: KEY,
}
const HOP = 50
/** Windows that a server takes before it has answered one. If it has no model yet, so many are told so. */
const CREDITS = 32

let server: TestServer
/** What POST /infer answers to each golden window: latent, then motif scores. */
const posted: Float32Array[] = []
/** The same for windows cut out of the golden ones behind each other. */
const cut: Float32Array[] = []

beforeAll(async () => {
  server = await startServer(ENV)
  const headers = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM, 'X-API-Key': KEY }
  for (let n = 0; n < GOLDEN.count; n++) posted.push(resultOf(await postWindow(server, windowOf(n), headers)))
  for (let k = 0; k * HOP + TIMESTEPS <= GOLDEN.count * TIMESTEPS; k++) {
    cut.push(resultOf(await postWindow(server, recorded(k * HOP, k * HOP + TIMESTEPS), headers)))
  }
})
afterAll(() => server.stop())

describe('InferenceClient', () => {
  test.each([false, true])('infer() gives bit by bit what POST /infer answers (json: %j)', async json => {
    const client = new InferenceClient(server.url, { apiKey: KEY, json })
    for (let n = 0; n < GOLDEN.count; n += 7) {
      const inference = await client.infer(windowOf(n))
      expect(bitsOf(inference)).toEqual(posted[n])
      expect(inference).toMatchObject({
        backend: 'onnx',
        modelSha256: expect.stringMatching(/^[0-9a-f]{12}$/),
        requestId: expect.any(String),
        queueMs: expect.any(Number),
        inferMs: expect.any(Number),
      })
    }
  })

  test('inferMany() gives bit by bit what POST /infer answers to each, and tells a bad one alone', async () => {
    const client = new InferenceClient(server.url, { apiKey: KEY })
    const windows = GOLDEN.windows.slice()
    windows[5 * WINDOW_VALUES + 3] = NaN
    const { results, failedCount } = await client.inferMany(windows, { windowsPerRequest: 10 })
    const bits = results.map(result => ('error' in result ? result.error : bitsOf(result)))
    expect(bits).toEqual(posted.with(5, 'invalid_window' as never))
    expect(failedCount).toBe(1)
  })

  test('health() and ready() read what the server says', async () => {
    const client = new InferenceClient(server.url)
    expect(await client.ready()).toEqual({ ready: true, reasons: [] })
    expect(await client.health()).toMatchObject({ ok: true, mode: 'onnx' })
  })

  test('without the key infer() rejects with `unauthorized`', async () => {
    const refused = new InferenceClient(server.url).infer(windowOf(0))
    await expect(refused).rejects.toMatchObject({ code: 'unauthorized', status: 401 })
  })
})

describe('StreamClient', () => {
  test('send() gives bit by bit what POST /infer answers, and fails a bad window alone', async () => {
    const stream = open()
    const bad = windowOf(5).slice()
    bad[3] = NaN
    const answers = await Promise.allSettled(
      posted.map((_, n) => stream.send(n === 5 ? bad : windowOf(n), { deadlineMs: 9000 })),
    )
    for (const [n, answer] of answers.entries()) {
      if (n === 5) {
        expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'invalid_window' } })
      } else if (answer.status === 'rejected') throw answer.reason
      else expect([answer.value.sequence, bitsOf(answer.value)]).toEqual([n, posted[n]])
    }
    await stream.close()
  })

  test('a recording in pieces of any size gives bit by bit what POST /infer answers to its windows', async () => {
    const stream = open({ mode: 'samples', hop: HOP })
    const length = GOLDEN.count * TIMESTEPS
    for (let from = 0, piece = 1; from < length; from += piece, piece = 1 + ((piece * 7919) % 211)) {
      stream.push(recorded(from, Math.min(from + piece, length)))
    }
    const closed = stream.close()
    let next = 0
    for await (const answer of stream) {
      if ('error' in answer) throw new InferenceError(answer.error, answer.detail)
      expect([answer.sequence, bitsOf(answer)]).toEqual([next, cut[next]])
      next++
    }
    expect(next).toBe(cut.length)
    await closed
  })

  test('without the key it gives up, and says what the handshake was answered', async () => {
    const stream = new StreamClient(urlOf(server), { webSocket: WebSocket, maxReconnects: 1 })
    await expect(stream.send(windowOf(0))).rejects.toMatchObject({
      code: 'disconnected',
      detail: expect.stringMatching(/^Gave up after 2 connections in a row: .*401/),
    })
  })

  test('a steady stream outlives a server that drains, and one that is killed: all is answered, once', async () => {
    const windows = open({ capacity: 100_000, maxReconnects: 1000 })
    const answers: (StreamResult | StreamFailure)[] = []
    const gaps: unknown[] = []
    const samples = open({
      mode: 'samples',
      hop: HOP,
      capacity: 1_000_000,
      maxReconnects: 1000,
      onAnswer: answer => answers.push(answer),
      onGap: gap => gaps.push(gap),
    })
    /** How each window ended, by its index. */
    const ends: string[][] = []
    const send = () => {
      const index = ends.length
      const mine: string[] = []
      ends.push(mine)
      const n = index % GOLDEN.count
      windows.send(windowOf(n)).then(
        result => mine.push(same(bitsOf(result), posted[n]!) ? 'ok' : 'wrong'),
        (error: InferenceError) => mine.push(error.code),
      )
    }
    let pushed = 0
    const push = (count: number) => {
      const length = GOLDEN.count * TIMESTEPS
      const from = pushed % length
      const taken = Math.min(count, length - from)
      samples.push(recorded(from, from + taken))
      pushed += taken
    }
    const timer = setInterval(() => {
      for (let burst = 0; burst < 2; burst++) send()
      push(77)
    }, 10)
    onTestFinished(() => clearInterval(timer))

    const answered = () => ends.filter(([end]) => end === 'ok').length
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const before = answered()
      while (answered() < before + 50) await sleep(10)
      await server.stop(signal)
      server = await startServer(ENV)
    }
    const before = answered()
    while (answered() < before + 50) await sleep(10)
    clearInterval(timer)
    await Promise.all([windows.close(), samples.close()])

    const count = Math.floor((pushed - TIMESTEPS) / HOP) + 1
    expect(answers.map(({ sequence }) => sequence)).toEqual(Array.from({ length: count }, (_, k) => k))
    expect(gaps).toEqual([])
    const cutEnds = answers.map(answer =>
      'error' in answer ? answer.error : isOfRecording(answer) ? 'ok' : 'wrong',
    )
    for (const endings of [ends.map(end => end.join()), cutEnds]) {
      expect(endings.filter(end => end !== 'ok' && end !== 'model_unavailable')).toEqual([])
      expect(endings.filter(end => end === 'model_unavailable').length).toBeLessThanOrEqual(2 * CREDITS)
    }
  })
})

/** Samples of the golden windows behind each other. */
function recorded(from: number, to: number): Float32Array {
  return GOLDEN.windows.subarray(from * CHANNELS, to * CHANNELS)
}

function urlOf({ port }: TestServer): string {
  return `ws://127.0.0.1:${port}/stream`
}

/** Ends with the test, if not before. */
function open(options: StreamOptions = {}): StreamClient {
  const stream = new StreamClient(urlOf(server), { webSocket: WebSocket, apiKey: KEY, ...options })
  onTestFinished(() => stream.close({ now: true }))
  return stream
}

function bitsOf({ latent, motifScores }: Pick<Inference, 'latent' | 'motifScores'>): Float32Array {
  return Float32Array.of(...latent, ...motifScores)
}

function same(one: Float32Array, other: Float32Array): boolean {
  return one.length === other.length && one.every((value, index) => value === other[index])
}

/** The golden windows behind each other, again and again: windows over the seam are others than `cut` knows. */
function isOfRecording(result: StreamResult): boolean {
  const perRound = (GOLDEN.count * TIMESTEPS) / HOP
  const k = result.sequence % perRound
  return k >= cut.length || same(bitsOf(result), cut[k]!)
}
