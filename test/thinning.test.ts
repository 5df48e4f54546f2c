import fc from 'fast-check'
import { expect, test } from 'vitest'
import { StreamClient, type StreamFailure, type StreamResult } from '../client/index.ts'
import { CHANNELS, TIMESTEPS } from '../src/core/window.ts'
import { HELLO_FLAGS } from '../src/http/frame.ts'
import { Thinning } from '../src/http/thinning.ts'
import { fakeWebSocket, resultFor } from './fake-stream.ts'

test('Thinning lets windows pass that do not overlap, from the first on', () => {
  expect(passed({ hop: 50, first: 0 }, 7, () => true)).toEqual([0, 2, 4, 6])
  expect(passed({ hop: 30, first: 2 }, 9, () => true)).toEqual([2, 6, 10])
  expect(passed({ hop: 100, first: 0 }, 3, () => true)).toEqual([0, 1, 2])
})

test('Thinning goes on over the wrap of indices', () => {
  expect(passed({ hop: 50, first: 0xffff_fffe }, 4, () => true)).toEqual([0xffff_fffe, 0])
})

test('Thinning begins and ends with the load: what it lets pass then covers every sample, and overlaps nowhere it thins', () => {
  const pattern = fc.array(fc.boolean(), { minLength: 1, maxLength: 200 })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: TIMESTEPS }), pattern, (hop, thinned) => {
      const windows = passed({ hop, first: 0 }, thinned.length, k => thinned[k]!)
      expect(windows[0]).toBe(0)
      for (const [place, k] of windows.slice(1).entries()) {
        const apart = (k - windows[place]!) * hop
        if (thinned[k]) expect(apart).toBeGreaterThanOrEqual(TIMESTEPS)
        // The next one that could pass does.
        expect(apart).toBeLessThan(TIMESTEPS + hop)
      }
    }),
  )
})

test.each([true, false])(
  'a StreamClient says in its hello whether it allows thinning: %s',
  async allowThinning => {
    const fake = fakeWebSocket()
    const options = { webSocket: fake.WebSocket, mode: 'samples', allowThinning } as const
    const stream = new StreamClient('ws://test/stream', options)
    fake.last.open()
    expect(fake.last.of('hello')).toMatchObject([{ flags: allowThinning ? HELLO_FLAGS.thin : 0 }])
    await stream.close({ now: true })
  },
)

test('a StreamClient tells of each window that was left out, and goes on behind it', async () => {
  const fake = fakeWebSocket()
  const answers: (StreamResult | StreamFailure)[] = []
  const stream = new StreamClient('ws://test/stream', {
    webSocket: fake.WebSocket,
    mode: 'samples',
    allowThinning: true,
    onAnswer: answer => void answers.push(answer),
  })
  fake.last.welcome(2, { mode: 1 })
  const samples = new Float32Array(200 * CHANNELS) // windows 0, 1 and 2
  stream.push(samples)
  const window = samples.subarray(0, TIMESTEPS * CHANNELS)
  fake.last.result(0, window)
  fake.last.error(1, 'thinned')
  fake.last.say('credit', { count: 2 })
  fake.last.result(2, window)
  expect(answers).toMatchObject([
    { sequence: 0, latent: resultFor(window).latent },
    { sequence: 1, error: 'thinned', retryAfterMs: null },
    { sequence: 2 },
  ])
  // All of them are done with: nothing is kept to be sent again.
  await stream.flushed()
  const closed = stream.close()
  fake.last.drop(1000)
  await closed
})

/** Of so many windows from the first on, the sequences of those that pass. */
function passed(
  options: { hop: number; first: number },
  count: number,
  isThinned: (place: number) => boolean,
): number[] {
  const thinning = new Thinning(options)
  return Array.from({ length: count }, (_, place) => (options.first + place) >>> 0).filter(
    (sequence, place) => {
      if (isThinned(place) && thinning.overlaps(sequence)) return false
      thinning.went(sequence)
      return true
    },
  )
}
