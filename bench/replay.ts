/**
 * Posts the shipped recording to a running server as a collar would, and says how well and how fast it answers.
 *
 * The load is open loop: a window is due when its last sample has been recorded, whatever the server does, and its
 * latency runs from then until its answer is complete. A server that falls behind cannot slow the collar down.
 */
import { Agent, type IncomingHttpHeaders, type RequestOptions, request } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { CHANNELS, cutWindows, loadRecording, type RecordedWindow, type Segment } from './recording.ts'

const HELP = `Replays the shipped recording against a running server: npm run replay -- [options]

  --url URL          the server (http://127.0.0.1:9000)
  --speed N          times real time; at 1, two windows become due per second (1)
  --connections N    keep-alive connections, one request at a time on each (1)
  --hop N            samples from one window to the next (50)
  --json             JSON both ways (the default)
  --binary           little-endian float32 both ways
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

/** What an answer holds, the latent first. */
const LATENT_LENGTH = 64
const MOTIF_COUNT = 12

/** Bounds every wait for an answer, and gives up idle connections before the server does (after about 10 s). */
const ANSWER_TIMEOUT_MS = 5_000

interface Options {
  url: URL
  speed: number
  connections: number
  hop: number
  binary: boolean
  limit: number
  deadlineMs: number | null
}

/** What became of one window. */
interface Answer {
  /** Index of the highest motif score, null when the window failed. */
  motif: number | null
  /** `200`, or what went wrong: `429 overloaded`, `ECONNRESET`. */
  result: string
  /** Counted from when the window was due. */
  latencyMs: number
  /** X-Inference-Backend and X-Model-Sha256, null when the answer does not say. */
  backend: string | null
  modelSha256: string | null
}

/** A whole HTTP response. */
interface Reply {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
}

/** One per window, at its index; undefined until it has ended. */
type Answers = (Answer | undefined)[]

/** What is read of the server's JSON, unchecked. */
type Json = { [field in 'model' | 'version' | 'mode' | 'error' | 'motif_scores']?: unknown }

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
  const health = await exchange(new URL('healthz', url), { agent }).catch(reasonOf)
  if (typeof health === 'string') {
    console.error(`Cannot reach ${url.href} (${health}): start the server with npm start, or pass --url.`)
    return 1
  }
  const exitCode = await replay(options, parseJson(health.body), agent)
  agent.destroy() // idle connections would keep the process alive
  return exitCode
}

async function replay(options: Options, health: Json, agent: Agent): Promise<number> {
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
  const connection = async () => {
    while (next < windows.length) {
      const index = next++
      const body = encode(windows[index]!.input, options.binary)
      const dueMs = startMs + (index + 1) * intervalMs
      await until(dueMs, () => interrupted)
      if (interrupted) return
      const answer = await ask(body, dueMs, options, agent)
      answers[index] = answer
      line.show(answer)
    }
  }
  await Promise.all(Array.from({ length: options.connections }, connection))

  screen.close()
  console.log(summary(windows, answers, performance.now() - startMs, health))
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

/** Posts one window. Never rejects: whatever goes wrong is the window's result. */
async function ask(
  body: string | Uint8Array,
  dueMs: number,
  { url, binary, deadlineMs }: Options,
  agent: Agent,
): Promise<Answer> {
  const type = binary ? 'application/octet-stream' : 'application/json'
  const headers = {
    'Content-Type': type,
    Accept: type,
    ...(deadlineMs !== null && { 'X-Deadline-Ms': deadlineMs }),
  }
  const post = { method: 'POST', headers, agent }
  const reply = await exchange(new URL('infer', url), post, body).catch(reasonOf)
  const latencyMs = performance.now() - dueMs
  if (typeof reply === 'string')
    return { motif: null, result: reply, latencyMs, backend: null, modelSha256: null }

  const motif = reply.status === 200 ? bestMotif(reply.body, binary) : null
  return {
    motif,
    result: resultOf(reply, motif),
    latencyMs,
    backend: reply.headers['x-inference-backend']?.toString() ?? null,
    modelSha256: reply.headers['x-model-sha256']?.toString() ?? null,
  }
}

function encode(input: Float32Array, binary: boolean): string | Uint8Array {
  if (binary) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength)
  const rows = []
  for (let at = 0; at < input.length; at += CHANNELS) rows.push(Array.from(input.subarray(at, at + CHANNELS)))
  return JSON.stringify({ x: rows })
}

/** Index of the highest motif score, null when the body does not hold twelve. */
function bestMotif(body: Buffer, binary: boolean): number | null {
  const scores = binary ? binaryScores(body) : parseJson(body).motif_scores
  if (!Array.isArray(scores) || scores.length !== MOTIF_COUNT || !scores.every(Number.isFinite)) return null
  return scores.indexOf(Math.max(...scores))
}

function binaryScores(body: Buffer): number[] {
  if (body.length !== (LATENT_LENGTH + MOTIF_COUNT) * 4) return []
  return Array.from({ length: MOTIF_COUNT }, (_, motif) => body.readFloatLE((LATENT_LENGTH + motif) * 4))
}

function resultOf({ status, body }: Reply, motif: number | null): string {
  if (status === 200) return motif === null ? `200 without ${MOTIF_COUNT} motif scores` : '200'
  return `${status} ${parseJson(body).error ?? ''}`.trim()
}

/** Resolves with the whole response; rejects when there is none within ANSWER_TIMEOUT_MS. */
function exchange(url: URL, options: RequestOptions, body?: string | Uint8Array): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { ...options, timeout: ANSWER_TIMEOUT_MS }, incoming => {
      const { statusCode = 0, headers } = incoming
      buffer(incoming).then(body => resolve({ status: statusCode, headers, body }), reject)
    })
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer in ${ANSWER_TIMEOUT_MS} ms`)))
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** Empty when `body` is not a JSON object. */
function parseJson(body: Buffer): Json {
  try {
    const value = JSON.parse(body.toString())
    return typeof value === 'object' && value !== null ? value : {}
  } catch {
    return {}
  }
}

function reasonOf(error: NodeJS.ErrnoException): string {
  return error.code ?? error.message
}

function header(options: Options, health: Json, windowCount: number, intervalMs: number): string {
  const { url, speed, connections, hop, binary } = options
  const { model = 'unknown', version = '?', mode = 'unknown' } = health
  const rate = (1e3 / intervalMs).toFixed(1)
  const legend = Object.entries(LETTERS).map(([motion, letter]) => `${letter} ${motion.replace('_', ' ')}`)
  return `server     ${url.href}
model      ${model} ${version}, mode ${mode}
recording  artifacts/replay.f32, ${windowCount} windows, hop ${hop}
load       speed ${speed} (${rate} windows/s), connections ${connections}, ${binary ? 'binary' : 'JSON'}

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

function summary(windows: RecordedWindow[], answers: Answers, elapsedMs: number, health: Json): string {
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
    `latency    p50 ${p50}   p95 ${p95}   p99 ${p99}   max ${max} ms, due to answered`,
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

/** Nearest rank: the smallest value that at least `percent` % of them do not exceed. Undefined when there are none. */
function percentile(sorted: number[], percent: number): number | undefined {
  return sorted[Math.ceil((percent * sorted.length) / 100) - 1]
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
      limit: { type: 'string' },
      'deadline-ms': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  if (values.json && values.binary) throw new TypeError('Cannot use --json and --binary together: choose one')

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
    binary: values.binary,
    limit: values.limit === undefined ? Infinity : count('limit', values.limit),
    deadlineMs: values['deadline-ms'] === undefined ? null : count('deadline-ms', values['deadline-ms']),
  }
}

process.stdout.on('error', () => process.exit(1)) // whoever read it is gone, as after `| head`
process.exitCode = await main(process.argv.slice(2))
