import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { build, type Target } from '../../native/build.ts'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { type Buckets, Histogram } from './histogram.ts'

/** Where the server listens: a port of 127.0.0.1, or a Unix-domain socket. */
export type Address = { readonly port: number } | { readonly path: string }

/** What is sent, byte by byte, and what a right answer to it is. */
export interface LoadRequest {
  /** HTTP: head and body. WebSocket: one frame, masked with zeros; see `frameOf()` in requests.ts. */
  readonly bytes: Uint8Array
  /** How many windows it holds; 1 unless said. */
  readonly windows?: number
  /** How often it is sent in comparison with the others, an integer; 1 unless said. */
  readonly weight?: number
  /** Left out: any answer with a result is right. */
  readonly expected?: Expected
}

export interface Expected {
  readonly bytes: Uint8Array
  /** Where they begin in the body, or in the WebSocket message. What is before them may be anything. */
  readonly offset?: number
  /** More may follow them. */
  readonly isPrefix?: boolean
}

/**
 * How the messages of a WebSocket server are told apart: by the byte at `typeOffset`. Offsets are those in the message,
 * numbers little-endian. Messages of other types are passed over. What is left out does not exist: with nothing at all
 * every message is a result, and the first window follows the upgrade.
 */
export interface Dialect {
  readonly typeOffset?: number
  readonly resultType?: number
  readonly errorType?: number
  /** uint32, in results and errors: that of the window which is answered. Results must come in order. */
  readonly sequenceOffset?: number
  /** uint8, in errors. */
  readonly statusOffset?: number
  /** uint32, in errors, milliseconds. */
  readonly retryAfterOffset?: number
  /** No window is sent before this message. */
  readonly welcomeType?: number
  /** uint16, in the welcome: windows that may be sent. */
  readonly creditsOffset?: number
  readonly creditType?: number
  /** uint32, in a credit: windows more. */
  readonly creditCountOffset?: number
  /** uint32, in a request's payload: where the connection's sequence goes, 1 for its first window. */
  readonly requestSequenceOffset?: number
}

export interface HttpProtocol {
  readonly kind: 'http'
  /** Statuses that mean: not now. 429 and 503 unless said. */
  readonly refusals?: readonly number[]
  /** Statuses that mean: the deadline has passed. 504 unless said. */
  readonly tooLate?: readonly number[]
}

export interface WebSocketProtocol {
  readonly kind: 'websocket'
  /** The HTTP request that upgrades; see `upgradeOf()` in requests.ts. */
  readonly upgrade: Uint8Array
  /** A frame to be sent before all others. */
  readonly hello?: Uint8Array
  readonly dialect: Dialect
  /** Statuses of errors that mean: not now. None unless said. */
  readonly refusals?: readonly number[]
  /** Statuses of errors that mean: the deadline has passed. None unless said. */
  readonly tooLate?: readonly number[]
}

export interface LoadPlan {
  readonly target: Address
  readonly protocol: HttpProtocol | WebSocketProtocol
  readonly connections: number
  /** On each connection; 1 unless said, and over HTTP. */
  readonly inFlight?: number
  /**
   * Closed: each connection sends its next request as soon as it may. Open: requests become due at a rate, whatever the
   * server does, and wait for a free connection, or are given up where there is none.
   */
  readonly loop:
    | { readonly kind: 'closed' }
    | {
        readonly kind: 'open'
        readonly ratePerSecond: number
        readonly arrivals?: 'constant' | 'poisson'
        readonly givesUp?: boolean
      }
  /** What is due in this time is sent, but not counted. */
  readonly warmUpMs: number
  readonly durationMs: number
  /** How long what is due may take to be sent and answered at the end; 2 s unless said. */
  readonly graceMs?: number
  /** Sent in turn, each as often as its weight says. */
  readonly requests: readonly LoadRequest[]
  /** To be told how much of the processors the server has used. */
  readonly serverPid?: number
  /** A refused connection sends nothing for as long as it was told. */
  readonly heedRetryAfter?: boolean
  /** Of Poisson arrivals. */
  readonly seed?: number
}

/** How requests ended. */
export interface Outcomes {
  readonly right: number
  /** A result, but not the one that was expected; over WebSocket also one out of order. */
  readonly wrong: number
  readonly refused: number
  /** Admitted, and without a result when the deadline had passed. */
  readonly late: number
  /** Any other status. */
  readonly failed: number
  /** The connection ended before the answer. */
  readonly lost: number
}

export interface LoadResult {
  /** What was measured. */
  readonly seconds: number
  /** The requests that were due in the measured time, however late they ended. Latencies are theirs. */
  readonly due: Outcomes & {
    /** Sent, and without an answer when the grace was over. */
    readonly unanswered: number
    /** No connection was free until then, or when they were due. */
    readonly unsent: number
  }
  /** The answers that came within the measured time, whenever they were due. Rates are theirs. */
  readonly ended: Outcomes & { readonly rightWindows: number }
  /** Of right answers. */
  readonly requestsPerSecond: number
  readonly windowsPerSecond: number
  /** By HTTP status; over WebSocket 0 and the statuses of errors. Of the requests in `due`. */
  readonly statuses: Readonly<Record<string, number>>
  /** Right and wrong results, from when the request was due; in a closed loop from when it was sent. */
  readonly answered: Histogram
  readonly refused: Histogram
  readonly late: Histogram
  /** Open loop: how late the generator itself was, from when a request was due and a connection free. */
  readonly lag: Histogram
  readonly bytesSent: number
  readonly bytesReceived: number
  /** Seconds on a processor within the measured time. `server` is null without `serverPid`. */
  readonly processor: {
    readonly generator: number
    readonly server: number | null
    readonly serverMainThread: number | null
  }
  /** In the whole run, each opened again. */
  readonly lostConnections: number
  /** Answers in the whole run that were not HTTP with a Content-Length, or to no request. Their connections are lost. */
  readonly brokenAnswers: number
  /** The first answer that was wrong or failed; the body is cut short. */
  readonly firstWrong: { readonly request: number; readonly status: number; readonly body: Buffer } | null
}

const SOURCES = join(PROJECT_FOLDER, 'bench', 'load', 'generator')

export const GENERATOR: Target = {
  output: join(PROJECT_FOLDER, 'native', 'build', 'load-generator'),
  sources: readdirSync(SOURCES)
    .filter(name => name.endsWith('.cc'))
    .map(name => join(SOURCES, name)),
}

const DEFAULT_GRACE_MS = 2000
/** To connect and to end. The generator keeps its own time; this is for one that does not. */
const PATIENCE_MS = 10_000

/**
 * Loads a server as planned, from a process of its own that is compiled when it is not there.
 * @throws BuildError without a compiler, Error when the server cannot be reached
 */
export async function runLoad(plan: LoadPlan): Promise<LoadResult> {
  await build(GENERATOR)
  const { warmUpMs, durationMs, graceMs = DEFAULT_GRACE_MS } = plan
  const generator = spawn(GENERATOR.output, {
    timeout: warmUpMs + durationMs + graceMs + PATIENCE_MS,
    killSignal: 'SIGKILL',
  })
  generator.stdin.on('error', () => {}) // it has ended, and says why
  generator.stdin.end(encode(plan))
  const [printed, complaint, [code, signal]] = await Promise.all([
    text(generator.stdout),
    text(generator.stderr),
    once(generator, 'close'),
  ])
  if (code !== 0) throw new Error(complaint.trim() || `the load generator ended with ${code ?? signal}`)
  return resultOf(JSON.parse(printed))
}

interface Printed
  extends Omit<
    LoadResult,
    | 'requestsPerSecond'
    | 'windowsPerSecond'
    | 'answered'
    | 'refused'
    | 'late'
    | 'lag'
    | 'processor'
    | 'firstWrong'
  > {
  readonly answered: Buckets
  readonly refused: Buckets
  readonly late: Buckets
  readonly lag: Buckets
  readonly ownSeconds: number
  readonly serverSeconds: number | null
  readonly serverMainThreadSeconds: number | null
  readonly firstWrong: { readonly request: number; readonly status: number; readonly body: string } | null
}

function resultOf(printed: Printed): LoadResult {
  const {
    answered,
    refused,
    late,
    lag,
    ownSeconds,
    serverSeconds,
    serverMainThreadSeconds,
    firstWrong,
    ...rest
  } = printed
  const { ended, seconds } = rest
  return {
    ...rest,
    requestsPerSecond: ended.right / seconds,
    windowsPerSecond: ended.rightWindows / seconds,
    answered: new Histogram(answered),
    refused: new Histogram(refused),
    late: new Histogram(late),
    lag: new Histogram(lag),
    processor: {
      generator: ownSeconds,
      server: serverSeconds,
      serverMainThread: serverMainThreadSeconds,
    },
    firstWrong: firstWrong && { ...firstWrong, body: Buffer.from(firstWrong.body, 'hex') },
  }
}

/** The plan in the words of generator/plan.cc: a setting a line, bytes as they are behind their count. */
function encode(plan: LoadPlan): Buffer {
  const { target, protocol, loop, requests } = plan
  const parts: (string | Uint8Array)[] = []
  const set = (name: string, ...values: (number | boolean)[]) =>
    parts.push(`${name} ${values.map(Number).join(' ')}\n`)
  const setBytes = (name: string, bytes: Uint8Array) => parts.push(`${name} ${bytes.length}\n`, bytes, '\n')

  if ('port' in target) set('port', target.port)
  else setBytes('path', Buffer.from(target.path))
  set('connections', plan.connections)
  set('warm_up_ms', plan.warmUpMs)
  set('duration_ms', plan.durationMs)
  set('grace_ms', plan.graceMs ?? DEFAULT_GRACE_MS)
  set('server_pid', plan.serverPid ?? 0)
  set('heeds_retry_after', plan.heedRetryAfter ?? false)
  if (loop.kind === 'open') {
    set('rate_per_second', loop.ratePerSecond)
    set('poisson', loop.arrivals === 'poisson')
    set('gives_up', loop.givesUp ?? false)
    set('seed', plan.seed ?? 1)
  }
  if (protocol.kind === 'websocket') {
    const { dialect, upgrade, hello } = protocol
    set('in_flight', plan.inFlight ?? 1)
    set('websocket', ...DIALECT_FIELDS.map(field => dialect[field] ?? -1), patchOffset(requests, dialect))
    setBytes('upgrade', upgrade)
    if (hello !== undefined) setBytes('hello', hello)
  }
  const isHttp = protocol.kind === 'http'
  for (const status of protocol.refusals ?? (isHttp ? [429, 503] : [])) set('refusal', status)
  for (const status of protocol.tooLate ?? (isHttp ? [504] : [])) set('too_late', status)
  for (const { bytes, windows = 1, expected } of requests) {
    const { offset = 0, isPrefix = false } = expected ?? {}
    const wanted = expected?.bytes ?? new Uint8Array(0)
    const mode = expected === undefined ? MODES.anything : isPrefix ? MODES.prefix : MODES.exact
    set('request', windows, bytes.length, mode, offset, wanted.length)
    parts.push(bytes, wanted, '\n')
  }
  for (const index of inTurn(requests.map(({ weight = 1 }) => weight))) set('next', index)
  parts.push('end\n')
  return Buffer.concat(parts.map(part => Buffer.from(part as Uint8Array)))
}

/** As plan.h numbers them. */
const MODES = { anything: 0, exact: 1, prefix: 2 }

/** In the order in which plan.cc reads them. */
const DIALECT_FIELDS = [
  'typeOffset',
  'resultType',
  'errorType',
  'creditType',
  'welcomeType',
  'sequenceOffset',
  'creditsOffset',
  'creditCountOffset',
  'statusOffset',
  'retryAfterOffset',
] as const satisfies (keyof Dialect)[]

/** Where the sequence goes in the frame: the same in all of them, as they have heads of one size. */
function patchOffset(requests: readonly LoadRequest[], { requestSequenceOffset }: Dialect): number {
  if (requestSequenceOffset === undefined) return -1
  const [first, ...others] = requests.map(({ bytes }) => frameHeadBytes(bytes))
  if (others.some(bytes => bytes !== first))
    throw new Error('Cannot patch frames: their heads differ in size')
  return first! + requestSequenceOffset
}

function frameHeadBytes(frame: Uint8Array): number {
  const length = frame[1]! & 0x7f
  return (length === 127 ? 10 : length === 126 ? 4 : 2) + 4
}

/** Indices, each as often as its weight, spread evenly: the one that is owed most is next. */
function inTurn(weights: readonly number[]): number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const owed = weights.map(() => 0)
  return Array.from({ length: total }, () => {
    let next = 0
    for (let index = 0; index < weights.length; index++) {
      owed[index]! += weights[index]!
      if (owed[index]! > owed[next]!) next = index
    }
    owed[next]! -= total
    return next
  })
}
