/**
 * Posts the shipped recording to a running server as a collar would, and says how well and how fast it answers.
 *
 * The load is open loop: a window is due when its last sample has been recorded, whatever the server does, and its
 * latency runs from then until its answer is complete. A server that falls behind cannot slow the collar down.
 */
import { Agent } from 'node:http'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import {
  type Health,
  type Inference,
  InferenceClient,
  InferenceError,
  StreamClient,
} from '../client/index.ts'
import { fetchThrough } from './http.ts'
import { percentile } from './latencies.ts'
import { cutWindows, loadRecording, type RecordedWindow, type Segment } from './recording.ts'

const HELP = `Replays the shipped recording against a running server: npm run replay -- [options]

  --url URL          the server (http://127.0.0.1:9000)
  --speed N          times real time; at 1, two windows become due per second (1)
  --connections N    connections, over HTTP with one request at a time on each (1)
  --hop N            samples from one window to the next (50)
  --json             JSON both ways (the default)
  --binary           little-endian float32 both ways
  --stream           over WebSockets: a window is sent when it is due, whether or not the last one is answered
  --bulk N           N windows per request, as fast as the server takes them, whatever the speed
  --limit N          stop after N windows
  --deadline-ms N    the deadline that each window asks for, as X-Deadline-Ms
  --help             this text

Exit code: 0 every window was answered 200, 1 not so, 2 bad option, 130 interrupted.`

/** The timeline's letter for each motion. A motif is a motion on a device: `phone_walking`. */
const LETTERS: Record<string, string> = {
  seated: 'a',
  standing_up: 'u',
  walking: 'w',
  turning_left: 'l',
  turning_right: 'r',
  sitting_down: 'd',
}

/** Motif scores in an answer, as many as the recording has motifs. */
const MOTIF_COUNT = 12

/** Bounds every wait for an answer, and gives up idle connections before the server does (after about 10 s). */
const ANSWER_TIMEOUT_MS = 5_000

interface Options {
  url: URL
  speed: number
  connections: number
  hop: number
  encoding: 'JSON' | 'binary' | 'WebSocket'
  /** Windows per request; null for one request when a window is due. */
  bulk: number | null
  limit: number
  deadlineMs: number | null
}

/** What became of one window. */
interface Answer {
  /** Index of the highest motif score, null when the window failed. */
  motif: number | null
  /** `200`, or what went wrong: `429 overloaded`, `ECONNRESET`. */
  result: string
  /** Counted from when the window was due; in bulk, from when its request was sent. */
  latencyMs: number
  /** X-Inference-Backend and X-Model-Sha256, null when the answer does not say. */
  backend: string | null
  modelSha256: string | null
}

type Result = Pick<Inference, 'motifScores' | 'backend' | 'modelSha256'>

/** What a window's result is called when its answer holds none. */
const NO_SCORES = `200 without ${MOTIF_COUNT} motif scores`

/** One per window, at its index; undefined until it has ended. */
type Answers = (Answer | undefined)[]

async function main(args: string[]): Promise<number> {
  let options: Options | 'help'
  try {
    options = parseOptions(args)
  } catch (error) {
    console.error(`${(error as Error).message}\nAll options: npm run replay -- --help`)
    return 2
  }
  if (options === 'help') {
    console.log(HELP)
    return 0
  }

  const { url, connections } = options
  const agent = new Agent({ keepAlive: true, maxSockets: connections, timeout: ANSWER_TIMEOUT_MS })
  const client = new InferenceClient(url, {
    json: options.encoding === 'JSON',
    timeoutMs: ANSWER_TIMEOUT_MS,
    fetch: fetchThrough(agent),
    ...(options.deadlineMs !== null && { deadlineMs: options.deadlineMs }),
  })
  let health: Partial<Health>
  try {
    health = await client.health()
  } catch (error) {
    if ((error as InferenceError).code === 'disconnected') {
      const reason = reasonOf(error as InferenceError)
      console.error(`Cannot reach ${url.href} (${reason}): start the server with npm start, or pass --url.`)
      return 1
    }
    health = {} // whatever answers there may answer windows too
  }
  const exitCode = await replay(options, health, client)
  agent.destroy() // idle connections would keep the process alive
  return exitCode
}

async function replay(options: Options, health: Partial<Health>, client: InferenceClient): Promise<number> {
  const recording = loadRecording()
  const windows = cutWindows(recording, options.hop).slice(0, options.limit)
  const intervalMs = ((options.hop / recording.sampleRateHz) * 1e3) / options.speed
  console.log(header(options, health, windows.length, intervalMs))

  let interrupted = false
  // Not once(): npm forwards the SIGINT that the terminal has sent us already, and the second would kill us.
  process.on('SIGINT', () => {
    interrupted = true
  })

  const answers: Answers = windows.map(() => undefined)
  const startMs = performance.now()
  const screen = openScreen(() => {
    return `${line.current()}   ${progress(answers, performance.now() - startMs)}`
  })
  const line = timeline(windows, answers, recording.motifs, screen.print)
  let next = 0
  const record = (index: number, answer: Answer) => {
    answers[index] = answer
    line.show(answer)
  }
  /** Hands out windows as they become due. */
  const eachDue = async (send: (index: number, dueMs: number) => Promise<void> | undefined) => {
    while (next < windows.length) {
      const index = next++
      const dueMs = startMs + (index + 1) * intervalMs
      await until(dueMs, () => interrupted)
      if (interrupted) return
      await send(index, dueMs)
    }
  }
  const connections = {
    async http() {
      await eachDue(async (index, dueMs) => {
        record(index, await answerOf(client.infer(windows[index]!.input), dueMs))
      })
    },
    async stream() {
      const stream = new StreamClient(streamUrl(options.url))
      const asked: Promise<void>[] = []
      await eachDue((index, dueMs) => {
        const deadline = options.deadlineMs === null ? {} : { deadlineMs: options.deadlineMs }
        const answer = answerOf(stream.send(windows[index]!.input, deadline), dueMs)
        asked.push(answer.then(answer => record(index, answer)))
        return undefined // the next one does not wait
      })
      await Promise.all(asked)
      await stream.close()
    },
    async bulk() {
      const windowsPerRequest = options.bulk!
      while (next < windows.length && !interrupted) {
        const first = next
        next += windowsPerRequest
        const batch = windows.slice(first, next).map(({ input }) => input)
        const sentMs = performance.now()
        const { results } = await client
          .inferMany(batch, { windowsPerRequest })
          .catch(error => ({ results: batch.map(() => ({ error: reasonOf(error) })) }))
        const latencyMs = performance.now() - sentMs
        results.forEach((result, index) => record(first + index, answerFrom(result, latencyMs)))
      }
    },
  }
  const connection =
    options.bulk !== null
      ? connections.bulk
      : options.encoding === 'WebSocket'
        ? connections.stream
        : connections.http
  await Promise.all(Array.from({ length: options.connections }, connection))

  screen.close()
  console.log(summary(windows, answers, performance.now() - startMs, { health, bulk: options.bulk !== null }))
  if (interrupted) return 130
  return answers.every(answer => answer?.result === '200') ? 0 : 1
}

/** Returns when `dueMs` has come, or at most 100 ms after `stopped` turns true. */
async function until(dueMs: number, stopped: () => boolean): Promise<void> {
  while (!stopped()) {
    const leftMs = dueMs - performance.now()
    if (leftMs <= 0) return
    // A timer may be a millisecond late, more than a whole answer takes: spend the last ones turning the event loop.
    if (leftMs > 2) await setTimeout(Math.min(leftMs - 2, 100))
    else await setImmediate()
  }
}

/** Never rejects: whatever goes wrong is the window's result. */
async function answerOf(inference: Promise<Result>, dueMs: number): Promise<Answer> {
  const result = await inference.catch(error => ({ error: reasonOf(error) }))
  return answerFrom(result, performance.now() - dueMs)
}

function answerFrom(result: Result | { error: string }, latencyMs: number): Answer {
  if ('error' in result) {
    return { motif: null, result: result.error, latencyMs, backend: null, modelSha256: null }
  }
  const { motifScores, backend, modelSha256 } = result
  if (motifScores.length !== MOTIF_COUNT) {
    return { motif: null, result: NO_SCORES, latencyMs, backend, modelSha256 }
  }
  const motif = motifScores.indexOf(Math.max(...motifScores))
  return { motif, result: '200', latencyMs, backend, modelSha256 }
}

/** `429 overloaded`, `ECONNRESET`, `no answer from …` */
function reasonOf(error: unknown): string {
  if (!(error instanceof InferenceError)) throw error
  const { code, status, detail, cause } = error
  if (code === 'disconnected') return (cause as NodeJS.ErrnoException | undefined)?.code ?? detail
  if (code === 'bad_answer') return status === 200 ? NO_SCORES : String(status ?? code)
  return `${status ?? ''} ${code}`.trim()
}

function streamUrl(url: URL): URL {
  const stream = new URL('stream', url)
  stream.protocol = 'ws:'
  return stream
}

function header(options: Options, health: Partial<Health>, windowCount: number, intervalMs: number): string {
  const { url, speed, connections, hop, encoding, bulk } = options
  const { model = 'unknown', version = '?', mode = 'unknown' } = health
  const rate = (1e3 / intervalMs).toFixed(1)
  const pace = bulk === null ? `speed ${speed} (${rate} windows/s)` : `bulk ${bulk} (windows per request)`
  const legend = Object.entries(LETTERS).map(([motion, letter]) => `${letter} ${motion.replace('_', ' ')}`)
  return `server     ${url.href}
model      ${model} ${version}, mode ${mode}
recording  artifacts/replay.f32, ${windowCount} windows, hop ${hop}
load       ${pace}, connections ${connections}, ${encoding}

${legend.join('   ')}
upper case: predicted on the wrong device   !: failed
`
}

/**
 * Prints each segment in its turn, once its answers are all in, and who answers, first and on every change.
 * `current` is the segment that is being answered, as far as it is.
 */
function timeline(
  windows: RecordedWindow[],
  answers: Answers,
  motifs: string[],
  print: (text: string) => void,
): { show(answer: Answer): void; current(): string } {
  const ends = windows.flatMap(({ segment }, index) =>
    windows[index + 1]?.segment === segment ? [] : index + 1,
  )
  let start = 0 // of the first segment not printed yet
  let source = ''
  const letters = (end: number) => {
    const { device } = windows[start]!.segment
    const letter = (motif: number | null) => (motif === null ? '!' : letterOf(motifs[motif]!, device))
    return {
      truth: windows.slice(start, end).map(({ motif }) => letter(motif)),
      predicted: answers.slice(start, end).map(answer => (answer === undefined ? ' ' : letter(answer.motif))),
    }
  }
  const current = () => {
    if (ends.length === 0) return ''
    const { execution, device } = windows[start]!.segment
    return `${execution} ${device}  now        ${letters(ends[0]!).predicted.join('')}`
  }
  const show = ({ backend, modelSha256 }: Answer) => {
    const answering = `backend ${backend}, model sha256 ${modelSha256 ?? 'unknown'}`
    if (backend !== null && answering !== source) {
      source = answering
      print(`answers come from ${source}\n`)
    }
    while (ends.length > 0 && !answers.slice(start, ends[0]).includes(undefined)) {
      const end = ends.shift()!
      const { execution, device } = windows[start]!.segment
      const { truth, predicted } = letters(end)
      const here = accuracy(windows.slice(start, end), answers.slice(start, end))
      const soFar = accuracy(windows.slice(0, end), answers)
      print(`${execution} ${device}  true       ${truth.join('')}`)
      print(`              predicted  ${predicted.join('')}  ${here}, so far ${soFar}`)
      start = end
    }
  }
  return { show, current }
}

/** On a phone's timeline `phone_walking` is w and `watch_walking` is W. */
function letterOf(motif: string, device: Segment['device']): string {
  const letter = LETTERS[motif.replace(/^(phone|watch)_/, '')] ?? '?'
  return motif.startsWith(device) ? letter : letter.toUpperCase()
}

function progress(answers: Answers, elapsedMs: number): string {
  const ended = answers.filter(answer => answer !== undefined)
  const failed = ended.filter(({ result }) => result !== '200')
  const percent = Math.floor((ended.length / answers.length) * 100)
  return `${percent} %   ${perSecond(ended.length, elapsedMs)} windows/s   failed ${failed.length}`
}

function summary(
  windows: RecordedWindow[],
  answers: Answers,
  elapsedMs: number,
  { health, bulk }: { health: Partial<Health>; bulk: boolean },
): string {
  const ended = answers.filter(answer => answer !== undefined)
  const good = ended.filter(({ result }) => result === '200')
  const latencies = good.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b)
  const [p50, p95, p99, max] = [50, 95, 99, 100].map(
    percent => percentile(latencies, percent)?.toFixed(2) ?? '-',
  )
  const failures = new Map<string, number>()
  for (const { result } of ended) if (result !== '200') failures.set(result, (failures.get(result) ?? 0) + 1)

  const lines = [
    '',
    `accuracy   ${accuracy(windows, answers)}`,
    `windows/s  ${perSecond(good.length, elapsedMs)}`,
    `latency    p50 ${p50}   p95 ${p95}   p99 ${p99}   max ${max} ms, ${bulk ? 'sent' : 'due'} to answered`,
  ]
  if (failures.size > 0)
    lines.push(`failed     ${[...failures].map(([result, count]) => `${count} × ${result}`).join(', ')}`)
  if (ended.length < windows.length)
    lines.push(`stopped    after ${ended.length} of ${windows.length} windows`)
  if (health.mode === 'stub' || good.some(({ backend }) => backend === 'stub'))
    lines.push('', 'The stub answered: it runs no model, so this accuracy means nothing.')
  return lines.join('\n')
}

/** Right answers among those that came; a failed window is neither right nor wrong. */
function accuracy(windows: RecordedWindow[], answers: Answers): string {
  const predicted = windows.map((_, index) => answers[index]?.motif ?? null)
  const answered = predicted.filter(motif => motif !== null).length
  const right = windows.filter(({ motif }, index) => motif === predicted[index]).length
  return answered === 0 ? 'unknown' : `${(right / answered).toFixed(4)} (${right} of ${answered})`
}

function perSecond(count: number, elapsedMs: number): string {
  return ((count / elapsedMs) * 1e3).toFixed(1)
}

/** Standard output with a progress line at its foot: redrawn on a terminal, repeated every 5 s elsewhere. */
function openScreen(progressLine: () => string) {
  const terminal = process.stdout.isTTY
  const erase = terminal ? '\r\x1b[K' : ''
  const draw = () => process.stdout.write(terminal ? erase + progressLine() : `${progressLine()}\n`)
  const timer = setInterval(draw, terminal ? 100 : 5_000)
  return {
    print: (text: string) => process.stdout.write(`${erase}${text}\n`),
    close() {
      clearInterval(timer)
      process.stdout.write(erase)
    },
  }
}

/** @throws when an option is unknown or its value makes no sense. */
function parseOptions(args: string[]): Options | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      url: { type: 'string', default: 'http://127.0.0.1:9000' },
      speed: { type: 'string', default: '1' },
      connections: { type: 'string', default: '1' },
      hop: { type: 'string', default: '50' },
      json: { type: 'boolean', default: false },
      binary: { type: 'boolean', default: false },
      stream: { type: 'boolean', default: false },
      bulk: { type: 'string' },
      limit: { type: 'string' },
      'deadline-ms': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  const ways = (['json', 'binary', 'stream', 'bulk'] as const).filter(way => values[way])
  if (ways.length > 1) {
    throw new TypeError(`Cannot use ${ways.map(way => `--${way}`).join(' and ')} together: choose one`)
  }
  if (values.stream && !('WebSocket' in globalThis)) {
    throw new TypeError('Cannot use --stream: this Node.js has no WebSocket without --experimental-websocket')
  }

  const bad = (name: string, value: string, expected: string) =>
    new TypeError(`Cannot parse --${name} ${value}: expected ${expected}`)
  const count = (name: string, value: string) => {
    if (!/^[1-9]\d{0,8}$/.test(value)) throw bad(name, value, 'a whole number from 1')
    return Number(value)
  }
  const speed = Number(values.speed)
  if (!(speed > 0 && speed < Infinity)) throw bad('speed', values.speed, 'a number above 0')
  // A base URL must end in a slash, or its last folder is lost when `infer` is resolved against it.
  const base = values.url.endsWith('/') ? values.url : `${values.url}/`
  if (!URL.canParse(base) || new URL(base).protocol !== 'http:')
    throw bad('url', values.url, 'http://host:port')
  return {
    url: new URL(base),
    speed,
    connections: count('connections', values.connections),
    hop: count('hop', values.hop),
    encoding: values.stream ? 'WebSocket' : values.binary || values.bulk ? 'binary' : 'JSON',
    bulk: values.bulk === undefined ? null : count('bulk', values.bulk),
    limit: values.limit === undefined ? Infinity : count('limit', values.limit),
    deadlineMs: values['deadline-ms'] === undefined ? null : count('deadline-ms', values['deadline-ms']),
  }
}

process.stdout.on('error', () => process.exit(1)) // whoever read it is gone, as after `| head`
process.exitCode = await main(process.argv.slice(2))
