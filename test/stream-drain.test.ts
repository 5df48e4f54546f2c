import { expect, test } from 'vitest'
import { distinctWindow, HOLDING, metric, startFaultyServer, until, untilInFlight } from './load.ts'
import type { TestServer } from './server.ts'
import { windowOf } from './windows.ts'
import { greet, IN_BINARY, IN_JSON, WebSocketClient, wireOf } from './ws-client.ts'

test.each([IN_BINARY, IN_JSON])(
  'SIGTERM: clients are told, what is in flight is answered, then 1012 ($name)',
  async speech => {
    const server = await startFaultyServer()
    const busy = await WebSocketClient.open(server)
    const idle = await WebSocketClient.open(server)
    const mute = await WebSocketClient.open(server)
    await greet(busy, speech)
    await greet(idle, speech)
    busy.send(speech.window(0, HOLDING), speech.window(1, distinctWindow(1)))
    await server.held()
    await untilInFlight(server.port, 2)
    const ended = server.stop('SIGTERM')
    expect(await busy.next()).toMatchObject({ type: 'draining' })
    busy.send(speech.window(2, windowOf(2)))
    await until(async () => (await metric(server.port, 'hailo_inference_errors_total', 'draining')) === 1)
    server.release()
    const { code, said } = await busy.rest()
    expect(code).toBe(1012)
    expect(said.filter(({ type }) => type !== 'credit').map(({ type, seq }) => [type, seq])).toEqual([
      ['result', 0],
      ['result', 1],
      ['error', 2],
    ])
    expect(said.find(({ type }) => type === 'error')).toMatchObject({
      code: 'draining',
      retry_after_ms: 1000,
    })
    expect(await idle.rest()).toMatchObject({ code: 1012, said: [{ type: 'draining' }] })
    expect(await mute.rest()).toMatchObject({ code: 1012, said: [] })
    expect(await ended).toBe(0)
  },
)

test('a client that says hello while the server drains is told, and a new one is refused 503', async () => {
  const server = await startFaultyServer()
  const [busy, late] = [await WebSocketClient.open(server), await WebSocketClient.open(server)]
  await greet(busy, IN_BINARY)
  busy.send(IN_BINARY.window(0, HOLDING))
  await server.held()
  const ended = server.stop('SIGTERM')
  await busy.next()
  late.send(IN_BINARY.hello())
  expect(await late.next()).toMatchObject({ type: 'welcome' })
  expect(await late.next()).toMatchObject({ type: 'draining' })
  const refused = await WebSocketClient.open(server)
  expect(refused).toMatchObject({ status: 503, headers: { connection: 'close', 'retry-after': '1' } })
  await until(() => refused.body.includes('draining'))
  server.release()
  expect(await ended).toBe(0)
})

test('clients of /stream do not keep an otherwise idle server from ending soon', async () => {
  const alone = await stopMs(await startFaultyServer())
  const server = await startFaultyServer()
  for (let n = 0; n < 5; n++) await greet(await WebSocketClient.open(server), IN_BINARY)
  // They cost two short waits; HTTP clients get a second to be told.
  expect(await stopMs(server)).toBeLessThan(2 * alone + 800)
})

test('a reader that has stalled does not keep the server from ending', async () => {
  const server = await startFaultyServer()
  const stalled = await WebSocketClient.open(server)
  await greet(stalled, IN_JSON)
  stalled.stall()
  // As many as a client may send in a second without being closed for a flood.
  stalled.socket.write(Buffer.concat(Array.from({ length: 200 }, () => wireOf('{'))))
  const refused = () => metric(server.port, 'hailo_inference_errors_total', 'invalid_request')
  await until(async () => (await refused()) >= 200)
  // It ends although nobody reads: else the test does not.
  expect(await server.stop('SIGTERM')).toBe(0)
  expect(stalled.closed).toBeNull()
})

async function stopMs(server: TestServer): Promise<number> {
  const startedMs = performance.now()
  expect(await server.stop('SIGTERM')).toBe(0)
  return performance.now() - startedMs
}
