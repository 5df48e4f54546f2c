import { once } from 'node:events'
import { get } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ask, Connection, postWindow } from './http-client.ts'
import { until } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { isTelling, MARK } from './telling.ts'
import {
  BODIES,
  ECHOES,
  FRAMES,
  FRAMES_TO_BEAR,
  HARMLESS,
  HEADS,
  LOOSE_CHUNKS,
  METHODS,
  PACKED,
  PATHS,
  SMUGGLING,
  TWO_REQUESTS,
  type Ugly,
} from './ugly.ts'
import { windowOf } from './windows.ts'
import { greet, IN_JSON, WebSocketClient } from './ws-client.ts'

const STUB = { INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: '5000' }
/** Inputs that were tried, over all tables. */
const tried = new Set<Ugly>()

let server: TestServer
let siege: Promise<{ turnedAway: boolean }>
beforeAll(async () => {
  siege = besiege(8)
  siege.catch(() => {}) // told by its own test
  server = await startServer({ ...STUB, LOG_LEVEL: 'trace' })
})
afterAll(() => server.stop())

/** Nobody's answer but one of a refusal, or none where it was no request. */
const REFUSED = /^(4\d\d|505)?$/

test.each([
  ['heads', HEADS, REFUSED],
  ['bodies that end in two places', SMUGGLING, REFUSED],
  ['what is read as two requests', [...TWO_REQUESTS, ...LOOSE_CHUNKS], /^(400( 200)?)?$/],
  ['paths', PATHS, REFUSED],
  ['ids', ECHOES, REFUSED],
  ['what is ugly and harmless', HARMLESS, /^200$/],
])(
  '%s: one answer at most, which tells nothing, and a good window is answered after each',
  async (_, inputs, wanted) => {
    for (const input of inputs) {
      const connection = await Connection.open(server)
      connection.send(input[1])
      await expectGoodWindow() // read after it, so that it has been judged by then
      connection.end()
      expectAnswer(input, await connection.rest(), wanted)
    }
  },
)

test.each([
  ['methods', METHODS, /^405|505$/],
  ['bodies', BODIES, /^4(00|13|15)$/],
  ['packed bodies', PACKED, /^4(00|13|15)$/],
])('%s: each is answered in words, and a good window after each', async (_, inputs, wanted) => {
  for (const input of inputs) {
    const connection = await Connection.open(server)
    connection.send(input[1])
    expectAnswer(input, await connection.rest(), wanted)
    await expectGoodWindow()
  }
})

describe('over WebSocket', () => {
  test.each([
    ['ends the connection', FRAMES, true],
    ['is borne', FRAMES_TO_BEAR, false],
  ])(
    'what %s says nothing of what was sent, and a good window is answered after each',
    async (_, inputs, ends) => {
      for (const input of inputs) {
        const client = await WebSocketClient.open(server, {
          headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; server_max_window_bits=15' },
        })
        expect(client.headers['sec-websocket-extensions']).toBeUndefined() // so no frame is ever inflated
        await greet(client, IN_JSON)
        client.socket.write(input[1])
        if (!ends) {
          client.send(IN_JSON.window(0, windowOf(0)))
          while ((await client.nextAnswer()).type !== 'result');
        } else {
          const { reason, said } = await client.rest()
          expect(isTelling(`${reason} ${JSON.stringify(said)}`), input[0]).toBe(false)
        }
        await expectGoodWindow()
        client.hangUp()
        tried.add(input)
      }
    },
  )
})

test('some three hundred inputs later nothing of them is in metrics or log, and nobody is left', async () => {
  console.log(`strangers: ${tried.size} bad inputs tried`)
  expect(tried.size).toBeGreaterThan(300)
  const metrics = String((await ask(server, 'GET /metrics')).body)
  expect(isTelling(metrics)).toBe(false)
  expect(isTelling(server.stderr)).toBe(false)
  expect(server.stderr).toContain('invalid_window') // what it was about is there
  expect(server.process.exitCode).toBeNull()
  const connections = async () =>
    Number(/^hailo_ws_connections (\d+)$/m.exec(String((await ask(server, 'GET /metrics')).body))![1])
  await until(async () => (await connections()) === 0)
})

// Controls: what looks for it finds it.
test('an input that comes out again is found', async () => {
  const connection = await Connection.open(server)
  connection.send(`GET /nowhere HTTP/1.1\r\nHost: test\r\nConnection: close\r\nX-Request-ID: ${MARK}\r\n\r\n`)
  const answer = await connection.rest()
  expect(() => expectAnswer(['an id that is sane', ''], answer, REFUSED)).toThrow()
})

test('as many slow heads as MAX_CONNECTIONS keep others out until their time is up, and no longer', async () => {
  expect(await siege).toEqual({ turnedAway: true })
}, 60_000)

async function expectGoodWindow(): Promise<void> {
  expect((await postWindow(server, windowOf(0))).status).toBe(200)
}

function expectAnswer(input: Ugly, answer: string, wanted: RegExp): void {
  const [what] = input
  const statuses = [...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status).join(' ')
  expect({ what, statuses }).toEqual({ what, statuses: expect.stringMatching(wanted) })
  expect({ what, answer, tells: isTelling(answer) }).toEqual({ what, answer, tells: false })
  expect(answer, what).not.toMatch(/^x-injected/im)
  tried.add(input)
}

/** So many clients, all that there may be, send a byte of their heads now and then, and another one tries to be served. */
async function besiege(clients: number) {
  const { port, stop } = await startServer({ ...STUB, LOG_LEVEL: 'fatal', MAX_CONNECTIONS: String(clients) })
  const trickling = Array.from({ length: clients }, () => {
    const socket = connect(port, '127.0.0.1').on('error', () => {})
    socket.write('GET /healthz HTTP/1.1\r\nHost: test\r\nX-Slow: ')
    return socket
  })
  await Promise.all(trickling.map(socket => once(socket, 'connect')))
  const timer = setInterval(() => trickling.forEach(socket => socket.writable && socket.write('x')), 500)
  const served = async () => {
    const asked = get({ port, host: '127.0.0.1', path: '/healthz', agent: false, timeout: 5000 })
    asked.on('timeout', () => asked.destroy())
    const [answer] = await once(asked, 'response').catch(() => [null])
    answer?.resume()
    return answer?.statusCode === 200
  }
  const turnedAway = !(await served())
  while (!(await served())) await sleep(100)
  clearInterval(timer)
  for (const socket of trickling) socket.destroy()
  await stop()
  return { turnedAway }
}
