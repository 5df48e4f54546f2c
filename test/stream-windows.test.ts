import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { encodeFrame } from '../src/http/frame.ts'
import { OCTET_STREAM, postWindow, resultOf, rowsOf } from './http-client.ts'
import { metric, startServerForTest, until } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { GOLDEN, windowOf } from './windows.ts'
import { greet, IN_BINARY, IN_JSON, type Said, type Speech, WebSocketClient } from './ws-client.ts'

const CREDITS = 32

let server: TestServer
/** What POST /infer answers to each golden window. */
const posted: Float32Array[] = []
beforeAll(async () => {
  server = await startServer({ WORKERS: '4', DEADLINE_MS: '5000', LOG_LEVEL: 'fatal' })
  for (let n = 0; n < GOLDEN.count; n++) {
    const answer = await postWindow(server, windowOf(n), {
      'Content-Type': OCTET_STREAM,
      Accept: OCTET_STREAM,
    })
    posted.push(resultOf(answer))
  }
})
afterAll(() => server.stop())

describe.each([IN_BINARY, IN_JSON])('/stream in $name', speech => {
  test('answers hello with what the server is and what may be sent', async () => {
    const client = await WebSocketClient.open(server)
    const welcome = await greet(client, speech, { first: 7, hop: 25 })
    expect(welcome).toMatchObject({
      type: 'welcome',
      version: 1,
      mode: 'windows',
      credits: CREDITS,
      hop: 25,
      first: 7,
      deadline_ms: 5000,
      backend: 'onnx',
      model_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      contract: { motif_classes: 12 },
    })
    expect(welcome.model_sha256).not.toBe('0'.repeat(64))
  })

  test('answers every golden window bit by bit as POST /infer does, in order', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech)
    const answers = await sendWithCredits(client, speech, GOLDEN.count, n => windowOf(n))
    expect(answers.map(({ seq }) => seq)).toEqual(Array.from({ length: GOLDEN.count }, (_, n) => n))
    answers.forEach((answer, n) => {
      expect(answer).toMatchObject({ type: 'result', status: 'ok', backend: 'onnx' })
      expect(answer.bits).toEqual(posted[n])
      expect(answer.infer_us).toBeGreaterThan(0)
    })
  })

  test('tells bad windows apart from the good around them, all in order', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech)
    const bad = windowOf(1).slice()
    bad[37 * 9 + 4] = 36
    const answers = await sendWithCredits(client, speech, 120, n => (n % 3 === 1 ? bad : windowOf(n % 64)))
    expect(answers.map(({ seq }) => seq)).toEqual(Array.from({ length: 120 }, (_, n) => n))
    answers.forEach((answer, n) => {
      if (n % 3 !== 1) return expect(answer.bits).toEqual(posted[n % 64])
      expect(answer).toMatchObject({ type: 'error', code: 'invalid_window', retry_after_ms: 0 })
      expect(answer.detail).toContain('row 37 channel 4 (gy) is 36')
    })
  })

  test('refuses a window that has a sequence of before, and takes the next', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech, { first: 5 })
    const sequences = [5, 5, 4, 9]
    client.send(...sequences.map(sequence => speech.window(sequence, windowOf(0))))
    const answers = await client.answers(4)
    const [repeated, older, ...results] = [...answers].sort((a, b) => a.type.localeCompare(b.type))
    expect(repeated).toMatchObject({ type: 'error', seq: 5, code: 'invalid_request' })
    expect(older).toMatchObject({ type: 'error', seq: 4, code: 'invalid_request' })
    expect(older!.detail).toContain('expected one after 5')
    expect(results).toMatchObject([
      { type: 'result', seq: 5 },
      { type: 'result', seq: 9 },
    ])
  })

  test('goes on over the wrap of the sequence, and does not go back', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech, { first: 0xffff_fffe })
    const sequences = [0xffff_fffe, 0xffff_ffff, 0, 1]
    client.send(...sequences.map(sequence => speech.window(sequence, windowOf(0))))
    expect((await client.answers(4)).map(({ type, seq }) => [type, seq])).toEqual(
      sequences.map(sequence => ['result', sequence]),
    )
    client.send(speech.window(0xffff_ffff, windowOf(0)))
    expect(await client.nextAnswer()).toMatchObject({ type: 'error', seq: 0xffff_ffff })
  })

  test('refuses a deadline below 0 for its window alone', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech)
    client.send(speech.window(0, windowOf(0), -1), speech.window(1, windowOf(0)))
    const [refused, good] = await client.answers(2)
    expect(refused).toMatchObject({ type: 'error', seq: 0, code: 'invalid_request' })
    expect(refused!.detail).toContain('Cannot take a deadline of -1 ms')
    expect(good).toMatchObject({ type: 'result', seq: 1 })
  })

  test('answers what was sent before bye, then closes with 1000', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech)
    client.send(
      ...[0, 1, 2].map(n => speech.window(n, windowOf(n))),
      speech.bye(),
      speech.window(3, windowOf(3)),
    )
    const { code, said } = await client.rest()
    expect(code).toBe(1000)
    const results = said.filter(({ type }) => type !== 'credit')
    expect(results.map(({ type, seq }) => [type, seq])).toEqual([0, 1, 2].map(n => ['result', n]))
  })

  test('answers a frame that it cannot read with an error about no window, and goes on', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech)
    const other = speech === IN_JSON ? IN_BINARY : IN_JSON
    const bad =
      speech === IN_JSON
        ? ['', '7', 'null', '{"type":"toString"}', '{"type":"window","x":[]}', '{"type":"cancel","seq":-1}']
        : [new Uint8Array(0), Uint8Array.of(1, 2), Uint8Array.of(99, 0, 0, 0), Uint8Array.of(4, 0, 0, 0)]
    const welcome = encodeFrame('credit', { count: 5 })
    const all = [
      ...bad,
      other.bye(),
      speech.hello(),
      speech.samples(0, windowOf(0)),
      ...(speech === IN_JSON ? [] : [welcome]),
    ]
    client.send(...all)
    for (const answer of await client.answers(all.length)) {
      expect(answer).toMatchObject({
        type: 'error',
        code: 'invalid_request',
        detail: expect.stringMatching(/^Cannot (read|take) /),
      })
      expect(answer).not.toHaveProperty('seq')
    }
    client.send(speech.window(0, windowOf(0)))
    expect(await client.nextAnswer()).toMatchObject({ type: 'result', seq: 0 })
  })

  test.each([1, 3])('answers 20 clients at once that send %i windows at a time', async atOnce => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => WebSocketClient.open(server)))
    await Promise.all(
      clients.map(async (client, index) => {
        await greet(client, speech)
        for (let n = 0; n < 12; n += atOnce) {
          const sequences = Array.from({ length: atOnce }, (_, i) => n + i)
          client.send(
            ...sequences.map(sequence => speech.window(sequence, windowOf((index + sequence) % 64))),
          )
          const answers = await client.answers(atOnce)
          expect(answers.map(({ seq }) => seq)).toEqual(sequences)
          for (const { seq, bits } of answers) expect(bits).toEqual(posted[(index + seq) % 64])
        }
      }),
    )
  })
})

test('/stream refuses a window of the wrong length in its turn', async () => {
  const client = await WebSocketClient.open(server)
  await greet(client, IN_BINARY)
  const short = IN_BINARY.window(1, windowOf(0)).slice(0, -4)
  client.send(IN_BINARY.window(0, windowOf(0)), short, IN_BINARY.window(2, windowOf(2)))
  const answers = await client.answers(3)
  expect(answers.map(({ type, seq }) => [type, seq])).toEqual([
    ['result', 0],
    ['error', 1],
    ['result', 2],
  ])
  expect(answers[1]).toMatchObject({ code: 'invalid_window', detail: expect.stringContaining('3596 bytes') })
})

test('/stream gives back each credit once, in fewer frames than answers', async () => {
  const client = await WebSocketClient.open(server)
  await greet(client, IN_BINARY)
  client.send(...Array.from({ length: CREDITS }, (_, n) => IN_BINARY.window(n, windowOf(n))))
  let credits = 0
  let creditFrames = 0
  while (credits < CREDITS) {
    const said = await client.next()
    if (said.type !== 'credit') continue
    credits += said.n
    creditFrames++
  }
  expect(credits).toBe(CREDITS)
  expect(creditFrames).toBeLessThan(CREDITS / 2)
})

test('the same windows with JSON numbers and with float32 get the same bits on /ws/v1/analysis too', async () => {
  const client = await WebSocketClient.open(server, { path: '/ws/v1/analysis' })
  await greet(client, IN_JSON)
  client.send(JSON.stringify({ type: 'window', seq: 3, x: rowsOf(windowOf(9)) }))
  expect((await client.nextAnswer()).bits).toEqual(posted[9])
})

test('connections and frames are counted, by direction and type', async () => {
  const { port } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: '5000' })
  const count = (labels: string) => metric(port, 'hailo_ws_frames_total', labels)
  const client = await WebSocketClient.open({ port })
  await WebSocketClient.open({ port })
  await until(async () => (await metric(port, 'hailo_ws_connections')) === 2)
  await greet(client, IN_JSON)
  client.send(IN_JSON.window(0, windowOf(0)), IN_JSON.window(0, windowOf(0)), 'what?')
  await client.answers(3)
  expect(await count('direction="in",type="window"')).toBe(2)
  expect(await count('direction="in",type="unknown"')).toBe(1)
  expect(await count('direction="in",type="samples"')).toBe(0)
  expect(await count('direction="out",type="welcome"')).toBe(1)
  expect(await count('direction="out",type="result"')).toBe(1)
  expect(await count('direction="out",type="error"')).toBe(2)
  expect(await metric(port, 'hailo_inference_errors_total', 'error_type="invalid_request"')).toBe(2)
  client.hangUp()
  await until(async () => (await metric(port, 'hailo_ws_connections')) === 1)
})

/** Sends windows 0 to `count` as fast as credits allow. */
async function sendWithCredits(
  client: WebSocketClient,
  speech: Speech,
  count: number,
  window: (n: number) => Float32Array,
): Promise<Said[]> {
  const answers: Said[] = []
  let credits = CREDITS
  let sent = 0
  while (answers.length < count) {
    for (; credits > 0 && sent < count; credits--) client.send(speech.window(sent, window(sent++)))
    const said = await client.next()
    if (said.type === 'credit') credits += said.n
    else answers.push(said)
  }
  return answers
}
