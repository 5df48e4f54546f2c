import { Agent } from 'node:http'
import { type BulkResult, InferenceClient, InferenceError, StreamClient } from '../../client/index.ts'
import { WINDOW_STATUSES } from '../../src/http/frame.ts'
import { fetchThrough } from '../http.ts'
import type { Histogram } from '../load/histogram.ts'
import { type LoadPlan, type LoadResult, runLoad } from '../load/load.ts'
import { CHANNELS, cutWindows, loadRecording, type Segment } from '../recording.ts'
import { SameResults } from '../same-results.ts'
import { mixed } from '../suites/traffic.ts'
import { Tally } from './round.ts'
import { REFUSALS } from './samples.ts'

/** Of all windows where they are due at a rate; where not, each path takes what it gets. */
const SHARES = { http: 0.6, websocket: 0.2 }
const HTTP_CONNECTIONS = 8
const WEBSOCKETS = 2
const IN_FLIGHT = 8
const WINDOWS_PER_UPLOAD = 256
/** Connections that clients keep through all pauses. */
const POOL = 8
const HOP = 50
/** Of an HTTP answer that is no result. */
const REASONS: Readonly<Record<string, string>> = {
  429: 'overloaded',
  503: 'model_unavailable',
  504: 'deadline_exceeded',
}

const recording = loadRecording()
const windows = cutWindows(recording, HOP).map(({ input }) => input)

export interface Burst {
  readonly durationMs: number
  /** Null: as fast as the server answers. */
  readonly windowsPerSecond: number | null
}

/**
 * Every kind of client that waits for its answers: single windows as JSON, binary and /v2, WebSockets with windows,
 * samples that the server cuts, uploads, and a pool of connections that idles between the bursts.
 */
export class Traffic {
  readonly #port: number
  readonly #plans: { readonly http: Prepared; readonly websocket: Prepared }
  readonly #pool = Array.from({ length: POOL }, () => new Agent({ keepAlive: true, maxSockets: 1 }))
  readonly #uploads = new Agent({ keepAlive: false })
  readonly #same = new SameResults()
  #nextUpload = 0
  #nextSegment = 0

  private constructor(port: number, plans: { http: Prepared; websocket: Prepared }) {
    this.#port = port
    this.#plans = plans
  }

  /** Asks the server what right answers are. */
  static async prepare(port: number): Promise<Traffic> {
    const http = await mixed({ json: 2, binary: 3, oip: 1 }).prepare({ port })
    const websocket = await mixed({ websocket: 1 }).prepare({ port })
    return new Traffic(port, { http, websocket: { ...websocket, inFlight: IN_FLIGHT } })
  }

  /** Resolves when every window has ended. @returns what became of them, and how long single ones took */
  async burst({ durationMs, windowsPerSecond }: Burst): Promise<{ tally: Tally; live: Histogram }> {
    const loop = (path: keyof typeof SHARES): LoadPlan['loop'] =>
      windowsPerSecond === null
        ? { kind: 'closed' }
        : { kind: 'open', ratePerSecond: windowsPerSecond * SHARES[path], arrivals: 'poisson' }
    const common = {
      target: { port: this.#port },
      warmUpMs: 0,
      durationMs,
      graceMs: GRACE_MS,
      heedRetryAfter: true,
    }
    // Ahead of all WebSockets: an upgrade takes the patience from connections that wait for an answer just then.
    const held = await Promise.all(this.#pool.map(agent => this.#post(agent)))
    const { http, websocket } = this.#plans
    const dueWindows = windowsPerSecond === null ? null : (windowsPerSecond * durationMs) / 1000
    const untilMs = performance.now() + durationMs
    const [overHttp, overWebSocket, ...others] = await Promise.all([
      runLoad({ ...common, ...http, connections: HTTP_CONNECTIONS, loop: loop('http') }),
      runLoad({ ...common, ...websocket, connections: WEBSOCKETS, loop: loop('websocket') }),
      ...(dueWindows === null
        ? [
            this.#until(untilMs, () => this.#upload(WINDOWS_PER_UPLOAD)),
            this.#until(untilMs, () => this.#stream()),
          ]
        : [this.#upload(Math.round(dueWindows * (1 - SHARES.http - SHARES.websocket))), this.#stream()]),
    ])
    const tally = tallyOf(overHttp, status => REASONS[status])
    for (const part of [
      tallyOf(overWebSocket, status => WINDOW_STATUSES[Number(status)]),
      ...held,
      ...others,
    ])
      tally.add(part)
    return { tally, live: overHttp.answered.merge(overWebSocket.answered) }
  }

  close(): void {
    for (const agent of this.#pool) agent.destroy()
  }

  async #until(ms: number, once: () => Promise<Tally>): Promise<Tally> {
    const tally = new Tally()
    while (performance.now() < ms) tally.add(await once())
    return tally
  }

  /** A window over a connection that has idled since the last burst. */
  async #post(agent: Agent): Promise<Tally> {
    const tally = new Tally()
    tally.sent = 1
    await this.#client(agent)
      .infer(windows[0]!)
      .then(
        () => void tally.answered++,
        (error: unknown) => failed(tally, error, 1),
      )
    return tally
  }

  async #upload(count: number): Promise<Tally> {
    const tally = new Tally()
    tally.sent = count
    const indices = Array.from({ length: count }, () => this.#nextUpload++ % windows.length)
    let bulk: BulkResult
    try {
      const upload = indices.map(index => windows[index]!)
      bulk = await this.#client(this.#uploads).inferMany(upload, { windowsPerRequest: count })
    } catch (error) {
      failed(tally, error, count)
      return tally
    }
    if (bulk.failedCount === count) tally.refusedTogether = count - 1
    for (const [at, result] of bulk.results.entries()) {
      if ('error' in result) end(tally, result.error)
      else this.#answered(tally, indices[at]!, result)
    }
    return tally
  }

  /** One person's walk as samples, as fast as the answers are read. */
  async #stream(): Promise<Tally> {
    const tally = new Tally()
    const { segments, samples } = recording
    const segment = segments[this.#nextSegment++ % segments.length]!
    const first = firstWindowOf(segment)
    tally.sent = windowsIn(segment)
    let expected = 0
    const client = new StreamClient(`ws://127.0.0.1:${this.#port}/stream`, {
      mode: 'samples',
      hop: HOP,
      onAnswer: answer => {
        if (answer.sequence !== expected++) tally.wrong++
        else if ('error' in answer) end(tally, answer.error)
        else this.#answered(tally, first + answer.sequence, answer)
      },
    })
    client.push(samples.subarray(segment.start * CHANNELS, (segment.start + segment.length) * CHANNELS))
    await client.close()
    tally.lost += Math.max(0, tally.sent - expected)
    return tally
  }

  #answered(tally: Tally, window: number, { latent, motifScores }: Result): void {
    const wrong = this.#same.wrong
    const result = new Float32Array(latent.length + motifScores.length)
    result.set(latent)
    result.set(motifScores, latent.length)
    this.#same.add(window, result)
    if (this.#same.wrong > wrong) tally.wrong++
    else tally.answered++
  }

  #client(agent: Agent): InferenceClient {
    return new InferenceClient(`http://127.0.0.1:${this.#port}`, { fetch: fetchThrough(agent) })
  }
}

type Prepared = Pick<LoadPlan, 'protocol' | 'requests' | 'inFlight'>
type Result = { readonly latent: Float32Array; readonly motifScores: Float32Array }

/** A worker that hangs is noticed after 2 s. */
const GRACE_MS = 5000

/** Each of its requests holds one window. */
function tallyOf({ due, statuses }: LoadResult, reasonOf: (status: string) => string | undefined): Tally {
  const tally = new Tally()
  const { unsent, ...sent } = due
  tally.sent = Object.values(sent).reduce((sum, count) => sum + count, 0)
  tally.answered = due.right
  tally.wrong = due.wrong
  tally.lost = due.lost + due.unanswered
  for (const [status, count] of Object.entries(statuses)) {
    const reason = reasonOf(status)
    if (isRefusal(reason)) tally.refuse(reason, count)
  }
  // Statuses that are neither a result nor a refusal.
  tally.lost += tally.sent - tally.answered - tally.wrong - tally.lost - tally.refusedCount
  return tally
}

function failed(tally: Tally, error: unknown, count: number): void {
  if (!(error instanceof InferenceError)) throw error
  end(tally, error.code, count)
}

/** Windows without a result. */
function end(tally: Tally, reason: string, count = 1): void {
  if (isRefusal(reason)) tally.refuse(reason, count)
  else tally.lost += count
}

function isRefusal(reason: string | undefined): reason is string {
  return REFUSALS.some(refusal => refusal === reason)
}

function windowsIn({ length }: Segment): number {
  return Math.floor((length - 100) / HOP) + 1
}

/** Where those of the segment begin among all. */
function firstWindowOf(segment: Segment): number {
  const { segments } = recording
  return segments.slice(0, segments.indexOf(segment)).reduce((sum, before) => sum + windowsIn(before), 0)
}
