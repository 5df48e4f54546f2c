/** Asks two servers the same windows, one after the other, and says how alike they answer. */
import { Agent } from 'node:http'
import { parseArgs } from 'node:util'
import { type Inference, InferenceClient, InferenceError } from '../client/index.ts'
import { fetchThrough } from './http.ts'
import { percentile } from './latencies.ts'
import { cutWindows, loadRecording } from './recording.ts'

const HELP = `Asks two servers the same windows of the recording, and compares their answers: npm run compare -- [options] A B

  A, B           servers, as http://127.0.0.1:9000
  --windows N    how many, spread over the recording (100)
  --help         this text

As JSON, each window to A and then to B. Each server is asked the first window twice: one that answers differently then
makes its answers up. Exit code: 0 both answered every window 200, 1 not so, 2 wrong usage.`

const ANSWER_TIMEOUT_MS = 5_000
/** No answer is to be refused because it would come late: how they answer is asked, and not how fast. */
const DEADLINE_MS = 1_000

interface Options {
  readonly urls: readonly [URL, URL]
  readonly count: number
}

/** One of the two, and what it has answered. */
interface Side {
  readonly url: URL
  readonly client: InferenceClient
  /** One per window; words where there is no result. */
  readonly answers: (Inference | string)[]
  /** Of the first window, asked again at the end. */
  again: Inference | string
  readonly latenciesMs: number[]
}

async function main(args: string[]): Promise<number> {
  let options: Options | 'help'
  try {
    options = parseOptions(args)
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`)
    return 2
  }
  if (options === 'help') {
    console.log(HELP)
    return 0
  }

  const recorded = cutWindows(loadRecording(), 50)
  const count = Math.min(options.count, recorded.length)
  const windows = Array.from(
    { length: count },
    (_, index) => recorded[Math.floor((index * recorded.length) / count)]!.input,
  )
  const agent = new Agent({ keepAlive: true, maxSockets: 1, timeout: ANSWER_TIMEOUT_MS })
  const sides = options.urls.map(url => sideOf(url, agent)) as [Side, Side]
  for (const window of windows) {
    for (const side of sides) {
      const startMs = performance.now()
      side.answers.push(await ask(side, window))
      side.latenciesMs.push(performance.now() - startMs)
    }
  }
  for (const side of sides) side.again = await ask(side, windows[0]!)
  agent.destroy()

  console.log(sides.map(aboutSide).join('\n'))
  console.log(`\n${aboutBoth(sides)}`)
  return sides.every(({ answers }) => answers.every(isResult)) ? 0 : 1
}

/** @throws TypeError, also where a URL is none */
function parseOptions(args: string[]): Options | 'help' {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { windows: { type: 'string', default: '100' }, help: { type: 'boolean', default: false } },
  })
  if (values.help) return 'help'
  const [a, b, ...others] = positionals
  if (a === undefined || b === undefined || others.length > 0) throw new TypeError('Name two servers')
  if (!/^[1-9]\d*$/.test(values.windows)) {
    throw new TypeError(`--windows: ${values.windows} is not valid, expected a whole number from 1`)
  }
  return { urls: [new URL(a), new URL(b)], count: Number(values.windows) }
}

function sideOf(url: URL, agent: Agent): Side {
  const client = new InferenceClient(url, {
    json: true,
    timeoutMs: ANSWER_TIMEOUT_MS,
    deadlineMs: DEADLINE_MS,
    fetch: fetchThrough(agent),
  })
  return { url, client, answers: [], again: '', latenciesMs: [] }
}

/** Never rejects: what went wrong is the answer. */
function ask({ client }: Side, window: Float32Array): Promise<Inference | string> {
  return client.infer(window).catch((error: Error) => {
    if (!(error instanceof InferenceError)) throw error
    return `${error.status ?? ''} ${error.code}`.trim()
  })
}

function isResult(answer: Inference | string): answer is Inference {
  return typeof answer !== 'string'
}

/** `http://127.0.0.1:9000  100 of 100 answered, p50 2.1 ms, p95 3.0 ms` */
function aboutSide({ url, answers, again, latenciesMs }: Side): string {
  const sorted = latenciesMs.toSorted((a, b) => a - b)
  const [p50, p95] = [50, 95].map(percent => percentile(sorted, percent)!.toFixed(1))
  const failures = [...new Set(answers.filter(answer => !isResult(answer)))]
  const [first] = answers
  const differs = isResult(first!) && isResult(again) && cosineOf(first.latent, again.latent) < 0.999
  return [
    `${url.origin}  ${answers.filter(isResult).length} of ${answers.length} answered, p50 ${p50} ms, p95 ${p95} ms`,
    ...(failures.length > 0 ? [`  failed: ${failures.join(', ')}`] : []),
    ...(differs ? ['  the same window got another answer: it makes them up'] : []),
  ].join('\n')
}

function aboutBoth([a, b]: readonly [Side, Side]): string {
  const pairs = a.answers.flatMap((before, index) => {
    const after = b.answers[index]!
    return isResult(before) && isResult(after) ? [[before, after] as const] : []
  })
  if (pairs.length === 0) return 'No window was answered by both'
  const cosines = pairs.map(([before, after]) => cosineOf(before.latent, after.latent)).sort((a, b) => a - b)
  const alike = pairs.filter(([before, after]) => topOf(before.motifScores) === topOf(after.motifScores))
  return [
    `cosine of the latents  ${cosines[0]!.toFixed(4)} at least, ${percentile(cosines, 50)!.toFixed(4)} in the middle`,
    `the same top motif     ${alike.length} of ${pairs.length}`,
  ].join('\n')
}

function cosineOf(a: Float32Array, b: Float32Array): number {
  const dot = a.reduce((sum, value, index) => sum + value * b[index]!, 0)
  return dot / (Math.hypot(...a) * Math.hypot(...b))
}

function topOf(scores: Float32Array): number {
  return scores.indexOf(Math.max(...scores))
}

process.exitCode = await main(process.argv.slice(2))
