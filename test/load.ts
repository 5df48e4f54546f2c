import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { WINDOW_VALUES } from '../src/core/window.ts'
import { FAULTS } from './faults/faults.ts'
import { Hold } from './faults/hold.ts'
import { bytesOf, jsonOf } from './http-client.ts'
import { startServer, type TestServer } from './server.ts'

export interface Answer {
  readonly status: number
  /** Names in lower case. */
  readonly headers: Record<string, string>
  readonly body: Buffer
  /** From sent to answered, ms. */
  readonly tookMs: number
}

export interface PostOptions {
  /** Send the window as JSON, and take the result as JSON. */
  readonly json?: boolean
  readonly deadlineMs?: number
}

/**
 * How a request ended: its status; the code of what kept its answer away from a new connection; "cut", when that was in
 * the middle of an answer; or "stale", when an idle connection was closed just as it was used again, in which case
 * browsers ask once more.
 */
export type Outcome = number | string

/** A request that got no whole answer. */
export class Unanswered extends Error {
  /** The system's code, or "closed". */
  readonly code: string
  /** Whether the answer had begun. */
  readonly begun: boolean

  constructor(code: string, begun: boolean) {
    super(`${code}, ${begun ? 'in the middle of' : 'without'} an answer`)
    this.code = code
    this.begun = begun
  }
}

/** One connection to the server, over a bare socket: what is sent and what comes back is all there is. */
export class Connection {
  readonly socket: Socket
  /** Answers received so far. */
  answers = 0
  /** Neither side has closed it. */
  open = true
  #received = Buffer.alloc(0)
  #pending: { resolve(answer: Answer): void; reject(error: Unanswered): void; sentMs: number } | null = null

  /** @param localAddress a loopback address, to be somebody else */
  constructor(port: number, { localAddress }: { localAddress?: string } = {}) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true, ...(localAddress && { localAddress }) })
    this.socket.on('data', bytes => this.#onData(bytes))
    this.socket.on('error', (error: NodeJS.ErrnoException) => this.#onEnd(error.code!))
    this.socket.on('close', () => this.#onEnd('closed'))
  }

  post(window: Float32Array, { json = false, deadlineMs }: PostOptions = {}): Promise<Answer> {
    const type = json ? 'application/json' : 'application/octet-stream'
    const body = json ? jsonOf(window) : bytesOf(window)
    const deadline = deadlineMs === undefined ? '' : `X-Deadline-Ms: ${deadlineMs}\r\n`
    return this.#request(
      `POST /infer HTTP/1.1\r\nHost: test\r\nContent-Type: ${type}\r\nAccept: ${type}\r\n${deadline}Content-Length: ${body.length}\r\n\r\n`,
      body,
    )
  }

  get(path: string): Promise<Answer> {
    return this.#request(`GET ${path} HTTP/1.1\r\nHost: test\r\n\r\n`, '')
  }

  close(): void {
    this.open = false
    this.socket.destroy()
  }

  #request(head: string, body: string | Uint8Array): Promise<Answer> {
    assert(this.#pending === null, 'one request at a time')
    const answer = this.expectAnswer()
    this.socket.cork()
    this.socket.write(head)
    this.socket.write(body)
    this.socket.uncork()
    return answer
  }

  /** To a request that is written to the socket by hand. */
  expectAnswer(): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject, sentMs: performance.now() }
    })
  }

  #onData(bytes: Buffer): void {
    // Thrown inside an event, this fails the whole run: every request gets one answer, never two.
    assert(this.#pending, 'an answer that nobody asked for')
    this.#received = Buffer.concat([this.#received, bytes])
    const headEnd = this.#received.indexOf('\r\n\r\n')
    if (headEnd === -1) return
    const [statusLine, ...lines] = this.#received.toString('latin1', 0, headEnd).split('\r\n')
    const headers = Object.fromEntries(
      lines.map(line => {
        const [name = '', ...value] = line.split(': ')
        return [name.toLowerCase(), value.join(': ')]
      }),
    )
    const body = this.#received.subarray(headEnd + 4)
    if (body.length < Number(headers['content-length'])) return
    assert.equal(body.length, Number(headers['content-length']), 'more than one answer')

    const { resolve, sentMs } = this.#pending
    this.#pending = null
    this.#received = Buffer.alloc(0)
    this.answers++
    const { connection } = headers
    if (connection === 'close') this.open = false
    resolve({ status: Number(statusLine!.split(' ')[1]), headers, body, tookMs: performance.now() - sentMs })
  }

  #onEnd(code: string): void {
    this.open = false
    this.#pending?.reject(new Unanswered(code, this.#received.length > 0))
    this.#pending = null
  }
}

/** Starts a server that ends with the test, if not before. */
export async function startServerForTest(
  ...[env, options]: Parameters<typeof startServer>
): Promise<TestServer> {
  const server = await startServer({ LOG_LEVEL: 'fatal', ...env }, options)
  onTestFinished(() => void server.stop('SIGKILL'))
  return server
}

/** A server whose workers fail on order, see FAULTS. */
export interface FaultyServer extends TestServer {
  /** Keeps a worker busy with a window of its own until `release()`. Resolves when it is. */
  hold(): Promise<{ connection: Connection; answer: Promise<Answer> }>
  /** Resolves when a worker has come to a HOLDING window. What is sent from then on waits behind it. */
  held(): Promise<void>
  /** Lets the worker go on. HOLDING windows of later are like any other, until `hold()` is called. */
  release(): void
}

/** Runs in stub mode with one worker, unless told otherwise. */
export async function startFaultyServer(env: Record<string, string> = {}): Promise<FaultyServer> {
  const folder = mkdtempSync(join(tmpdir(), 'faults-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const hold = new Hold(folder)
  hold.want()
  const server = await startServerForTest(
    { INFER_MODE: 'stub', WORKERS: '1', FAULTS_FOLDER: folder, ...env },
    { faults: true },
  )
  const held = () => until(() => hold.held)
  return Object.assign(server, {
    held,
    release: () => hold.release(),
    async hold() {
      await until(() => !hold.held)
      hold.want()
      const connection = new Connection(server.port)
      const answer = connection.post(HOLDING, { deadlineMs: 5000 }).finally(() => connection.close())
      answer.catch(() => {})
      await held()
      return { connection, answer }
    },
  })
}

/** One request on a connection of its own. */
export async function post(port: number, window: Float32Array, options?: PostOptions): Promise<Answer> {
  const connection = new Connection(port)
  return connection.post(window, options).finally(() => connection.close())
}

export async function get(port: number, path: string): Promise<Answer> {
  const connection = new Connection(port)
  return connection.get(path).finally(() => connection.close())
}

/** The sum of a metric's rows, of those whose labels contain `labels`. */
export async function metric(port: number, name: string, labels = ''): Promise<number> {
  const { body } = await get(port, '/metrics')
  const rows = body
    .toString()
    .split('\n')
    .filter(row => /^\w+/.exec(row)?.[0] === name && row.includes(labels))
  return rows.reduce((sum, row) => sum + Number(row.split(' ').at(-1)), 0)
}

/** How many windows the model has run. */
export function windowsRun(port: number): Promise<number> {
  return metric(port, 'hailo_batch_size_sum')
}

/** Waits until so many windows are in the rings, those with the workers included. */
export function untilInFlight(port: number, windows: number): Promise<void> {
  return until(async () => (await metric(port, 'hailo_queue_depth')) === windows)
}

/** Waits until every slot has come back. The server goes on. */
export async function expectIdle(port: number): Promise<void> {
  await untilInFlight(port, 0)
  assert.equal((await get(port, '/healthz')).status, 200)
}

/** What a process holds in memory of its own: without the pages of files, which come and go with the system's cache. */
export function residentMegabytes(pid: number): number {
  return Number(/RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024
}

/** Asks again and again until `holds` does; the test's own timeout ends it when that never comes. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(10)
}

/**
 * A window that follows from its sequence alone and is like no other.
 * @param order what a faulty worker shall do with it, see FAULTS; 0 nothing
 */
export function distinctWindow(sequence: number, order = 0): Float32Array {
  const window = new Float32Array(WINDOW_VALUES)
  let state = Math.imul(sequence + 1, 0x9e3779b1)
  for (let value = 1; value < WINDOW_VALUES; value++) {
    state = Math.imul(state ^ (state >>> 15), 0x85ebca6b) + value
    window[value] = (state / 2 ** 31) * 30
  }
  window[0] = order
  return window
}

/** Keeps the worker of a faulty server busy until that releases it. */
export const HOLDING = distinctWindow(0, FAULTS.hold)

/**
 * Clients that each make their next request as soon as the last one has ended, until `more()` says
 * no or the port is closed.
 * @returns for each client how its requests ended, in order
 */
export function closedLoop(options: {
  port: number
  clients: number
  /** False: a new connection for each request. */
  keepAlive?: boolean
  more(): boolean
  request(connection: Connection): Promise<Answer>
}): Promise<Outcome[][]> {
  const { port, clients, keepAlive = true, more, request } = options
  const client = async () => {
    const outcomes: Outcome[] = []
    let connection = new Connection(port)
    while (more() && outcomes.at(-1) !== 'ECONNREFUSED') {
      if (!connection.open || (connection.answers > 0 && !keepAlive)) {
        connection.close()
        connection = new Connection(port)
      }
      outcomes.push(await outcomeOf(request(connection), connection))
    }
    connection.close()
    return outcomes
  }
  return Promise.all(Array.from({ length: clients }, client))
}

async function outcomeOf(answer: Promise<Answer>, { answers }: Connection): Promise<Outcome> {
  try {
    return (await answer).status
  } catch (error) {
    if (!(error instanceof Unanswered)) throw error
    if (error.begun) return 'cut'
    return answers > 0 ? 'stale' : error.code
  }
}

/** How many of each. */
export function tallyOf(outcomes: Iterable<Outcome>): Record<Outcome, number> {
  const tally: Record<Outcome, number> = {}
  for (const outcome of outcomes) tally[outcome] = (tally[outcome] ?? 0) + 1
  return tally
}

/** Posts at a fixed rate, whatever the server does: it opens a connection more when none is free. */
export async function openLoop(options: {
  port: number
  perSecond: number
  seconds: number
  window(index: number): Float32Array
}): Promise<Answer[]> {
  const { port, perSecond, seconds, window } = options
  const free: Connection[] = []
  const startMs = performance.now()
  const answers: Promise<Answer>[] = []
  for (let index = 0; index < perSecond * seconds; index++) {
    const earlyMs = startMs + (index * 1000) / perSecond - performance.now()
    if (earlyMs > 0) await sleep(earlyMs)
    const connection = free.pop() ?? new Connection(port)
    const answer = connection.post(window(index))
    answers.push(answer)
    answer.then(() => free.push(connection))
  }
  return Promise.all(answers).finally(() => {
    for (const connection of free) connection.close()
  })
}
