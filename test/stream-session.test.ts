import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { loadConfig } from '../src/config.ts'
import { LEVEL } from '../src/core/degradation.ts'
import { CHANNELS } from '../src/core/window.ts'
import { Stream } from '../src/engine/stream.ts'
import { markOf, type Sender, Session, type SessionContext } from '../src/http/session.ts'
import { loadModel } from '../src/model.ts'
import { ServedModels } from '../src/served-models.ts'
import { ORIGIN } from './origin.ts'
import { randomOf } from './random.ts'
import { GOLDEN, MOTIF_COUNT, windowOf } from './windows.ts'
import { fromFrame, IN_BINARY, IN_JSON, type Said, type Speech } from './ws-client.ts'

const STUB = new ServedModels(await loadModel(loadConfig({ INFER_MODE: 'stub' })), null)
const CREDITS = 4
const HIGH_WATER_BYTES = 64 * 1024

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
})

test('Session holds results that come ahead of their turn', async () => {
  const { session, streams, said } = sessionOn(2)
  await hear(session, IN_BINARY.hello(), IN_BINARY.window(0, windowOf(0)), IN_BINARY.window(1, windowOf(1)))
  said.length = 0
  finish(streams[1]!, 0.25)
  await turn()
  expect(said).toEqual([])
  // The slot is another window's by then.
  streams[1]!.ring.slot(0).output.fill(9)
  finish(streams[0]!, 0.5)
  await turn()
  expect(said.map(({ type, seq, n }) => [type, seq ?? n])).toEqual([
    ['result', 0],
    ['result', 1],
    ['credit', 2],
  ])
  expect(said[0]!.bits.every(value => value === 0.5)).toBe(true)
  expect(said[1]!.bits.every(value => value === 0.25)).toBe(true)
})

test('Session uses answers again, and each window gets its own all the same', async () => {
  const { session, streams, said } = sessionOn(1)
  await hear(session, IN_BINARY.hello())
  const answers = ['result', 'invalid_request', 'cancelled', 'result']
  for (let first = 0; first < 5 * CREDITS; first += CREDITS) {
    for (let n = 0; n < CREDITS; n++) {
      session.receive(bytes(IN_BINARY.window(first + n, windowOf(0), n === 1 ? Number.NaN : 0)), true)
    }
    await hear(session, IN_BINARY.cancel(first + 2))
    for (const n of [0, 2, 3]) {
      finish(streams[0]!, (first + n) / 64)
      await turn()
    }
  }
  const given = said.filter(({ type }) => type === 'result' || type === 'error')
  expect(given.map(({ seq, code }) => [seq, code ?? 'result'])).toEqual(
    Array.from({ length: 5 * CREDITS }, (_, n) => [n, answers[n % CREDITS]]),
  )
  const results = given.filter(({ type }) => type === 'result')
  expect(results.map(({ seq, bits }) => bits.every(value => value === seq! / 64))).not.toContain(false)
})

test('Session sends what one drain of a ring settles in one write, with one credit frame', async () => {
  const { session, streams, writes, said } = sessionOn(1)
  await hear(session, IN_BINARY.hello(), ...[0, 1, 2].map(n => IN_BINARY.window(n, windowOf(n))))
  writes.count = said.length = 0
  for (let n = 0; n < 3; n++) finish(streams[0]!, 0.5, n < 2)
  await turn()
  expect(said.map(({ type }) => type)).toEqual(['result', 'result', 'result', 'credit'])
  expect(writes.count).toBe(1)
})

test('Session gives no credit back to a peer that does not read, until it does', async () => {
  const { session, streams, said, sender } = sessionOn(1)
  await hear(session, IN_BINARY.hello(), ...[0, 1, 2, 3].map(n => IN_BINARY.window(n, windowOf(n))))
  said.length = 0
  sender.bufferedBytes = HIGH_WATER_BYTES + 1
  for (let n = 0; n < CREDITS; n++) finish(streams[0]!, 0.5)
  await turn()
  expect(said.map(({ type }) => type)).toEqual(Array(CREDITS).fill('result'))
  await hear(session, IN_BINARY.window(4, windowOf(4)))
  expect(said.at(-1)).toMatchObject({ type: 'error', seq: 4, code: 'overloaded' })

  sender.bufferedBytes = 0
  session.drained()
  await turn()
  expect(said.at(-1)).toMatchObject({ type: 'credit', n: CREDITS })
  await hear(session, IN_BINARY.window(5, windowOf(5)))
  expect(streams[0]!.unsettled).toBe(1)
})

test('Session gives back the credit of a window that it refuses for its sequence', async () => {
  const { session, streams, said } = sessionOn(1)
  await hear(session, IN_BINARY.hello({ first: 1 }))
  for (let n = 0; n < CREDITS; n++) await hear(session, IN_BINARY.window(0, windowOf(0)))
  expect(said.filter(({ type }) => type === 'credit')).toHaveLength(CREDITS)
  await hear(session, ...[1, 2, 3, 4].map(n => IN_BINARY.window(n, windowOf(n))))
  expect(streams[0]!.unsettled).toBe(CREDITS)
})

test('Session closes with 1008 when more than 256 KiB is not read', async () => {
  const { session, closes, sender } = sessionOn(1)
  await hear(session, IN_JSON.hello())
  sender.bufferedBytes = 256 * 1024 + 1
  await hear(session, '{')
  expect(closes).toEqual([{ code: 1008, reason: 'answers are not read' }])
})

test('Session that is thinned leaves out what overlaps a window that went on, not one that was refused', async () => {
  const { streams } = sessionOn(1)
  const refused = { code: 'overloaded', detail: 'full', retryAfterMs: 1 } as const
  const places = [refused, streams[0]!, streams[0]!]
  const { session, said } = sessionOn(1, { level: LEVEL.degraded, admit: () => places.shift()! })
  await hear(session, IN_BINARY.hello({ mode: 'samples', hop: 50, thin: true }))
  await hear(session, IN_BINARY.samples(0, GOLDEN.windows.subarray(0, 250 * CHANNELS)))
  for (let n = 0; n < 2; n++) finish(streams[0]!, 0.5)
  await turn()
  const answers = said.filter(({ type }) => type === 'result' || type === 'error')
  expect(answers.map(({ seq, code = 'ok' }) => [seq, code])).toEqual([
    [0, 'overloaded'],
    [1, 'ok'],
    [2, 'thinned'],
    [3, 'ok'],
  ])
})

test('Session bounds the gaps that wait behind a window', async () => {
  const { session, closes, said } = sessionOn(1)
  await hear(session, IN_BINARY.hello({ mode: 'samples' }), IN_BINARY.samples(0, windowOf(0)))
  for (let n = 0; n < 1025; n++)
    session.receive(bytes(IN_BINARY.samples(1000 + 50 * n, windowOf(0).subarray(0, 9))), true)
  expect(closes).toEqual([{ code: 1008, reason: 'too many windows without a credit' }])
  await turn()
  expect(said.map(({ type }) => type)).toEqual(['welcome'])
})

test('Session waits 10 s for a hello', async () => {
  const { closes } = sessionOn(1)
  vi.advanceTimersByTime(9999)
  expect(closes).toEqual([])
  vi.advanceTimersByTime(1)
  expect(closes).toEqual([{ code: 1008, reason: 'no hello within 10 s' }])
})

test('Session closes with 1001 after 5 minutes without a frame, and not before', async () => {
  const { session, closes, clock } = sessionOn(1)
  await hear(session, IN_BINARY.hello())
  vi.advanceTimersByTime(299_000)
  clock.ms += 299_000
  await hear(session, IN_BINARY.cancel(7))
  vi.advanceTimersByTime(299_999)
  expect(closes).toEqual([])
  vi.advanceTimersByTime(1)
  expect(closes).toEqual([{ code: 1001, reason: 'silent for 5 minutes' }])
})

test('Session whose peer is gone frees what waits, says nothing and sets no timer', async () => {
  const { session, streams, said, closes } = sessionOn(1)
  await hear(session, IN_BINARY.hello(), IN_BINARY.window(0, windowOf(0)), IN_BINARY.window(1, windowOf(1)))
  said.length = 0
  session.gone()
  expect(streams[0]!.unsettled).toBe(0)
  finish(streams[0]!, 0.5)
  session.drain()
  session.end(1012, 'late')
  await hear(session, IN_BINARY.window(2, windowOf(2)))
  vi.advanceTimersByTime(600_000)
  expect(said).toEqual([])
  expect(closes).toEqual([])
})

test('Session counts a deadline from the arrival of the frame, and caps it', async () => {
  const { session, streams } = sessionOn(1)
  const deadlineOf = (n: number) => streams[0]!.ring.slot(n).deadlineMs
  await hear(
    session,
    IN_BINARY.hello(),
    IN_BINARY.window(0, windowOf(0)),
    IN_BINARY.window(1, windowOf(0), 77.5),
    IN_BINARY.window(2, windowOf(0), Number.POSITIVE_INFINITY),
  )
  expect([0, 1, 2].map(deadlineOf)).toEqual([ARRIVED_MS + 40, ARRIVED_MS + 77.5, ARRIVED_MS + 5000])
  expect(streams[0]!.unsettled).toBe(3)
})

test.each([Number.NaN, -0.5, Number.NEGATIVE_INFINITY])(
  'Session refuses a deadline of %d',
  async deadlineMs => {
    const { session, streams, said } = sessionOn(1)
    await hear(session, IN_BINARY.hello(), IN_BINARY.window(0, windowOf(0), deadlineMs))
    expect(streams[0]!.unsettled).toBe(0)
    expect(said.slice(1)).toMatchObject([
      { type: 'error', seq: 0, code: 'invalid_request' },
      { type: 'credit', n: 1 },
    ])
  },
)

test('Session never throws, whatever it hears, and answers what it was asked afterwards', async () => {
  const seed = Date.now() % 2 ** 32
  const random = randomOf(seed)
  for (const speech of [IN_BINARY, IN_JSON]) {
    const { session, streams, said, clock } = sessionOn(1)
    await hear(session, speech.hello())
    for (let round = 0; round < 3000; round++) {
      clock.ms += 10 // slowly enough to be no flood
      const good = [
        speech.window(0, windowOf(0)),
        speech.samples(0, windowOf(0)),
        speech.cancel(0),
        speech.hello(),
      ]
      const message = bytes(good[round % good.length]!)
      const cut = message.slice(0, random() < 0.5 ? Math.floor(random() * 40) : message.length)
      for (let n = 0; n < 4 && cut.length > 0; n++)
        cut[Math.floor(random() * Math.min(cut.length, 40))] = random() * 256
      // Not bye: it would be obeyed.
      if (speech === IN_BINARY && cut[0] === 5) continue
      session.receive(cut, speech === IN_BINARY)
      while (streams[0]!.unsettled > 0) finish(streams[0]!, 0.5)
      await turn()
    }
    said.length = 0
    await hear(session, speech.cancel(0), '{}')
    expect(said.at(-1), `seed ${seed}`).toMatchObject({ type: 'error', code: 'invalid_request' })
  }
})

const ARRIVED_MS = 2 ** 40

/** A session in front of streams without workers, each of which gets the next window in turn. @param engine what is other than that */
function sessionOn(streamCount: number, engine: Partial<SessionContext['engine']> = {}) {
  const observer = {
    inferenceEnded: () => {},
    cancelled: () => {},
    windowAnswered: () => {},
    settled: () => {},
  }
  const streams = Array.from(
    { length: streamCount },
    () => new Stream({ capacity: 16, motifCount: MOTIF_COUNT, observer }),
  )
  let admitted = 0
  const said: Said[] = []
  const closes: { code: number; reason: string }[] = []
  const writes = { count: 0 }
  const clock = { ms: ARRIVED_MS }
  const sender = {
    bufferedBytes: 0,
    send: frames => {
      writes.count++
      said.push(...frames.map(fromFrame))
    },
    close: (code, reason) => void closes.push({ code, reason }),
  } satisfies Sender as Sender & { bufferedBytes: number }
  const context: SessionContext = {
    engine: {
      draining: false,
      level: LEVEL.normal,
      admit: () => streams[admitted++ % streamCount]!,
      submit: (stream, times, waiter) => stream.publish(times, waiter),
      ...engine,
    },
    backend: 'stub',
    models: STUB,
    mark: STUB.told(markOf),
    motifCount: MOTIF_COUNT,
    credits: CREDITS,
    deadlineMs: 40,
    maxDeadlineMs: 5000,
    metrics: { framed: () => {}, frames: () => ({ count: 0 }), refused: () => {}, thinned: () => {} },
    witness: { windowFailed: () => {} },
    turn: { arrivedMs: () => clock.ms },
  }
  return {
    session: new Session(sender, context, { ...ORIGIN, allowance: null }),
    streams,
    said,
    closes,
    writes,
    clock,
    sender,
  }
}

async function hear(session: Session, ...messages: ReturnType<Speech['bye']>[]): Promise<void> {
  for (const message of messages) session.receive(bytes(message), typeof message !== 'string')
  await turn()
}

/** Does the worker's part for the oldest window. */
function finish(stream: Stream, value: number, quietly = false): void {
  const { ring } = stream
  const sequence = ring.completed
  const slot = ring.slot(sequence)
  if (slot.take(0)) {
    slot.output.fill(value)
    slot.finish('ok', 'stub', 1)
  }
  ring.complete(sequence)
  if (!quietly) stream.settleCompleted()
}

/** What was to be done in a microtask is done. */
async function turn(): Promise<void> {
  for (let n = 0; n < 3; n++) await Promise.resolve()
}

function bytes(message: string | Uint8Array): Uint8Array {
  return Uint8Array.from(Buffer.from(message))
}
