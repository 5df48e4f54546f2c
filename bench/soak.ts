/**
 * Every kind of client at once, for minutes: streams at the pace of collars, an upload at full speed, clients that
 * idle, and three that misbehave. Says whether windows were answered in order and in time, and what it cost.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { connect, type Socket } from 'node:net'
import { cpus, release } from 'node:os'
import { join } from 'node:path'
import { env } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type ErrorCode, InferenceClient, type InferenceError, StreamClient } from '../client/index.ts'
import { encodeFrame, STREAM_VERSION } from '../src/http/frame.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { fetchThrough } from './http.ts'
import { percentile } from './latencies.ts'
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
/** An answer all the same: the connection of an idle client held. */
const BUSY: ReadonlySet<string> = new Set<ErrorCode>(['overloaded', 'deadline_exceeded'])

const windows = cutWindows(loadRecording(), 50).map(({ input }) => input)

interface Latencies {
  readonly latenciesMs: number[]
  readonly failures: Map<string, number>
}

/** One collar: windows when they are due, whatever became of the last one. @returns whether answers came in order */
async function collar(
  url: string,
  { index, streams }: Place,
  until: number,
  live: Latencies,
): Promise<boolean> {
  const client = new StreamClient(url)
  let next = 0
  let inOrder = true
  const pending = new Set<Promise<void>>()
  const startMs = performance.now() + (WINDOW_INTERVAL_MS * index) / streams
  for (let sent = 0; ; sent++) {
    const dueMs = startMs + sent * WINDOW_INTERVAL_MS
    if (dueMs >= until) break
    await sleep(Math.max(0, dueMs - performance.now()))
    const answered = client
      .send(windows[(index + sent) % windows.length]!)
      .then(
        () => void live.latenciesMs.push(performance.now() - dueMs),
        (error: InferenceError) => count(live.failures, error.code),
      )
      .then(() => {
        // The client matches answers to windows: this sees an order, not an answer that comes twice.
        inOrder &&= sent === next++
      })
    pending.add(answered)
    answered.finally(() => pending.delete(answered))
  }
  await Promise.all(pending)
  await client.close()
  return inOrder
}

interface Place {
  readonly index: number
  readonly streams: number
}

/** Uploads `UPLOAD_WINDOWS` windows again and again. Returns how many came back with a result. */
async function uploader(url: string, until: number): Promise<number> {
  const agent = new Agent({ keepAlive: true })
  const client = new InferenceClient(url, { fetch: fetchThrough(agent) })
  const upload = Array.from({ length: UPLOAD_WINDOWS }, (_, at) => windows[at % windows.length]!)
  let results = 0
  while (performance.now() < until) {
    const { failedCount } = await client.inferMany(upload, { windowsPerRequest: UPLOAD_WINDOWS })
    results += UPLOAD_WINDOWS - failedCount
  }
  agent.destroy()
  return results
}

/** Posts, idles for as long as the server's library would keep a connection, posts again on the same one. */
async function idler(url: string, index: number, until: number, idle: Latencies): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const client = new InferenceClient(url, { fetch: fetchThrough(agent) })
  while (performance.now() < until) {
    const sentMs = performance.now()
    await client.infer(windows[index]!).then(
      () => void idle.latenciesMs.push(performance.now() - sentMs),
      (error: InferenceError) => count(idle.failures, error.code),
    )
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
    socket.write(frame(encodeFrame('hello', { version: STREAM_VERSION, mode: 0, hop: 50, first: 0 })))
    if (how === 'stops reading') socket.pause()
    else socket.resume()
    for (let sequence = 0; performance.now() < until && !socket.destroyed; sequence++) {
      const whole = frame(encodeFrame('window', { sequence, deadlineMs: 0 }, bytesOf(windows[0]!)))
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

function bytesOf(window: Float32Array): Uint8Array {
  return new Uint8Array(window.buffer, window.byteOffset, window.byteLength)
}

function count(tally: Map<string, number>, word: string): void {
  tally.set(word, (tally.get(word) ?? 0) + 1)
}

function summary({ latenciesMs, failures }: Latencies): string {
  const sorted = latenciesMs.sort((a, b) => a - b)
  const [p50, p95, p99, max] = [50, 95, 99, 100].map(part => percentile(sorted, part)?.toFixed(1) ?? '-')
  const failed = [...failures].map(([word, times]) => `, ${times} × ${word}`).join('')
  return `${sorted.length} answered${failed}; p50 ${p50}   p95 ${p95}   p99 ${p99}   max ${max} ms`
}

/** Of all windows: one without a result came later than any other. */
function p95OfAllMs(all: Latencies): number {
  const never = new Array<number>(failuresOf(all)).fill(Number.POSITIVE_INFINITY)
  return percentile([...all.latenciesMs.sort((a, b) => a - b), ...never], 95) ?? Number.POSITIVE_INFINITY
}

function failuresOf({ failures }: Latencies, words: (word: string) => boolean = () => true): number {
  return [...failures].reduce((sum, [word, times]) => sum + (words(word) ? times : 0), 0)
}

function residentMegabytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024
}

/** @throws when an option is unknown or its value makes no sense */
function parseOptions(): { seconds: number; streams: number } | 'help' {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '600' },
      streams: { type: 'string', default: '200' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  const numberOf = (name: 'seconds' | 'streams') => {
    if (!/^[1-9]\d{0,5}$/.test(values[name])) {
      throw new TypeError(`Cannot parse --${name} ${values[name]}: expected a whole number from 1`)
    }
    return Number(values[name])
  }
  return { seconds: numberOf('seconds'), streams: numberOf('streams') }
}

async function main(): Promise<number> {
  let options: ReturnType<typeof parseOptions>
  try {
    options = parseOptions()
  } catch (error) {
    console.error(`${(error as Error).message}\nAll options: npm run soak -- --help`)
    return 2
  }
  if (options === 'help') {
    console.log(HELP)
    return 0
  }
  const { seconds, streams } = options

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
    collar(`ws://127.0.0.1:${port}/stream`, { index, streams }, until, live),
  )
  const idlers = Array.from({ length: 16 }, (_, index) => idler(url.href, index, until, idle))
  const [uploaded, inOrder] = await Promise.all([
    uploader(url.href, until),
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
  const busy = failuresOf(idle, word => BUSY.has(word))
  console.log(`idle       ${summary(idle)}; ${busy} told that the server is busy`)
  console.log(`memory     ${memory.map(megabytes => megabytes.toFixed(0)).join('  ')} MB`)
  console.log(`exit code  ${exitCode}`)
  const half = memory[Math.floor(memory.length / 2)] ?? 0
  const promises = {
    'live p95 below 45 ms': p95OfAllMs(live) < CLIENT_DEADLINE_MS,
    '99.5 % of live windows answered': live.latenciesMs.length >= 199 * failuresOf(live),
    'every stream in order': ordered === streams,
    'no connection of idle clients lost': failuresOf(idle, word => !BUSY.has(word)) === 0,
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
