import { monotonicMs } from '../clock.ts'
import type { Outcome } from '../core/outcome.ts'
import type { Slot } from '../core/slot.ts'
import type { BulkSource } from '../engine/bulk-lane.ts'
import { type Origin, type RefusalCode, type Trace, windowOf } from '../engine/observer.ts'
import type { InFlight, Stream, Waiter } from '../engine/stream.ts'
import {
  type InferenceContext,
  lostFailure,
  type Provenance,
  provenanceOfAll,
  serverTiming,
} from './exchange.ts'
import { WINDOW_STATUSES, type WindowStatus } from './frame.ts'
import { rateLimitedDetail } from './rate-limit.ts'
import { type Answer, type ErrorCode, encodeResult, type Failure, type LongBody } from './reply.ts'
import type { WindowReader } from './window-readers.ts'

/** An upload must bring so much in so long: uWebSockets closes slower ones after 8 to 12 s, without a word. */
const PACE_MS = 7000
const PACE_BYTES = (PACE_MS / 1000) * 16 * 1024
const LOOK_INTERVAL_MS = 500
/** What a row of a window without a result holds, over and over: a quiet NaN that carries the window's status. */
const QUIET_NAN = 0x7fc00000

/** What another try may mend. */
const COMES_BACK: ReadonlySet<Status> = new Set([
  'overloaded',
  'rate_limited',
  'model_unavailable',
  'draining',
])

type Status = Extract<WindowStatus, ErrorCode>
/** Why no further window of an upload is tried. */
type GivenUp = { readonly status: RefusalCode | 'deadline_exceeded'; readonly detail: string }

/** Who takes the answer of an upload: its HTTP exchange. */
export interface UploadOwner {
  readonly origin: Origin
  /** The deadline that the client asked for, monotonic ms; Infinity when it named none. */
  readonly deadlineMs: number
  /** Windows that the body will bring, as far as its head told; else 0. */
  readonly expected: number
  readonly limitBytes: number
  /** What the body is expected to have. */
  readonly bytes: number
  /** Stops reading the body, or goes on; the sender feels it through TCP. */
  pause(): void
  resume(): void
  /** Takes a window from the client's rate. @returns 0, or the ms after which it can be tried again: it is refused */
  take(index: number): number
  answer(answer: Answer): void
  /** No more windows are read. @param count that came */
  ended(count: number): void
  /** @param counted the windows that it is about have been counted as failures already */
  fail(failure: Failure, counted: boolean): void
}

/**
 * Many windows in one request. They go from the body into slots as they arrive and as the bulk lane has
 * room; what has no room yet stays with the sender. A bad or shed window spoils no other.
 */
export class BulkUpload implements BulkSource {
  readonly #owner: UploadOwner
  readonly #reader: WindowReader
  readonly #results: Results
  /** What gave the results, one for each model. */
  readonly #sources = new Set<Provenance>()
  readonly #context: InferenceContext
  /** All that it has had in flight at once; they are used again. */
  readonly #windows: BulkWindow[] = []
  /** Those that are not in flight. */
  readonly #idle: BulkWindow[] = []
  /** Windows that came. */
  #count = 0
  #received = 0
  #firstFailure: { status: Status; detail: string } | null = null
  /** Nothing more will come, or be waited for. */
  #complete = false
  #paused = false
  #over = false
  /** Why no further window is tried. */
  #givenUp: GivenUp | null = null
  readonly #deadline: NodeJS.Timeout | undefined
  readonly #look: NodeJS.Timeout
  /** Since when the sender has been measured, and what had come by then. */
  #paceMs = monotonicMs()
  #paceBytes = 0
  /** When a window last found room. */
  #submittedMs = monotonicMs()

  constructor(owner: UploadOwner, reader: WindowReader, results: Results, context: InferenceContext) {
    this.#owner = owner
    this.#reader = reader
    this.#results = results
    this.#context = context
    context.uploads.add(this)
    if (owner.deadlineMs < Number.POSITIVE_INFINITY) {
      const leftMs = Math.max(1, owner.deadlineMs - monotonicMs())
      this.#deadline = setTimeout(() => this.#giveUp('deadline_exceeded', 'The deadline has passed'), leftMs)
    }
    this.#look = setInterval(() => this.#lookAfter(), LOOK_INTERVAL_MS)
  }

  get bytes(): number {
    return this.#owner.bytes
  }

  /** @param part for the length of the call only */
  onPart(part: Uint8Array, isLast: boolean): void {
    if (this.#over) return
    if (!this.#reader.hasNext()) this.#submittedMs = monotonicMs()
    this.#complete = isLast
    this.#received += part.length
    if (this.#received > this.#owner.limitBytes) {
      const { maxWindowsPerRequest } = this.#context
      return this.#failWhole(tooManyWindows(maxWindowsPerRequest))
    }
    this.#reader.push(part)
    if (this.#givenUp !== null) this.#failReady()
    else if (this.#reader.hasNext()) this.#context.engine.bulk.offer(this)
    this.#reader.keep()
    this.#goOn()
  }

  submitNext(stream: Stream, nowMs: number): boolean {
    const { engine, maxDeadlineMs } = this.#context
    if (engine.draining) this.drain()
    else if (engine.unloaded) this.#giveUp('model_unavailable', 'The model was unloaded')
    if (this.#over || this.#givenUp !== null || !this.#reader.hasNext()) {
      this.#goOn()
      return false
    }
    if (this.#isTooMany()) return false
    const index = this.#count++
    const waitMs = this.#owner.take(index)
    const fault = waitMs > 0 ? null : this.#reader.takeInto(stream.ring.nextSlot!)
    if (waitMs > 0) {
      this.#reader.skip()
      this.#fail(index, 'rate_limited', rateLimitedDetail(waitMs))
    } else if (fault === null) {
      const deadlineMs = Math.min(this.#owner.deadlineMs, nowMs + maxDeadlineMs)
      const window = this.#idle.pop() ?? this.#anotherWindow()
      window.sequence = index
      window.arrivedMs = nowMs
      window.inFlight = engine.submit(stream, { arrivedMs: nowMs, deadlineMs }, window)
      this.#submittedMs = nowMs
    } else this.#fail(index, 'invalid_window', fault)
    if (this.#reader.hasNext()) return true
    this.#goOn()
    return false
  }

  settled(window: BulkWindow, outcome: Outcome, slot: Slot): void {
    if (this.#over) return
    const { sequence: index } = window
    window.inFlight = null
    this.#idle.push(window)
    if (outcome === 'ok') {
      this.#sources.add(this.#context.provenance.of(slot))
      this.#results.ok(index, slot)
    } else {
      const late = 'There was no result within the deadline'
      this.#fail(index, outcome, outcome === 'deadline_exceeded' ? late : lostFailure().detail)
    }
    this.#goOn()
  }

  /** The server shuts down: what is in flight is answered, and nothing more is waited for. */
  drain(): void {
    if (this.#over) return
    this.#givenUp ??= { status: 'draining', detail: 'The server is shutting down' }
    this.#context.engine.bulk.withdraw(this)
    this.#failReady()
    if (!this.#complete) while (this.#count < this.#owner.expected) this.#failNext()
    this.#complete = true
    this.#goOn()
  }

  /** The client is gone: nobody waits for its windows. */
  cancel(): void {
    this.#end()
  }

  #anotherWindow(): BulkWindow {
    const window = new BulkWindow(this, this.#owner.origin)
    this.#windows.push(window)
    return window
  }

  /** Reads on when all that has come has been taken, and answers when all has ended. */
  #goOn(): void {
    if (this.#over) return
    if (this.#reader.hasNext()) return this.#setPaused(!this.#complete)
    this.#setPaused(false)
    if (this.#reader.fault !== null) return this.#failWhole(this.#reader.fault)
    if (!this.#complete) return
    if (this.#givenUp === null) this.#reader.end()
    if (this.#reader.fault !== null) this.#failWhole(this.#reader.fault)
    else if (this.#idle.length === this.#windows.length) this.#answer()
  }

  #setPaused(paused: boolean): void {
    if (paused === this.#paused) return
    this.#paused = paused
    if (paused) return this.#owner.pause()
    this.#paceMs = monotonicMs()
    this.#paceBytes = this.#received
    this.#owner.resume()
  }

  /** Gives up what finds no room, and a sender that is too slow. */
  #lookAfter(): void {
    const { engine, maxDeadlineMs } = this.#context
    const nowMs = monotonicMs()
    if (this.#complete || this.#reader.hasNext()) this.#keepOpen()
    if (this.#reader.hasNext()) {
      if (nowMs - this.#submittedMs < maxDeadlineMs) return
      const status = engine.available ? 'overloaded' : 'model_unavailable'
      return this.#giveUp(status, `No window found room for ${maxDeadlineMs} ms`)
    }
    if (this.#complete || nowMs - this.#paceMs < PACE_MS) return
    const bytes = this.#received - this.#paceBytes
    if (bytes < PACE_BYTES) {
      const detail = `The body brought ${bytes} bytes in ${PACE_MS} ms, expected ${PACE_BYTES} or more`
      return this.#failWhole({ code: 'deadline_exceeded', detail })
    }
    this.#paceMs = nowMs
    this.#paceBytes = this.#received
  }

  /**
   * The sender waits for us, and uWebSockets would close its connection as one that brings nothing, also when its body is
   * all there: resume() starts that timeout, and starts it anew.
   */
  #keepOpen(): void {
    this.#owner.pause()
    this.#owner.resume()
    if (this.#paused) this.#owner.pause()
  }

  /** From here on windows fail without being tried; those in flight end as they do. */
  #giveUp(status: GivenUp['status'], detail: string): void {
    if (this.#over) return
    this.#givenUp ??= { status, detail }
    this.#context.engine.bulk.withdraw(this)
    this.#failReady()
    this.#goOn()
  }

  #failReady(): void {
    while (!this.#over && this.#reader.hasNext() && !this.#isTooMany()) {
      this.#reader.skip()
      this.#failNext()
    }
  }

  #failNext(): void {
    const { status, detail } = this.#givenUp!
    if (status !== 'deadline_exceeded') this.#context.engine.shed(status)
    this.#fail(this.#count++, status, detail)
  }

  #isTooMany(): boolean {
    const { maxWindowsPerRequest } = this.#context
    if (this.#count < maxWindowsPerRequest) return false
    this.#failWhole(tooManyWindows(maxWindowsPerRequest))
    return true
  }

  #fail(index: number, status: Status, detail: string): void {
    this.#firstFailure ??= { status, detail }
    this.#context.witness.windowFailed(status, windowOf(this.#owner.origin, index))
    this.#results.failed(index, status, detail)
  }

  /** No part of it is answered. */
  #failWhole(failure: Failure): void {
    this.#end()
    this.#owner.fail(failure, false)
  }

  #answer(): void {
    const results = this.#results
    if (this.#count === 0) {
      const detail = 'Cannot read windows: there are none, expected one or more'
      return this.#failWhole(
        this.#givenUp === null ? { code: 'invalid_window', detail } : this.#failureOf(this.#givenUp),
      )
    }
    this.#end()
    if (results.failures === this.#count) {
      const { status, detail } = this.#firstFailure!
      const none = `None of ${this.#count} windows has a result. The first: ${detail}`
      return this.#owner.fail(this.#failureOf({ status, detail: none }), true)
    }
    const headers = {
      ...provenanceOfAll(this.#sources),
      'Content-Type': results.contentType,
      'X-Windows-Failed': String(results.failures),
      'Server-Timing': serverTiming(results.meanQueueMs, results.meanInferMs),
    }
    this.#owner.answer({ status: 200, headers, body: results.body(this.#count) })
  }

  #failureOf({ status, detail }: { status: Status; detail: string }): Failure {
    return { code: status, detail, headers: COMES_BACK.has(status) ? { 'Retry-After': '1' } : {} }
  }

  #end(): void {
    if (!this.#over) this.#owner.ended(this.#count)
    this.#over = true
    this.#context.uploads.delete(this)
    clearTimeout(this.#deadline)
    clearInterval(this.#look)
    this.#context.engine.bulk.withdraw(this)
    for (const { inFlight } of this.#windows) inFlight?.cancel()
    this.#reader.close()
    // What still comes of the body is read and thrown away: a client hears an answer only after it has sent all.
    this.#setPaused(false)
  }
}

class BulkWindow implements Waiter, Origin {
  readonly endpoint: string
  readonly requestId: string
  readonly trace: Trace | null
  readonly stream = 0
  /** Its place in the upload. */
  sequence = 0
  /** When it found room. */
  arrivedMs = 0
  inFlight: InFlight | null = null
  readonly #upload: BulkUpload

  constructor(upload: BulkUpload, { endpoint, requestId, trace }: Origin) {
    this.#upload = upload
    this.endpoint = endpoint
    this.requestId = requestId
    this.trace = trace
  }

  get origin(): Origin {
    return this
  }

  settle(outcome: Outcome, slot: Slot): void {
    this.#upload.settled(this, outcome, slot)
  }
}

/**
 * Collects the results of an upload, a row of float32[64 + motifs] per window, in the order of the windows
 * whatever the order in which they end. What is kept is 304 bytes a window; JSON is made of it as it is sent.
 */
export abstract class Results {
  abstract readonly contentType: string
  failures = 0
  protected readonly rowBytes: number
  #rows: Uint8Array
  #results = 0
  #queueMs = 0
  #inferMs = 0

  /** @param expected windows, as far as that is known: room for more is made as they come */
  constructor(rowBytes: number, expected: number) {
    this.rowBytes = rowBytes
    this.#rows = new Uint8Array(rowBytes * Math.max(16, expected))
  }

  ok(index: number, slot: Slot): void {
    this.#results++
    this.#queueMs += slot.queueWaitMs
    this.#inferMs += slot.inferenceMs
    this.#makeRoom(index)
    this.#rows.set(slot.outputBytes, index * this.rowBytes)
  }

  /** The row of a window without a result carries its status, see QUIET_NAN. */
  failed(index: number, status: Status, _detail: string): void {
    this.failures++
    this.#makeRoom(index)
    const row = this.rows(index, index + 1)
    const words = new DataView(row.buffer, row.byteOffset, row.byteLength)
    for (let at = 0; at < row.length; at += 4) {
      words.setUint32(at, QUIET_NAN | WINDOW_STATUSES.indexOf(status), true)
    }
  }

  get meanQueueMs(): number {
    return this.#queueMs / Math.max(1, this.#results)
  }

  get meanInferMs(): number {
    return this.#inferMs / Math.max(1, this.#results)
  }

  /** @param count windows in all, each of which has ended */
  abstract body(count: number): Answer['body']

  protected rows(from: number, to: number): Uint8Array {
    return this.#rows.subarray(from * this.rowBytes, to * this.rowBytes)
  }

  #makeRoom(index: number): void {
    const end = (index + 1) * this.rowBytes
    if (end <= this.#rows.length) return
    const longer = new Uint8Array(Math.max(end, 2 * this.#rows.length))
    longer.set(this.#rows)
    this.#rows = longer
  }
}

/** How many rows of a long answer are sent at a time: some 20 KB of bytes, or 130 KB of JSON. */
const ROWS_PER_PIECE = 64

/** The rows as they are. */
export class BinaryResults extends Results {
  readonly contentType = 'application/octet-stream'

  override body(count: number): Answer['body'] {
    const pieceOf = (first: number) => this.rows(first, Math.min(first + ROWS_PER_PIECE, count))
    if (count <= ROWS_PER_PIECE) return pieceOf(0)
    return { bytes: count * this.rowBytes, pieces: () => piecesOf(count, pieceOf) }
  }
}

/** Characters of a float32 in JSON, the longest, and the comma behind it. */
const LONGEST_NUMBER = 25
/** Of a detail; and what stands around numbers or detail. */
const LONGEST_DETAIL = 400
const AROUND = 100

/**
 * `{"results": [one object per window], "failed": n}`. Each object has a line of its own, filled up with
 * blanks to one width: so the length of the whole is known before any of it is made.
 */
export class JsonResults extends Results {
  readonly contentType = 'application/json'
  readonly #failures = new Map<number, string>()

  override failed(index: number, status: Status, detail: string): void {
    super.failed(index, status, detail)
    this.#failures.set(index, JSON.stringify({ error: status, detail: detail.slice(0, LONGEST_DETAIL) }))
  }

  override body(count: number): LongBody {
    const width = Math.max((this.rowBytes / 4) * LONGEST_NUMBER, 2 * LONGEST_DETAIL) + AROUND
    const head = '{"results":[\n'
    const tail = `],"failed":${this.failures}}`
    const lineOf = (index: number) => {
      const line = Buffer.alloc(width, ' ')
      line.write(
        this.#failures.get(index) ??
          encodeResult(new Float32Array(this.rows(index, index + 1).slice().buffer)),
      )
      line.write(index === count - 1 ? ' \n' : ',\n', width - 2)
      return line
    }
    const pieceOf = (first: number) => {
      const rows = Math.min(ROWS_PER_PIECE, count - first)
      const lines = Array.from({ length: rows }, (_, at) => lineOf(first + at))
      if (first === 0) lines.unshift(Buffer.from(head))
      if (first + rows === count) lines.push(Buffer.from(tail))
      return Buffer.concat(lines)
    }
    const bytes = head.length + count * width + tail.length
    return { bytes, pieces: () => piecesOf(count, pieceOf) }
  }
}

function* piecesOf(count: number, pieceOf: (first: number) => Uint8Array): Iterable<Uint8Array> {
  for (let first = 0; first < count; first += ROWS_PER_PIECE) yield pieceOf(first)
}

export function tooManyWindows(limit: number): Failure {
  return {
    code: 'body_too_large',
    detail: `The body has more windows than MAX_WINDOWS_PER_REQUEST allows, expected at most ${limit}`,
  }
}
