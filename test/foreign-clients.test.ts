import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import WebSocket from 'ws'
import { bytesOf, JSON_TYPE, jsonOf, OCTET_STREAM, postWindow } from './http-client.ts'
import { metric } from './load.ts'
import { startServer, type TestServer } from './server.ts'
import { GOLDEN, windowOf } from './windows.ts'
import { fromFrame, IN_BINARY, IN_JSON, type Said } from './ws-client.ts'

/** Clients that others have written: what they do by themselves, ours might never try. */

const ROW_BYTES = 304
const BINARY = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
const ALL = Buffer.from(bytesOf(GOLDEN.windows))

const folder = mkdtempSync(join(tmpdir(), 'foreign-'))
const socketPath = join(folder, 'socket')
let server: TestServer
/** What the single route answers to each golden window, and to all of them behind each other. */
const singly: Buffer[] = []
let together: Buffer
beforeAll(async () => {
  server = await startServer({
    WORKERS: '2',
    DEADLINE_MS: '5000',
    LOG_LEVEL: 'fatal',
    SIDECAR_SOCKET: socketPath,
  })
  for (let n = 0; n < GOLDEN.count; n++) singly.push((await postWindow(server, windowOf(n), BINARY)).body)
  together = Buffer.concat(singly)
})
afterAll(async () => {
  await server.stop()
  rmSync(folder, { recursive: true })
})

describe('ws', () => {
  /** Its messages in the order in which they came. */
  async function open() {
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}/stream`, { perMessageDeflate: true })
    onTestFinished(() => socket.terminate())
    const said: Said[] = []
    let wake = () => {}
    socket.on('message', (data: Buffer, isBinary) => {
      said.push(fromFrame(isBinary ? Buffer.from(data) : data.toString()))
      wake()
    })
    await once(socket, 'open')
    const next = async () => {
      while (said.length === 0)
        await new Promise<void>(resolve => {
          wake = resolve
        })
      return said.shift()!
    }
    const nextAnswer = async () => {
      let answer = await next()
      while (answer.type === 'credit') answer = await next()
      return answer
    }
    return { socket, next, nextAnswer }
  }

  test.each([IN_BINARY, IN_JSON])('offers to compress, and is answered in plain $name', async speech => {
    const { socket, next, nextAnswer } = await open()
    expect(socket.extensions).toBe('')
    socket.send(speech.hello())
    expect(await next()).toMatchObject({ type: 'welcome' })
    for (let n = 0; n < 10; n++) socket.send(speech.window(n, windowOf(n)))
    for (let n = 0; n < 10; n++) {
      const answer = await nextAnswer()
      expect(answer).toMatchObject({ type: 'result', seq: n })
      expect(Buffer.from(answer.bits.buffer).equals(singly[n]!)).toBe(true)
    }
  })

  test.each([IN_BINARY, IN_JSON])(
    'sends a window in fragments, with pings between them ($name)',
    async speech => {
      const { socket, next, nextAnswer } = await open()
      socket.send(speech.hello())
      await next()
      let pongs = 0
      socket.on('pong', () => pongs++)
      const message = speech.window(0, windowOf(5))
      const pieces = 7
      const length = Math.ceil(message.length / pieces)
      for (let piece = 0; piece < pieces; piece++) {
        const part = message.slice(piece * length, (piece + 1) * length)
        socket.send(part, { fin: piece === pieces - 1, binary: typeof message !== 'string' })
        socket.ping(`${piece}`)
      }
      const answer = await nextAnswer()
      expect(answer).toMatchObject({ type: 'result', seq: 0 })
      expect(Buffer.from(answer.bits.buffer).equals(singly[5]!)).toBe(true)
      await vi.waitUntil(() => pongs === pieces) // the last ping may come in a packet of its own
    },
  )

  test('says bye and hears a clean close', async () => {
    const { socket, next } = await open()
    socket.send(IN_BINARY.hello())
    await next()
    socket.send(IN_BINARY.bye())
    const [code] = await once(socket, 'close')
    expect(code).toBe(1000)
  })
})

describe('fetch', () => {
  test('posts over its pool of connections, many at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: GOLDEN.count }, async (_, n) => {
        const answer = await fetch(`${server.url}/infer`, {
          method: 'POST',
          headers: BINARY,
          body: Uint8Array.from(bytesOf(windowOf(n))),
        })
        return { status: answer.status, right: Buffer.from(await answer.arrayBuffer()).equals(singly[n]!) }
      }),
    )
    expect(answers.filter(({ status, right }) => status !== 200 || !right)).toEqual([])
  })

  test('uploads a stream, of which it does not say how long it is', async () => {
    const pieces = Array.from({ length: Math.ceil(ALL.length / 10_000) }, (_, at) =>
      ALL.subarray(at * 10_000, (at + 1) * 10_000),
    )
    const answer = await fetch(`${server.url}/infer`, {
      method: 'POST',
      headers: BINARY,
      body: Readable.toWeb(Readable.from(pieces)) as ReadableStream,
      duplex: 'half',
    })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('x-windows-failed')).toBe('0')
    expect(Buffer.from(await answer.arrayBuffer()).equals(together)).toBe(true)
  })

  test('reads the JSON of an error, and gives up when it is told to', async () => {
    const headers = { 'Content-Type': JSON_TYPE }
    const refused = await fetch(`${server.url}/infer`, { method: 'POST', headers, body: '{"x":[]}' })
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({ error: 'invalid_window' })
    const given = fetch(`${server.url}/infer`, { method: 'POST', signal: AbortSignal.timeout(0), body: 'x' })
    await expect(given).rejects.toThrow()
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
  })
})

const run = promisify(execFile)
const hasCurl = await run('curl', ['--version']).then(
  () => true,
  () => false,
)

describe.skipIf(!hasCurl)('curl (skipped where it is not installed)', () => {
  const files = {
    json: join(folder, 'window.json'),
    one: join(folder, 'one.bin'),
    all: join(folder, 'all.bin'),
  }
  writeFileSync(files.json, jsonOf(windowOf(3)))
  writeFileSync(files.one, bytesOf(windowOf(3)))
  writeFileSync(files.all, ALL)
  const OCTETS = ['-H', `Content-Type: ${OCTET_STREAM}`, '-H', `Accept: ${OCTET_STREAM}`]

  /** Fails when the status is not 2xx. */
  async function curl(path: string, ...options: string[]): Promise<Buffer> {
    const args = [
      '--silent',
      '--show-error',
      '--fail',
      '--max-time',
      '15',
      ...options,
      `${server.url}${path}`,
    ]
    const { stdout } = await run('curl', args, { encoding: 'buffer', maxBuffer: 64 * 2 ** 20 })
    return stdout
  }

  test('posts a window as JSON, and as bytes', async () => {
    const json = await curl('/infer', '-H', 'Content-Type: application/json', '--data', `@${files.json}`)
    expect(JSON.parse(String(json)).latent).toHaveLength(64)
    expect((await curl('/infer', ...OCTETS, '--data-binary', `@${files.one}`)).equals(singly[3]!)).toBe(true)
  })

  test.each<[string, string[]]>([
    ['with its length', ['--data-binary', `@${files.all}`]],
    ['after Expect: 100-continue', ['-H', 'Expect: 100-continue', '--data-binary', `@${files.all}`]],
    ['in chunks', ['-H', 'Transfer-Encoding: chunked', '--data-binary', `@${files.all}`]],
    [
      'in chunks from a file, as -T does',
      ['-X', 'POST', '-H', 'Transfer-Encoding: chunked', '-T', files.all],
    ],
    ['over HTTP/1.1 although it offers HTTP/2', ['--http2', '--data-binary', `@${files.all}`]],
  ])('uploads many windows %s', async (_, options) => {
    expect((await curl('/infer', ...OCTETS, ...options)).equals(together)).toBe(true)
    expect(together).toHaveLength(GOLDEN.count * ROW_BYTES)
  })

  test('waits for 100 Continue before it sends a large body, and gets it at once', async () => {
    const options = ['-H', 'Expect: 100-continue', '--expect100-timeout', '14', '--verbose']
    const args = [...OCTETS, ...options, '--data-binary', `@${files.all}`, '--silent', '-o', '/dev/null']
    const startedMs = performance.now()
    const { stderr } = await run('curl', [...args, `${server.url}/infer`])
    expect(stderr).toMatch(/^< HTTP\/1.1 100 Continue/m)
    expect(stderr).toMatch(/^< HTTP\/1.1 200 OK/m)
    // curl would wait 14 s for a server that keeps silent.
    expect(performance.now() - startedMs).toBeLessThan(10_000)
  })

  test('speaks to the socket beside the port', async () => {
    const socket = ['--unix-socket', socketPath]
    expect(JSON.parse(String(await curl('/healthz', ...socket)))).toMatchObject({ ok: true })
    const answer = await curl('/infer', ...socket, ...OCTETS, '--data-binary', `@${files.all}`)
    expect(answer.equals(together)).toBe(true)
  })

  test('asks with HEAD, and for two things over one connection', async () => {
    const head = String(await curl('/healthz', '--head'))
    expect(head).toMatch(/^HTTP\/1.1 200 OK\r\n/)
    expect(head).toMatch(/^content-type: application\/json/im)
    const both = String(await curl('/healthz', `${server.url}/readyz`))
    expect(both).toContain('"ok":true')
    expect(both).toContain('"ready":true')
  })
})

test('none of them leaves a window behind', async () => {
  expect(await metric(server.port, 'hailo_queue_depth')).toBe(0)
})
