/**
 * Every kind of client at once, for minutes: streams at the pace of collars, an upload at full speed, clients that
 * idle, and three that misbehave. Says whether each window was answered once, in order and in time, and what it cost.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { cpus, release } from 'node:os'
import { join } from 'node:path'
import { env } from 'node:process'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type InferenceError, StreamClient } from '../client/index.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { cutWindows, loadRecording } from './recording.ts'

const HELP = `Soaks a server of its own with every kind of client: npm run soak -- [options]

  --seconds N    how long (600)
  --streams N    WebSocket connections, two windows per second each (200)
  --help         this text

The server reads its configuration from the environment, as npm start does.
Exit code: 0 every promise held, 1 not so, 2 bad option.`

/** What EdgeInfer waits for, ms. */
const CLIENT_DEADLINE_MS = 45
const WINDOW_INTERVAL_MS = 500
const UPLOAD_WINDOWS = 2000
const POOL_HOLD_MS = 60_000

const windows = cutWindows(loadRecording(), 50).map(({ input }) => input)

interface Latencies {
  readonly latenciesMs: number[]
  readonly failures: Map<string, number>
}

/** One collar: windows when they are due, whatever became of the last one. */
async function collar(url: string, index: number, until: number, live: Latencies): Promise<boolean> {
  const client = new StreamClient(url)
  let next = 0
  let inOrder = true
  const pending = new Set<Promise<void>>()
  await sleep((WINDOW_INTERVAL_MS * index) / 200)
  for (let sent = 0; performance.now() < until; sent++) {
    const dueMs = performance.now()
    const answered = client.send(windows[(index + sent) % windows.length]!).then(
      ({ sequence }) => {
        live.latenciesMs.push(performance.now() - dueMs)
        inOrder &&= sequence === next++
      },
      (error: InferenceError) => {
        next++
        count(live.failures, error.code)
      },
    )
    pending.add(answered)
    answered.finally(() => pending.delete(answered))
    await sleep(WINDOW_INTERVAL_MS)
  }
  await Promise.all(pending)
  await client.close()
  return inOrder
}

/** Posts `UPLOAD_WINDOWS` windows again and again. Returns how many came back with a result. */
async function uploader(port: number, until: number): Promise<number> {
  const body = Buffer.concat(
    Array.from({ length: UPLOAD_WINDOWS }, (_, at) => bytesOf(windows[at % windows.length]!)),
  )
  const agent = new Agent({ keepAlive: true })
  let results = 0
  while (performance.now() < until) {
    const { headers } = await post({ port, agent, body, accept: 'application/octet-stream' })
    results += UPLOAD_WINDOWS - Number(headers['x-windows-failed'] ?? UPLOAD_WINDOWS)
  }
  agent.destroy()
  return results
}

/** Posts, idles for as long as the server's library would keep a connection, posts again on the same one. */
async function idler(port: number, index: number, until: number, idle: Latencies): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  while (performance.now() < until) {
    const sentMs = performance.now()
    const result = await post({ port, agent, body: bytesOf(windows[index]!) }).then(
      ({ status }) => String(status),
      (error: NodeJS.ErrnoException) => error.code ?? error.message,
    )
    if (result === '200') idle.latenciesMs.push(performance.now() - sentMs)
    else count(idle.failures, result)
    const pauseMs = index % 8 === 0 ? POOL_HOLD_MS : 9500 + 1500 * Math.random()
    await sleep(Math.min(pauseMs, Math.max(0, until - performance.now())))
  }
  agent.destroy()
}

/** A stream whose owner has not read the manual. */
async function misbehave(
  port: number,
  how: 'stops reading' | 'stops writing' | 'floods',
  until: number,
): Promise<void> {
  const frame = (payload: Uint8Array) => {
    const { length } = payload
    const head = length < 126 ? [0x82, 0x80 | length] : [0x82, 0xfe, length >> 8, length & 255]
    return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload])
  }
  while (performance.now() < until) {
    const socket: Socket = connect({ port, host: '127.0.0.1' })
    socket.on('error', () => {})
    const closed = once(socket, 'close')
    const key = randomBytes(16).toString('base64')
    socket.write(
      `GET /stream HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    )
    await once(socket, 'data')
    const hello = Buffer.alloc(16)
    hello.writeUInt32LE(1, 0)
    hello.writeUInt8(1, 4)
    hello.writeUInt32LE(50, 8)
    socket.write(frame(hello))
    if (how === 'stops reading') socket.pause()
    else socket.resume()
    const window = Buffer.concat([Buffer.alloc(12), bytesOf(windows[0]!)])
    window.writeUInt32LE(2, 0)
    for (let sequence = 0; performance.now() < until && !socket.destroyed; sequence++) {
      window.writeUInt32LE(sequence, 4)
      const whole = frame(window)
      if (how === 'stops writing' && sequence === 3) {
        socket.write(whole.subarray(0, 1000))
        await Promise.race([closed, sleep(Math.max(0, until - performance.now()))])
        break
      }
      const taken = socket.write(whole)
      if (how !== 'floods') await sleep(10)
      else if (!taken) await Promise.race([once(socket, 'drain'), closed, sleep(100)])
      else if (sequence % 20 === 0) await sleep(5)
    }
    socket.destroy()
    await sleep(500)
  }
}

interface PostOptions {
  readonly port: number
  readonly agent: Agent
  readonly body: Uint8Array
  readonly accept?: string
}

function post({ port, agent, body, accept = 'application/json' }: PostOptions) {
  return new Promise<{ status: number; headers: Record<string, string | string[] | undefined> }>(
    (resolve, reject) => {
      const headers = {
        'Content-Type': 'application/octet-stream',
        Accept: accept,
        'Content-Length': body.length,
      }
      const outgoing = request(
        { port, agent, host: '127.0.0.1', method: 'POST', path: '/infer', headers },
        incoming => {
          const { statusCode = 0, headers } = incoming
          buffer(incoming).then(() => resolve({ status: statusCode, headers }), reject)
        },
      )
      outgoing.on('error', reject)
      outgoing.end(body)
    },
  )
}

function bytesOf(window: Float32Array): Uint8Array {
  return new Uint8Array(window.buffer, window.byteOffset, window.byteLength)
}

function count(tally: Map<string, number>, word: string): void {
  tally.set(word, (tally.get(word) ?? 0) + 1)
}

function summary({ latenciesMs, failures }: Latencies): string {
  const sorted = latenciesMs.sort((a, b) => a - b)
  const [p50, p95, p99, max] = [0.5, 0.95, 0.99, 1].map(
    part => sorted[Math.ceil(part * sorted.length) - 1]?.toFixed(1) ?? '-',
  )
  const failed = [...failures].map(([word, times]) => `, ${times} × ${word}`).join('')
  return `${sorted.length} answered${failed}; p50 ${p50}   p95 ${p95}   p99 ${p99}   max ${max} ms`
}

function share(part: number, { latenciesMs }: Latencies): number {
  const sorted = latenciesMs.sort((a, b) => a - b)
  return sorted[Math.ceil(part * sorted.length) - 1] ?? Number.POSITIVE_INFINITY
}

function residentMegabytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '600' },
      streams: { type: 'string', default: '200' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(HELP)
    return 0
  }
  const [seconds, streams] = [Number(values.seconds), Number(values.streams)]
  if (!(seconds > 0 && streams >= 0)) throw new TypeError('Cannot soak: expected numbers above 0')

  const server = spawn(process.execPath, [join(PROJECT_FOLDER, 'dist/src/main.js')], {
    env: { LOG_LEVEL: 'error', ...env, SIDECAR_PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let printed = ''
  for await (const text of server.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    printed += text
    if (/^ {2}url +\S+/m.test(printed)) break
  }
  const url = new URL(/^ {2}url +(\S+)/m.exec(printed)![1]!)
  const port = Number(url.port)
  console.log(
    `${new Date().toISOString().slice(0, 10)} · ${cpus()[0]!.model} ×${cpus().length} · Linux ${release()} · Node ${process.version}`,
  )
  console.log(printed.match(/^ {2}(mode|workers) .*$/gm)!.join('\n'))

  const until = performance.now() + seconds * 1000
  const live: Latencies = { latenciesMs: [], failures: new Map() }
  const idle: Latencies = { latenciesMs: [], failures: new Map() }
  const memory: number[] = []
  const sampling = setInterval(() => memory.push(residentMegabytes(server.pid!)), (seconds * 1000) / 10)
  const misbehaving = (['stops reading', 'stops writing', 'floods'] as const).map(how =>
    misbehave(port, how, until),
  )
  const collars = Array.from({ length: streams }, (_, index) =>
    collar(`ws://127.0.0.1:${port}/stream`, index, until, live),
  )
  const idlers = Array.from({ length: 16 }, (_, index) => idler(port, index, until, idle))
  const [uploaded, inOrder] = await Promise.all([
    uploader(port, until),
    Promise.all(collars),
    ...idlers,
    ...misbehaving,
  ])
  clearInterval(sampling)
  server.kill('SIGTERM')
  const [exitCode] = await once(server, 'exit')

  const ordered = inOrder.filter(Boolean).length
  console.log(`live       ${summary(live)}, from due to answered`)
  console.log(`in order   ${ordered} of ${streams} streams`)
  console.log(`bulk       ${(uploaded / seconds).toFixed(0)} windows/s beside them`)
  console.log(`idle       ${summary(idle)}`)
  console.log(`memory     ${memory.map(megabytes => megabytes.toFixed(0)).join('  ')} MB`)
  console.log(`exit code  ${exitCode}`)
  const half = memory[Math.floor(memory.length / 2)] ?? 0
  const promises = {
    'live p95 below 45 ms': share(0.95, live) < CLIENT_DEADLINE_MS,
    '99.5 % of live windows answered':
      live.latenciesMs.length >= 199 * [...live.failures.values()].reduce((a, b) => a + b, 0),
    'every stream in order': ordered === streams,
    'no failure of idle clients': [...idle.failures.keys()].every(word => word === '504' || word === '429'),
    'memory flat in the second half': (memory.at(-1) ?? 0) < half * 1.1 + 10,
    'ended by SIGTERM with 0': exitCode === 0,
  }
  const broken = Object.entries(promises).filter(([, holds]) => !holds)
  console.log(
    broken.length === 0 ? 'every promise held' : `broken: ${broken.map(([name]) => name).join('; ')}`,
  )
  return broken.length === 0 ? 0 : 1
}

process.exitCode = await main()
