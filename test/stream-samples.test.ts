import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CHANNELS, TIMESTEPS } from '../src/core/window.ts'
import { OCTET_STREAM, postWindow, resultOf } from './http-client.ts'
import { startServer, type TestServer } from './server.ts'
import { GOLDEN } from './windows.ts'
import { greet, IN_BINARY, IN_JSON, type Speech, WebSocketClient } from './ws-client.ts'

/** Golden windows behind each other: no recording of one dog, but real samples. */
const RECORDING_LENGTH = 1500
const RECORDING = GOLDEN.windows.subarray(0, RECORDING_LENGTH * CHANNELS)

let server: TestServer
beforeAll(async () => {
  server = await startServer({ WORKERS: '2', DEADLINE_MS: '5000', LOG_LEVEL: 'fatal' })
})
afterAll(() => server.stop())

describe.each([IN_BINARY, IN_JSON])('/stream with samples in $name', speech => {
  test.each([1, 33, 350])(
    'answers what POST /infer does to windows cut by hand, in pieces up to %i',
    async largest => {
      const hop = 50
      const client = await WebSocketClient.open(server)
      expect(await greet(client, speech, { mode: 'samples', hop })).toMatchObject({
        mode: 'samples',
        hop,
        first: 0,
      })
      const windows = Math.floor((RECORDING_LENGTH - TIMESTEPS) / hop) + 1
      const sizes = Array.from({ length: RECORDING_LENGTH }, (_, n) => 1 + ((n * 7919) % largest))
      for (let index = 0, piece = 0; index < RECORDING_LENGTH; ) {
        const count = Math.min(sizes[piece++]!, RECORDING_LENGTH - index)
        client.send(speech.samples(index, samples(index, count)))
        index += count
      }
      const answers = await client.answers(windows)
      expect(answers.map(({ seq }) => seq)).toEqual(Array.from({ length: windows }, (_, k) => k))
      for (const { seq, bits } of answers) expect(bits).toEqual(await posted(seq * hop))
    },
  )

  test('a gap is told in its turn, and no window spans it', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech, { mode: 'samples' })
    client.send(speech.samples(0, samples(0, 160)), speech.samples(170, samples(170, 130)))
    const answers = await client.answers(4)
    expect(answers.map(({ type, seq }) => [type, seq])).toEqual([
      ['result', 0],
      ['result', 1],
      ['gap', 4],
      ['result', 4],
    ])
    expect(answers[2]).toMatchObject({ missing: 160, index: 170 })
    expect(answers[3]!.bits).toEqual(await posted(200))
  })

  test('a client that comes back resumes with the first window it has no answer to', async () => {
    const before = await WebSocketClient.open(server)
    await greet(before, speech, { mode: 'samples' })
    before.send(speech.samples(0, samples(0, 240)))
    expect((await before.answers(3)).map(({ seq }) => seq)).toEqual([0, 1, 2])
    before.hangUp()

    const after = await WebSocketClient.open(server)
    await greet(after, speech, { mode: 'samples', first: 3 })
    // It does not know how far the server has come, so it sends more than is needed.
    after.send(speech.samples(100, samples(100, 100)), speech.samples(180, samples(180, 70)))
    const answer = await after.nextAnswer()
    expect(answer).toMatchObject({ type: 'result', seq: 3 })
    expect(answer.bits).toEqual(await posted(150))
  })

  test('a sample beyond its limit spoils the windows it is in and no other', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech, { mode: 'samples' })
    const bad = samples(0, 300).slice()
    bad[120 * CHANNELS + 3] = -36
    client.send(speech.samples(0, bad))
    const answers = await client.answers(5)
    expect(answers.map(({ type }) => type)).toEqual(['result', 'error', 'error', 'result', 'result'])
    expect(answers[1]).toMatchObject({ seq: 1, code: 'invalid_window' })
    expect(answers[1]!.detail).toContain('row 70 channel 3 (gx) is -36')
    expect(answers[2]!.detail).toContain('row 20 channel 3 (gx) is -36')
  })

  test('windows beyond the credits are refused one by one, in their turn', async () => {
    const client = await WebSocketClient.open(server)
    const { credits } = await greet(client, speech, { mode: 'samples', hop: 1 })
    client.send(speech.samples(0, samples(0, TIMESTEPS + credits + 9)))
    const answers = await client.answers(credits + 10)
    expect(answers.map(({ seq }) => seq)).toEqual(Array.from({ length: credits + 10 }, (_, k) => k))
    for (const { type } of answers.slice(0, credits)) expect(type).toBe('result')
    for (const answer of answers.slice(credits)) {
      expect(answer).toMatchObject({
        type: 'error',
        code: 'overloaded',
        detail: expect.stringContaining('credit'),
      })
    }
  })

  test('samples without a whole number of rows, and windows, are refused', async () => {
    const client = await WebSocketClient.open(server)
    await greet(client, speech, { mode: 'samples' })
    client.send(...badSamples(speech), speech.window(0, samples(0, TIMESTEPS)))
    for (const answer of await client.answers(badSamples(speech).length + 1)) {
      expect(answer).toMatchObject({ type: 'error', code: 'invalid_request' })
    }
  })
})

function badSamples(speech: Speech): (string | Uint8Array)[] {
  if (speech === IN_BINARY) {
    const whole = IN_BINARY.samples(0, samples(0, 2)) as Uint8Array
    return [whole.slice(0, -1), whole.slice(0, 8)]
  }
  return [
    '{"type":"samples","index":0,"samples":[]}',
    '{"type":"samples","index":0,"samples":[[1,2,3]]}',
    '{"type":"samples","index":0,"samples":[["1",2,3,4,5,6,7,8,9]]}',
    '{"type":"samples","index":-1,"samples":[[1,2,3,4,5,6,7,8,9]]}',
  ]
}

function samples(index: number, count: number): Float32Array {
  return RECORDING.subarray(index * CHANNELS, (index + count) * CHANNELS)
}

/** What POST /infer answers to the window that begins there. */
async function posted(index: number): Promise<Float32Array> {
  const headers = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
  return resultOf(await postWindow(server, samples(index, TIMESTEPS), headers))
}
