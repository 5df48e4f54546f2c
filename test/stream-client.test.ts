import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import {
  InferenceError,
  StreamClient,
  type StreamFailure,
  type StreamOptions,
  type StreamResult,
} from '../client/index.ts'
import { distinctWindow, type FakeSocket, fakeWebSocket, resultFor, windowIn } from './fake-stream.ts'

const URL = 'ws://test/stream'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

function open(options: StreamOptions = {}) {
  const fake = fakeWebSocket()
  const stream = new StreamClient(URL, { webSocket: fake.WebSocket, ...options })
  return { stream, fake }
}

/** What became of promises, by their index: pending ones are missing. */
function watch(promises: Promise<StreamResult>[]) {
  const settled: (number | string)[][] = promises.map(() => [])
  promises.forEach((promise, index) => {
    promise.then(
      ({ sequence }) => settled[index]!.push(sequence),
      (error: InferenceError) => settled[index]!.push(error.code),
    )
  })
  return settled
}

const turn = () => vi.advanceTimersByTimeAsync(0)

test('a stream says hello, sends a window with its bytes and deadline, and resolves with its result', async () => {
  const { stream, fake } = open()
  expect(fake.last.url).toBe(URL)
  expect(fake.last.binaryType).toBe('arraybuffer')
  fake.last.welcome(2)
  expect(fake.last.of('hello')).toMatchObject([{ version: 1, mode: 0, hop: 50, first: 0 }])
  const window = distinctWindow(5)
  const answer = stream.send(window, { deadlineMs: 25 })
  const [, sent] = fake.last.received
  expect(sent).toMatchObject({ name: 'window', head: { sequence: 0, deadlineMs: 25 } })
  expect(windowIn(sent!.payload)).toEqual(window)
  fake.last.result(0, window)
  expect(await answer).toEqual({
    sequence: 0,
    ...resultFor(window),
    backend: 'onnx',
    modelSha256: '01080f161d24',
    queueMs: 1.5,
    inferMs: 0.25,
  })
  expect(vi.getTimerCount()).toBe(0) // none keeps a process alive
})

test('a result of another backend than the one configured names no model, and one without a model is the stub', async () => {
  const { stream, fake } = open()
  fake.last.welcome(2, { backend: 0 })
  const first = stream.send(distinctWindow(0))
  fake.last.result(0, distinctWindow(0))
  expect(await first).toMatchObject({ backend: 'onnx', modelSha256: null })
  fake.last.drop()
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(2, { backend: 2, model: new Uint8Array(32) })
  const second = stream.send(distinctWindow(1))
  fake.last.result(1, distinctWindow(1), { backend: 2, modelStart: 0 })
  expect(await second).toMatchObject({ backend: 'stub', modelSha256: 'stub' })
})

test('send() copies the window: the caller may use its array again', async () => {
  const { stream, fake } = open()
  const window = distinctWindow(1)
  void stream.send(window)
  window.fill(0)
  await turn()
  fake.last.welcome(1)
  expect(windowIn(fake.last.received[1]!.payload)).toEqual(distinctWindow(1))
})

test('send() waits for a credit, and flushed() tells when nothing waits', async () => {
  const { stream, fake } = open()
  const settled = watch([0, 1, 2, 3, 4].map(n => stream.send(distinctWindow(n))))
  fake.last.welcome(2)
  const flushed = vi.fn()
  void stream.flushed().then(flushed)
  expect(fake.last.of('window').map(({ sequence }) => sequence)).toEqual([0, 1])
  fake.last.result(0, distinctWindow(0))
  await turn()
  expect(fake.last.of('window')).toHaveLength(2) // an answer is no credit
  fake.last.say('credit', { count: 2 })
  expect(fake.last.of('window')).toHaveLength(4)
  await turn()
  expect(flushed).not.toHaveBeenCalled()
  fake.last.say('credit', { count: 1 })
  await turn()
  expect(fake.last.of('window')).toHaveLength(5)
  expect(flushed).toHaveBeenCalledTimes(1)
  expect(settled).toEqual([[0], [], [], [], []])
})

test('send() refuses what does not fit: a window of another length, and more windows than may wait', async () => {
  const { stream, fake } = open({ capacity: 2 })
  await expect(stream.send(new Float32Array(899))).rejects.toMatchObject({ code: 'invalid_window' })
  const settled = watch([0, 1, 2].map(n => stream.send(distinctWindow(n))))
  await turn()
  expect(settled).toEqual([[], [], ['queue_full']])
  fake.last.welcome(9)
  expect(stream.nextSequence).toBe(2) // those that were refused have no number
  watch([stream.send(distinctWindow(3))])
  expect(fake.last.of('window').map(({ sequence }) => sequence)).toEqual([0, 1, 2])
})

test('answers settle their own window in whatever order they come, once, and others not at all', async () => {
  const { stream, fake } = open()
  fake.last.welcome(4)
  const promises = [0, 1, 2, 3].map(n => stream.send(distinctWindow(n)))
  const settled = watch(promises)
  for (const sequence of [2, 2, 0, 77, 3]) fake.last.result(sequence, distinctWindow(sequence))
  fake.last.error(2, 'overloaded')
  fake.last.error(1, 'overloaded', 'too much', 120)
  fake.last.result(1, distinctWindow(1))
  await turn()
  expect(settled).toEqual([[0], ['overloaded'], [2], [3]])
  await expect(promises[1]).rejects.toMatchObject({ detail: 'too much', retryAfterMs: 120, status: null })
  expect((await promises[2]!).latent).toEqual(resultFor(distinctWindow(2)).latent)
})

test('after a lost connection what has no answer is sent again with its number, and hello tells the lowest', async () => {
  const { stream, fake } = open()
  fake.last.welcome(4)
  const settled = watch([0, 1, 2, 3, 4, 5].map(n => stream.send(distinctWindow(n))))
  fake.last.result(0, distinctWindow(0))
  fake.last.result(2, distinctWindow(2))
  const first = fake.last
  first.drop()
  await vi.advanceTimersByTimeAsync(100)
  expect(fake.sockets).toHaveLength(2)
  fake.last.welcome(3)
  expect(fake.last.of('hello')).toMatchObject([{ first: 1 }])
  expect(fake.last.of('window').map(({ sequence }) => sequence)).toEqual([1, 3, 4])
  expect(windowIn(fake.last.received[2]!.payload)).toEqual(distinctWindow(3))
  first.state = 'open'
  first.result(1, distinctWindow(9)) // what the past still tells
  fake.last.say('credit', { count: 9 })
  for (const sequence of [1, 3, 4, 5]) fake.last.result(sequence, distinctWindow(sequence))
  await turn()
  expect(settled).toEqual([[0], [1], [2], [3], [4], [5]])
})

test('a window whose deadline passes before it can be sent, or sent again, ends there and then', async () => {
  const { stream, fake } = open()
  fake.last.welcome(1)
  const settled = watch([
    stream.send(distinctWindow(0), { deadlineMs: 30 }),
    stream.send(distinctWindow(1), { deadlineMs: 30 }),
    stream.send(distinctWindow(2), { deadlineMs: 9000 }),
  ])
  await vi.advanceTimersByTimeAsync(31)
  expect(settled).toEqual([[], ['deadline_exceeded'], []]) // the first is the server's to answer
  fake.last.drop()
  await turn()
  expect(settled).toEqual([['deadline_exceeded'], ['deadline_exceeded'], []])
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(9)
  const [window] = fake.last.of('window')
  expect(window!.sequence).toBe(2)
  expect(window!.deadlineMs).toBeGreaterThan(8800)
  expect(window!.deadlineMs).toBeLessThan(8970)
})

test('cancel() tells the server of a window that was sent, and takes back one that waits', async () => {
  const { stream, fake } = open()
  fake.last.welcome(1)
  const settled = watch([0, 1].map(n => stream.send(distinctWindow(n))))
  stream.cancel(1)
  stream.cancel(0)
  stream.cancel(99)
  await turn()
  expect(settled).toEqual([[], ['cancelled']])
  expect(fake.last.of('cancel')).toMatchObject([{ sequence: 0 }])
  fake.last.result(0, distinctWindow(0)) // it was on its way already
  await turn()
  expect(settled).toEqual([[0], ['cancelled']])
})

test('send() given up by its signal rejects with the reason of the signal, wherever the window is', async () => {
  const { stream, fake } = open({ capacity: 1 })
  fake.last.welcome(1)
  const reason = new Error('enough')
  const early = stream.send(distinctWindow(0), { signal: AbortSignal.abort(reason) })
  await expect(early).rejects.toBe(reason)
  const controller = new AbortController()
  const { signal } = controller
  const sent = stream.send(distinctWindow(0), { signal })
  const waiting = stream.send(distinctWindow(1), { signal })
  const refused = stream.send(distinctWindow(2), { signal })
  const ends = Promise.allSettled([sent, waiting, refused])
  controller.abort(reason)
  expect(fake.last.of('cancel')).toMatchObject([{ sequence: 0 }])
  expect(await ends).toMatchObject([{ reason }, { reason }, { reason: { code: 'queue_full' } }])
  const [other] = watch([stream.send(distinctWindow(2))])
  fake.last.error(0, 'cancelled')
  fake.last.say('credit', { count: 1 })
  expect(fake.last.of('window').map(({ sequence }) => sequence)).toEqual([0, 2])
  fake.last.result(2, distinctWindow(2))
  await turn()
  expect(other).toEqual([2])
})

test('send() forgets a signal once the window has ended, and never listens to that of a refused one', async () => {
  const { stream, fake } = open({ capacity: 1 })
  fake.last.welcome(1)
  const controller = new AbortController()
  const { signal } = controller
  const removed = vi.spyOn(signal, 'removeEventListener')
  const answer = stream.send(distinctWindow(0), { signal })
  fake.last.result(0, distinctWindow(0))
  expect(await answer).toMatchObject({ sequence: 0 })
  await turn()
  expect(removed).toHaveBeenCalledTimes(1)
  const settled = watch([stream.send(new Float32Array(1), { signal }), stream.send(distinctWindow(1))])
  controller.abort() // the refused one has no number: this must not be that of the next
  await turn()
  expect(settled).toEqual([['invalid_window'], []])
})

test('send() takes a deadline beyond what setTimeout() holds', async () => {
  const { stream, fake } = open()
  const settled = watch([3e9, Infinity].map(deadlineMs => stream.send(distinctWindow(0), { deadlineMs })))
  await vi.advanceTimersByTimeAsync(5000)
  expect(settled).toEqual([[], []])
  fake.last.welcome(2)
  const [first, second] = fake.last.of('window')
  expect(first!.deadlineMs).toBeGreaterThan(2.9e9)
  expect(second!.deadlineMs).toBe(0)
})

test('a stream takes a timeout beyond what setTimeout() holds', async () => {
  const { fake } = open({ timeoutMs: 3e9 })
  await vi.advanceTimersByTimeAsync(60_000)
  expect(fake.sockets).toHaveLength(1)
})

test('a cancelled window is not sent again after a lost connection', async () => {
  const { stream, fake } = open()
  fake.last.welcome(2)
  const settled = watch([0, 1].map(n => stream.send(distinctWindow(n))))
  stream.cancel(0)
  fake.last.drop()
  await turn()
  expect(settled).toEqual([['cancelled'], []])
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(2)
  expect(fake.last.of('window').map(({ sequence }) => sequence)).toEqual([1])
})

test('a draining server gets nothing new, its successor does', async () => {
  const onDraining = vi.fn()
  const { stream, fake } = open({ onDraining })
  fake.last.welcome(9)
  const settled = watch([stream.send(distinctWindow(0))])
  fake.last.say('draining', {})
  expect(onDraining).toHaveBeenCalledTimes(1)
  settled.push(...watch([stream.send(distinctWindow(1))]))
  expect(fake.last.of('window')).toHaveLength(1)
  fake.last.result(0, distinctWindow(0))
  fake.last.drop(1012)
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(9)
  expect(fake.last.of('hello')).toMatchObject([{ first: 1 }])
  fake.last.result(1, distinctWindow(1))
  await turn()
  expect(settled).toEqual([[0], [1]])
})

test('windows that cross `draining` are sent again to the successor, and count as no answer', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0)
  const { stream, fake } = open()
  fake.last.drop()
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(9)
  const settled = watch(
    [0, 1, 2, 3].map(n => stream.send(distinctWindow(n), { deadlineMs: n === 2 ? 150 : 900 })),
  )
  stream.cancel(3)
  fake.last.error(1, 'draining', 'The server is shutting down', 1000)
  fake.last.error(2, 'draining', 'The server is shutting down', 1000)
  fake.last.say('credit', { count: 2 })
  settled.push(...watch([stream.send(distinctWindow(4))]))
  expect(fake.last.of('window')).toHaveLength(4) // it drains, said or not
  fake.last.drop(1012)
  await vi.advanceTimersByTimeAsync(199)
  expect(fake.sockets).toHaveLength(2)
  await vi.advanceTimersByTimeAsync(1)
  expect(settled).toEqual([[], [], ['deadline_exceeded'], ['cancelled'], []])
  fake.last.welcome(9)
  expect(fake.last.of('hello')).toMatchObject([{ first: 0 }])
  expect(fake.last.of('window').map(({ sequence }) => sequence)).toEqual([0, 1, 4])
  for (const sequence of [0, 1, 4]) fake.last.result(sequence, distinctWindow(sequence))
  await turn()
  expect(settled).toEqual([[0], [1], ['deadline_exceeded'], ['cancelled'], [4]])
})

test('a server without a model gets nothing more until it wants to be asked again', async () => {
  const { stream, fake } = open()
  fake.last.welcome(2)
  const settled = watch([0, 1, 2, 3].map(n => stream.send(distinctWindow(n))))
  fake.last.error(0, 'model_unavailable', 'it starts', 1000)
  await vi.advanceTimersByTimeAsync(400)
  fake.last.error(1, 'model_unavailable', 'it starts', 1000)
  fake.last.say('credit', { count: 2 })
  await vi.advanceTimersByTimeAsync(999)
  expect(settled).toEqual([['model_unavailable'], ['model_unavailable'], [], []])
  expect(fake.last.of('window')).toHaveLength(2)
  await vi.advanceTimersByTimeAsync(1)
  expect(fake.last.of('window')).toHaveLength(4)
})

test('a result ends the pause: there is a model again', async () => {
  const { stream, fake } = open()
  fake.last.welcome(2)
  watch([0, 1, 2].map(n => stream.send(distinctWindow(n))))
  fake.last.error(0, 'model_unavailable', 'the worker was lost', 1000)
  fake.last.say('credit', { count: 1 })
  expect(fake.last.of('window')).toHaveLength(2)
  fake.last.result(1, distinctWindow(1))
  expect(fake.last.of('window')).toHaveLength(3)
})

test('a pause ends with its connection', async () => {
  const { stream, fake } = open()
  fake.last.welcome(2)
  const settled = watch([0, 1].map(n => stream.send(distinctWindow(n))))
  fake.last.error(0, 'model_unavailable', 'it starts', 2 ** 32 - 1)
  fake.last.drop()
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(2)
  fake.last.result(1, distinctWindow(1))
  await turn()
  expect(settled).toEqual([['model_unavailable'], [1]])
  fake.last.say('credit', { count: 2 })
  fake.last.error(2, 'model_unavailable', 'not a window of ours', 1000)
  await stream.close({ now: true })
  expect(vi.getTimerCount()).toBe(0)
})

test('a window of a recording that a draining server refused is cut again by its successor', async () => {
  const answers: (StreamResult | StreamFailure)[] = []
  const { stream, fake } = open({ mode: 'samples', hop: 50, onAnswer: answer => answers.push(answer) })
  fake.last.welcome(9)
  stream.push(recordingOf(0, 200)) // windows 0 to 2
  fake.last.result(0, recordingOf(0, 100))
  fake.last.say('draining', {})
  fake.last.error(1, 'draining')
  fake.last.error(2, 'draining')
  fake.last.drop(1012)
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(9)
  expect(fake.last.of('hello')).toMatchObject([{ first: 1 }])
  for (const window of [1, 2]) fake.last.result(window, recordingOf(window * 50, window * 50 + 100))
  expect(answers.map(({ sequence }) => sequence)).toEqual([0, 1, 2])
  expect(answers.filter(answer => 'error' in answer)).toEqual([])
})

test('reconnects come after growing delays from 100 ms to 5 s, and after an answer from the start again', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0)
  const { stream, fake } = open({ maxReconnects: 20 })
  const delays: number[] = []
  const lose = async () => {
    const before = fake.sockets.length
    const startMs = performance.now()
    fake.last.drop()
    while (fake.sockets.length === before) await vi.advanceTimersByTimeAsync(1)
    delays.push(Math.round(performance.now() - startMs))
  }
  for (let failure = 0; failure < 8; failure++) await lose()
  expect(delays).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000])
  fake.last.welcome(1)
  await lose() // a welcome alone proves nothing
  expect(delays.at(-1)).toBe(5000)
  fake.last.welcome(1)
  const answer = stream.send(distinctWindow(0))
  fake.last.result(0, distinctWindow(0))
  await answer
  await lose()
  expect(delays.at(-1)).toBe(100)
  await lose()
  fake.last.welcome(1)
  await vi.advanceTimersByTimeAsync(5000) // as does one that lasts
  await lose()
  expect(delays.at(-1)).toBe(100)
  vi.mocked(Math.random).mockReturnValue(0.8)
  await lose()
  expect(delays.at(-1)).toBe(120)
})

test('after too many failures in a row everything that is pending rejects with `disconnected`', async () => {
  const onEnd = vi.fn()
  const { stream, fake } = open({ maxReconnects: 2, onEnd })
  fake.last.welcome(1)
  const settled = watch([0, 1].map(n => stream.send(distinctWindow(n))))
  const flushed = stream.flushed().catch(error => error.code)
  for (let connection = 1; connection <= 3; connection++) {
    expect(fake.sockets).toHaveLength(connection)
    fake.last.drop()
    await vi.advanceTimersByTimeAsync(1000)
  }
  expect(fake.sockets).toHaveLength(3)
  expect(settled).toEqual([['disconnected'], ['disconnected']])
  expect(await flushed).toBe('disconnected')
  expect(onEnd).toHaveBeenCalledTimes(1)
  expect(onEnd.mock.calls[0]![0]).toMatchObject({
    code: 'disconnected',
    detail: 'Gave up after 3 connections in a row: the connection failed',
  })
  await expect(stream.send(distinctWindow(2))).rejects.toMatchObject({ code: 'disconnected' })
  await stream.close()
})

// Those of Node.js 20 and 22 tell no close.
test('a connection that fails with an error alone is tried again as soon as one that closes', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0)
  const onEnd = vi.fn()
  const { fake } = open({ maxReconnects: 2, onEnd })
  for (const [failure, waitMs] of [100, 200].entries()) {
    fake.last.fail('connect ECONNREFUSED')
    await vi.advanceTimersByTimeAsync(waitMs - 1)
    expect(fake.sockets).toHaveLength(failure + 1)
    await vi.advanceTimersByTimeAsync(1)
    expect(fake.sockets).toHaveLength(failure + 2)
  }
  fake.last.fail('connect ECONNREFUSED')
  expect(onEnd.mock.calls).toMatchObject([
    [{ detail: 'Gave up after 3 connections in a row: the connection failed: connect ECONNREFUSED' }],
  ])
})

// The package `ws` emits that error, and whoever listens no more would end the process.
test('a connection that is given up before it is open counts once, and its error is listened to', async () => {
  const onEnd = vi.fn()
  const { fake } = open({ maxReconnects: 1, timeoutMs: 1000, onEnd })
  await vi.advanceTimersByTimeAsync(1000 + 100)
  expect(fake.sockets).toHaveLength(2)
  expect(onEnd).not.toHaveBeenCalled()
  await vi.advanceTimersByTimeAsync(1000)
  expect(onEnd.mock.calls).toMatchObject([[{ detail: expect.stringContaining('after 2 connections') }]])
})

test('a key goes to the server as a subprotocol, again with each connection', async () => {
  const { fake } = open({ apiKey: "aZ09!#$%&'*+-.^_`|~" })
  fake.last.drop()
  await vi.advanceTimersByTimeAsync(100)
  for (const { protocols } of fake.sockets) expect(protocols).toEqual(['hailo.v1', "key.aZ09!#$%&'*+-.^_`|~"])
  expect(fake.sockets).toHaveLength(2)
  expect(open().fake.last.protocols).toBeUndefined()
})

test.each(['', 'white space', 'comma,', 'base64/==', 'schlüssel', 'line\n'])(
  'a key that a subprotocol cannot carry is refused: %j',
  apiKey => {
    const { WebSocket, sockets } = fakeWebSocket()
    expect(() => new StreamClient(URL, { webSocket: WebSocket, apiKey })).toThrow(
      /^Cannot send this API key as a subprotocol/,
    )
    expect(sockets).toHaveLength(0)
  },
)

test('a hello that is refused is not repeated', async () => {
  const onEnd = vi.fn()
  const { stream, fake } = open({ onEnd })
  const settled = watch([stream.send(distinctWindow(0))])
  fake.last.open()
  fake.last.error(null, 'invalid_request', 'Cannot read hello: version is 1, expected 2')
  fake.last.drop(1002)
  await vi.advanceTimersByTimeAsync(10_000)
  expect(fake.sockets).toHaveLength(1)
  expect(settled).toEqual([['invalid_request']])
  expect(onEnd.mock.calls).toMatchObject([[{ detail: 'Cannot read hello: version is 1, expected 2' }]])
})

test.each<[string, (socket: FakeSocket) => void]>([
  ['text', socket => socket.deliver('{"type":"welcome"}')],
  ['an empty frame', socket => socket.deliver(new ArrayBuffer(0))],
  ['a frame of an unknown type', socket => socket.deliver(new Uint32Array([200, 1, 2]).buffer)],
  ['a frame of the client', socket => socket.say('bye', {})],
  ['a head cut short', socket => socket.deliver(new Uint32Array([130, 0]).buffer)],
  ['a result cut short', socket => socket.say('result', RESULT_HEAD, new Uint8Array(300))],
  ['a result with a motif too many', socket => socket.say('result', RESULT_HEAD, new Uint8Array(308))],
  ['a second welcome', socket => socket.welcome(4)],
])('a server that sends %s is left, and the window sent to the next connection', async (_, garble) => {
  const { stream, fake } = open()
  const [first] = fake.sockets
  first!.welcome(4)
  const settled = watch([stream.send(distinctWindow(0))])
  garble(first!)
  expect(first!.state).toBe('closed')
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(4)
  fake.last.result(0, distinctWindow(0))
  await turn()
  expect(settled).toEqual([[0]])
})

test('a result before the welcome is garbage', async () => {
  const { fake } = open()
  fake.last.open()
  fake.last.result(0, distinctWindow(0))
  expect(fake.last.state).toBe('closed')
})

test('a status that the client does not know rejects its window alone', async () => {
  const { stream, fake } = open()
  fake.last.welcome(4)
  const settled = watch([stream.send(distinctWindow(0))])
  const head = { sequence: 0, hasSequence: 1, status: 99, retryAfterMs: 0 }
  fake.last.say('error', head, new TextEncoder().encode('new'))
  await turn()
  expect(settled).toEqual([['bad_answer']])
  expect(fake.last.state).toBe('open')
})

test('a server that falls silent is left while something is due, not when nothing is', async () => {
  const { stream, fake } = open({ timeoutMs: 1000 })
  await vi.advanceTimersByTimeAsync(1000) // no welcome
  expect(fake.sockets[0]!.state).toBe('closed')
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(4)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(fake.sockets).toHaveLength(2)
  const settled = watch([stream.send(distinctWindow(0)), stream.send(distinctWindow(1))])
  await vi.advanceTimersByTimeAsync(900)
  fake.last.result(0, distinctWindow(0))
  await vi.advanceTimersByTimeAsync(900)
  expect(fake.last.state).toBe('open')
  await vi.advanceTimersByTimeAsync(100)
  expect(fake.sockets[1]!.state).toBe('closed')
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(4)
  fake.last.result(1, distinctWindow(1))
  await turn()
  expect(settled).toEqual([[0], [1]])
})

test('a server that says nothing at all to a window is left', async () => {
  const { stream, fake } = open({ timeoutMs: 1000 })
  fake.last.welcome(4)
  watch([stream.send(distinctWindow(0))])
  await vi.advanceTimersByTimeAsync(999)
  expect(fake.last.state).toBe('open')
  await vi.advanceTimersByTimeAsync(1)
  expect(fake.last.state).toBe('closed')
})

test('close() sends what waits, says bye, and resolves when the server has answered and closed', async () => {
  const onEnd = vi.fn()
  const { stream, fake } = open({ onEnd })
  fake.last.welcome(1)
  const settled = watch([0, 1].map(n => stream.send(distinctWindow(n))))
  const closed = vi.fn()
  void stream.close().then(closed)
  await expect(stream.send(distinctWindow(2))).rejects.toMatchObject({ code: 'closed' })
  expect(fake.last.of('bye')).toHaveLength(0)
  fake.last.result(0, distinctWindow(0))
  fake.last.say('credit', { count: 1 })
  expect(fake.last.received.map(({ name }) => name)).toEqual(['hello', 'window', 'window', 'bye'])
  fake.last.drop(1006) // before the last answer
  await vi.advanceTimersByTimeAsync(100)
  expect(closed).not.toHaveBeenCalled()
  fake.last.welcome(1)
  expect(fake.last.received.map(({ name }) => name)).toEqual(['hello', 'window', 'bye'])
  fake.last.result(1, distinctWindow(1))
  await turn()
  expect(closed).not.toHaveBeenCalled()
  fake.last.drop(1000)
  await turn()
  expect(closed).toHaveBeenCalledTimes(1)
  expect(onEnd.mock.calls).toEqual([[null]])
  expect(settled).toEqual([[0], [1]])
  await vi.advanceTimersByTimeAsync(60_000)
  expect(fake.sockets).toHaveLength(2)
  expect(vi.getTimerCount()).toBe(0)
})

test('close() of a stream that has nothing to send does not wait for a server', async () => {
  const { stream, fake } = open()
  await stream.close()
  expect(fake.last.state).toBe('closed')
  expect(vi.getTimerCount()).toBe(0)
})

test('close() sends all that waits, also when nobody reads the answers', async () => {
  const { stream, fake } = open({ mode: 'samples', hop: 100 })
  fake.last.welcome(70)
  stream.push(recordingOf(0, 7000))
  for (let window = 0; window < 70; window++) fake.last.result(window, recordingOf(0, 100))
  fake.last.say('credit', { count: 70 })
  stream.push(recordingOf(7000, 7100))
  expect(piecesOf(fake.last).at(-1)![1]).toBe(7000)
  const closed = vi.fn()
  void stream.close().then(closed)
  expect(piecesOf(fake.last).at(-1)![1]).toBe(7100)
  expect(fake.last.of('bye')).toHaveLength(1)
  fake.last.result(70, recordingOf(7000, 7100))
  fake.last.drop(1000)
  await turn()
  expect(closed).toHaveBeenCalledTimes(1)
  let unread = 0
  for await (const { sequence } of stream) expect(sequence).toBe(unread++)
  expect(unread).toBe(71)
})

test('close({ now: true }) waits for nothing: what has no answer rejects with `closed`', async () => {
  const onEnd = vi.fn()
  const { stream, fake } = open({ onEnd })
  fake.last.welcome(1)
  const settled = watch([0, 1].map(n => stream.send(distinctWindow(n))))
  const flushed = stream.flushed().catch(error => error.code)
  const patient = stream.close()
  await stream.close({ now: true })
  await patient
  await turn()
  expect(settled).toEqual([['closed'], ['closed']])
  expect(await flushed).toBe('closed')
  expect(fake.last.state).toBe('closed')
  expect(onEnd.mock.calls).toEqual([[null]])
  await stream.close({ now: true })
  expect(vi.getTimerCount()).toBe(0)

  const { stream: samples } = open({ mode: 'samples' })
  samples.push(recordingOf(0, 100))
  const next = samples[Symbol.asyncIterator]().next()
  await samples.close({ now: true })
  expect(await next).toEqual({ value: undefined, done: true })
})

test('without a WebSocket the constructor says what to do', () => {
  vi.stubGlobal('WebSocket', undefined)
  onTestFinished(() => void vi.unstubAllGlobals())
  expect(() => new StreamClient(URL)).toThrow(/^There is no global WebSocket: pass one as \{ webSocket \}/)
  const { WebSocket, sockets } = fakeWebSocket()
  vi.stubGlobal('WebSocket', WebSocket)
  void new StreamClient(URL)
  expect(sockets).toHaveLength(1)
})

test('what belongs to the other mode is refused', async () => {
  const { stream } = open()
  expect(() => stream.push(new Float32Array(9))).toThrow('mode samples')
  expect(() => stream.skip(1)).toThrow('mode samples')
  expect(() => stream[Symbol.asyncIterator]()).toThrow('mode samples')
  const { stream: samples } = open({ mode: 'samples' })
  await expect(samples.send(distinctWindow(0))).rejects.toThrow('mode windows')
})

/** float32[9] each: sample n of a recording is n everywhere, and its channel behind the comma. */
function recordingOf(from: number, to: number): Float32Array {
  return Float32Array.from(
    { length: (to - from) * 9 },
    (_, value) => from + Math.floor(value / 9) + (value % 9) / 16,
  )
}

/** Pieces of the recording that a connection got, as [from, to). */
function piecesOf(socket: FakeSocket): [number, number][] {
  return socket.received
    .filter(frame => frame.name === 'samples')
    .map(({ head, payload }) => [head.index, head.index + payload.length / 36])
}

function samplesOf(socket: FakeSocket): Float32Array[] {
  return socket.received.filter(({ name }) => name === 'samples').map(({ payload }) => windowIn(payload))
}

test('push() sends samples as they come, each once, but none that would end a window without a credit', async () => {
  const answers: (StreamResult | StreamFailure)[] = []
  const { stream, fake } = open({ mode: 'samples', hop: 20, onAnswer: answer => answers.push(answer) })
  stream.push(recordingOf(0, 30))
  fake.last.welcome(2)
  expect(fake.last.of('hello')).toMatchObject([{ mode: 1, hop: 20, first: 0 }])
  stream.push(recordingOf(30, 70))
  stream.push(recordingOf(70, 300))
  // Windows 0 and 1 end with samples 99 and 119; window 2 would with 139.
  expect(piecesOf(fake.last).at(0)).toEqual([0, 30])
  expect(piecesOf(fake.last).at(-1)![1]).toBe(139)
  fake.last.result(0, recordingOf(0, 100))
  fake.last.error(1, 'overloaded', 'too much', 40)
  fake.last.say('credit', { count: 1 })
  expect(piecesOf(fake.last).at(-1)![1]).toBe(159)
  const sent = samplesOf(fake.last).flatMap(samples => [...samples])
  expect(sent).toEqual([...recordingOf(0, 159)])
  expect(answers).toMatchObject([
    { sequence: 0, ...resultFor(recordingOf(0, 100)), backend: 'onnx' },
    { sequence: 1, error: 'overloaded', detail: 'too much', retryAfterMs: 40 },
  ])
})

test('after a lost connection the samples come again from the first of the lowest window without an answer', async () => {
  const { stream, fake } = open({ mode: 'samples', hop: 50 })
  fake.last.welcome(9)
  stream.push(recordingOf(0, 280)) // windows 0 to 3
  fake.last.result(0, recordingOf(0, 100))
  fake.last.result(1, recordingOf(50, 150))
  fake.last.result(3, recordingOf(150, 250))
  fake.last.drop()
  stream.push(recordingOf(280, 290))
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(9)
  expect(fake.last.of('hello')).toMatchObject([{ first: 2 }])
  expect(piecesOf(fake.last)[0]![0]).toBe(100)
  expect(samplesOf(fake.last).flatMap(samples => [...samples])).toEqual([...recordingOf(100, 290)])
})

test('iterating reads the answers in order, and ends with close() or with the error that ended the stream', async () => {
  const { stream, fake } = open({ mode: 'samples', hop: 100, maxReconnects: 0 })
  fake.last.welcome(9)
  stream.push(recordingOf(0, 200))
  fake.last.result(0, recordingOf(0, 100))
  const read: number[] = []
  const reading = (async () => {
    for await (const { sequence } of stream) read.push(sequence)
  })()
  await turn()
  fake.last.result(1, recordingOf(100, 200))
  await turn()
  expect(read).toEqual([0, 1])
  void stream.close()
  fake.last.drop(1000)
  await reading

  const { stream: broken, fake: other } = open({ mode: 'samples', maxReconnects: 0 })
  const next = broken[Symbol.asyncIterator]().next()
  other.last.drop()
  await expect(next).rejects.toMatchObject({ code: 'disconnected' })
  expect(() => broken.push(recordingOf(0, 1))).toThrow(InferenceError)
})

test('a reader that does not read stops the stream, and reading moves it on', async () => {
  const { stream, fake } = open({ mode: 'samples', hop: 100 })
  fake.last.welcome(70)
  stream.push(recordingOf(0, 7000))
  for (let window = 0; window < 70; window++) fake.last.result(window, recordingOf(0, 100))
  fake.last.say('credit', { count: 70 })
  stream.push(recordingOf(7000, 7100))
  expect(piecesOf(fake.last).at(-1)![1]).toBe(7000)
  const answers = stream[Symbol.asyncIterator]()
  for (let window = 0; window < 7; window++) await answers.next()
  expect(piecesOf(fake.last).at(-1)![1]).toBe(7100)
})

test('skipped samples and samples that do not fit are a hole: no window spans it, nobody waits for one', async () => {
  const onGap = vi.fn()
  const { stream, fake } = open({ mode: 'samples', hop: 50, capacity: 400, onGap })
  fake.last.welcome(9)
  stream.push(recordingOf(0, 120))
  stream.skip(10)
  stream.push(recordingOf(130, 300)) // window 3 begins at 150 and ends at 250, window 4 at 300
  expect(() => stream.push(recordingOf(300, 500))).toThrow('queue_full')
  stream.push(recordingOf(500, 600)) // window 10
  expect(piecesOf(fake.last).map(([from]) => from)).toContain(130)
  expect(samplesOf(fake.last).at(-1)).toEqual(recordingOf(500, 600))
  const gap = { missing: 120, index: 130, sequence: 3 }
  fake.last.say('gap', gap)
  expect(onGap.mock.calls).toEqual([[gap]])
  fake.last.drop()
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(9)
  expect(fake.last.of('hello')).toMatchObject([{ first: 0 }])
  fake.last.say('gap', gap)
  expect(onGap).toHaveBeenCalledTimes(1) // the same hole, seen again
  for (const window of [0, 3, 4, 10]) fake.last.result(window, recordingOf(0, 100))
  void stream.close()
  fake.last.drop(1000)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(fake.sockets).toHaveLength(2)
})

test('samples are kept only while a window needs them: answered ones and those between holes make room', () => {
  const { stream, fake } = open({ mode: 'samples', hop: 50, capacity: 600 })
  fake.last.welcome(90)
  stream.push(recordingOf(0, 600)) // windows 0 to 10
  expect(() => stream.push(recordingOf(600, 601))).toThrow('queue_full')
  for (let window = 0; window <= 10; window++) fake.last.result(window, recordingOf(0, 100))
  stream.push(recordingOf(601, 901))
  for (let window = 13; window <= 16; window++) fake.last.result(window, recordingOf(0, 100))
  for (let piece = 0; piece < 20; piece++) {
    stream.skip(50)
    stream.push(recordingOf(0, 50))
  }
  expect(piecesOf(fake.last).at(-1)).toEqual([2851, 2901])
})

test('samples between holes take room for themselves alone', () => {
  const { stream } = open({ mode: 'samples', capacity: 5000 })
  const allocated: number[] = []
  const Original = Float32Array
  vi.stubGlobal(
    'Float32Array',
    class extends Original {
      constructor(length: number) {
        super(length)
        allocated.push(length)
      }
    },
  )
  onTestFinished(() => void vi.unstubAllGlobals())
  const sample = new Original(9)
  for (let hole = 0; hole < 5000; hole++) {
    stream.push(sample)
    stream.skip(1)
  }
  expect(allocated).toHaveLength(5000)
  expect(allocated.reduce((sum, length) => sum + length)).toBe(5000 * 9)
  expect(() => stream.push(sample)).toThrow('Cannot keep 1 samples more: 5000 of at most 5000 wait')
})

test('push() says what does not fit: a piece alone, or what is kept already', () => {
  const { stream } = open({ mode: 'samples', capacity: 400 })
  expect(() => stream.push(recordingOf(0, 401))).toThrow(
    'queue_full: Cannot keep 401 samples more: 0 of at most 400 wait to be sent or answered',
  )
  stream.push(recordingOf(0, 400))
  expect(() => stream.push(recordingOf(0, 1))).toThrow('Cannot keep 1 samples more: 400 of at most 400')
})

test('samples that come one by one are sent whole', () => {
  const { stream, fake } = open({ mode: 'samples', hop: 50 })
  for (let index = 0; index < 700; index++) stream.push(recordingOf(index, index + 1))
  fake.last.welcome(90)
  expect(samplesOf(fake.last).flatMap(samples => [...samples])).toEqual([...recordingOf(0, 700)])
  expect(piecesOf(fake.last)).toEqual([
    [0, 256],
    [256, 512],
    [512, 700],
  ])
})

test('windows that the server cannot cut for a gap of its own are waited for no more', async () => {
  const { stream, fake } = open({ mode: 'samples', hop: 50, timeoutMs: 1000 })
  fake.last.welcome(9)
  stream.push(recordingOf(0, 300)) // windows 0 to 4
  fake.last.say('gap', { missing: 120, index: 130, sequence: 3 })
  for (const window of [0, 3, 4]) fake.last.result(window, recordingOf(0, 100))
  await vi.advanceTimersByTimeAsync(60_000)
  expect(fake.last.state).toBe('open')
  fake.last.drop()
  await vi.advanceTimersByTimeAsync(100)
  fake.last.welcome(9)
  expect(fake.last.of('hello')).toMatchObject([{ first: 5 }])
})

test('push() refuses values that are no whole samples', () => {
  const { stream } = open({ mode: 'samples' })
  expect(() => stream.push(new Float32Array(10))).toThrow('Cannot send 10 values, expected a multiple of 9')
})

/** Mulberry32: the same numbers for the same seed. @returns a number in [0, 1) */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * A server that keeps the rules, on a network that does not: it answers each window or cuts the samples, late and
 * in order, sometimes twice, gives credits back by the handful, drains, and connections break at any moment.
 */
function unreliableServer(random: () => number, faults: string[]) {
  let broken = 0
  const breaking = () => broken < 12 && random() < 0.06
  const fake = fakeWebSocket(socket => {
    let credits = 0
    let expected = 0
    let draining = false
    let cutter: { hop: number; next: number; start: number; samples: number[] } | null = null
    const answers: (() => void)[] = []
    const later = (action: () => void, withinMs: number) => setTimeout(action, random() * withinMs)
    const crash = () => {
      if (socket.state === 'closed') return
      broken++
      socket.drop([1006, 1012, 1001][Math.floor(random() * 3)])
    }
    const drain = () => {
      draining = true
      socket.say('draining', {})
      while (answers.length > 0) answers.shift()!()
      later(crash, 20)
    }
    const take = (sequence: number, window: Float32Array) => {
      if (credits-- <= 0) faults.push(`window ${sequence} came without a credit`)
      answers.push(() => {
        if (draining) socket.error(sequence, 'draining')
        else if (random() < 0.1) socket.error(sequence, 'overloaded')
        else socket.result(sequence, window)
        if (!draining && random() < 0.1) socket.result(sequence, distinctWindow(sequence + 1)) // a lie, and too late
        credits++
        socket.say('credit', { count: 1 })
      })
      later(() => {
        if (breaking()) return random() < 0.5 ? drain() : crash()
        answers.shift()?.()
      }, 20)
    }
    socket.onFrame = ({ name, head, payload }) => {
      if (name === 'hello') {
        expected = head.first
        const { hop, first } = head
        if (head.mode === 1) cutter = { hop, next: first, start: first * hop, samples: [] }
        later(() => {
          if (socket.state === 'closed') return
          if (breaking()) return crash()
          credits = 1 + Math.floor(random() * 5)
          socket.state = 'open'
          socket.say('welcome', {
            version: 1,
            mode: head.mode,
            backend: 1,
            credits,
            motifs: 12,
            hop,
            first,
            deadlineMs: 40,
            model: new Uint8Array(32),
          })
        }, 10)
      } else if (name === 'window') {
        if (head.sequence < expected) faults.push(`window ${head.sequence} came after ${expected}`)
        expected = head.sequence + 1
        take(head.sequence, windowIn(payload))
      } else if (name === 'samples') {
        const { hop } = cutter!
        const held = cutter!.start + cutter!.samples.length / 9
        if (head.index !== held) faults.push(`samples from ${head.index} on came, expected ${held}`)
        cutter!.samples.push(...windowIn(payload))
        while (cutter!.samples.length >= 900) {
          take(cutter!.next++, Float32Array.from(cutter!.samples.slice(0, 900)))
          cutter!.samples.splice(0, hop * 9)
          cutter!.start += hop
        }
      } else if (name === 'bye') {
        later(() => (answers.length === 0 ? socket.drop(1000) : crash()), 60)
      }
    }
    later(() => (breaking() ? crash() : socket.open()), 10)
  })
  return { fake, broken: () => broken }
}

const SEEDS = Array.from({ length: 25 }, () => Math.floor(Math.random() * 2 ** 32))

test.each(SEEDS)(
  'over an unreliable network every window ends once, with its own result (seed %i)',
  async seed => {
    const random = randomOf(seed)
    const faults: string[] = []
    const { fake, broken } = unreliableServer(random, faults)
    const stream = new StreamClient(URL, { webSocket: fake.WebSocket, maxReconnects: 20, timeoutMs: 1000 })
    const windows = Array.from({ length: 60 }, (_, index) => distinctWindow(index))
    const endings: string[] = []
    for (const [index, window] of windows.entries()) {
      const promise = stream.send(window)
      promise.then(
        ({ sequence, latent }) => {
          const right = sequence === index && latent.join() === resultFor(window).latent.join()
          endings.push(`${index} ${right ? 'ended' : 'got the result of another'}`)
        },
        error => endings.push(`${index} ${error.code === 'overloaded' ? 'ended' : error.message}`),
      )
      await vi.advanceTimersByTimeAsync(random() * 10)
    }
    const closed = vi.fn()
    void stream.close().then(closed)
    await vi.advanceTimersByTimeAsync(300_000)
    expect(faults).toEqual([])
    expect(endings.toSorted()).toEqual(windows.map((_, index) => `${index} ended`).toSorted())
    expect(closed).toHaveBeenCalledTimes(1)
    expect(fake.sockets.length).toBeGreaterThanOrEqual(broken() + 1)
  },
)

test.each(SEEDS)(
  'over an unreliable network every window of a recording is answered once, in order (seed %i)',
  async seed => {
    const random = randomOf(seed)
    const faults: string[] = []
    const { fake } = unreliableServer(random, faults)
    const answers: (StreamResult | StreamFailure)[] = []
    const hop = 1 + Math.floor(random() * 100)
    const stream = new StreamClient(URL, {
      mode: 'samples',
      hop,
      webSocket: fake.WebSocket,
      maxReconnects: 20,
      timeoutMs: 1000,
      onAnswer: answer => answers.push(answer),
    })
    let end = 0
    while (end < 100 + 40 * hop) {
      const from = end
      end += 1 + Math.floor(random() * 120)
      stream.push(recordingOf(from, end))
      await vi.advanceTimersByTimeAsync(random() * 20)
    }
    const closed = vi.fn()
    void stream.close().then(closed)
    await vi.advanceTimersByTimeAsync(300_000)
    expect(faults).toEqual([])
    const windowCount = Math.floor((end - 100) / hop) + 1
    expect(answers.map(({ sequence }) => sequence)).toEqual(Array.from({ length: windowCount }, (_, k) => k))
    const wrong = answers.filter(answer => {
      if ('error' in answer) return answer.error !== 'overloaded'
      const window = recordingOf(answer.sequence * hop, answer.sequence * hop + 100)
      return answer.latent.join() !== resultFor(window).latent.join()
    })
    expect(wrong).toEqual([])
    expect(closed).toHaveBeenCalledTimes(1)
  },
)

const RESULT_HEAD = { sequence: 0, queueUs: 0, inferUs: 0, status: 0, backend: 1, modelStart: 0 }
