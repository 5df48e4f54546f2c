import { monotonicMs } from '../clock.ts'
import type { BackendKind } from '../core/backend.ts'
import type { Outcome } from '../core/outcome.ts'
import type { Slot } from '../core/slot.ts'
import type { BulkSource } from '../engine/bulk-lane.ts'
import type { InFlight, Stream, Waiter } from '../engine/stream.ts'
import { type InferenceContext, lostFailure, serverTiming } from './exchange.ts'
import { WINDOW_STATUSES, type WindowStatus } from './frame.ts'
import { type Answer, type ErrorCode, encodeResult, type Failure, type LongBody } from './reply.ts'
import type { WindowReader } from './window-readers.ts'

/** An upload of which nothing comes for so long is given up, before uWebSockets closes its connection (8 s or more). */
const STALLED_AFTER_MS = 7000
/** What a row of a window without a result holds, 76 times: a quiet NaN that carries the window's status. */
const QUIET_NAN = 0x7fc00000

/** What another try may mend. */
const COMES_BACK: ReadonlySet<Status> = new Set(['overloaded', 'model_unavailable', 'draining'])

type Status = Extract<WindowStatus, ErrorCode>

/** Who takes the answer of an upload: its HTTP exchange. */
export interface UploadOwner {
  /** The deadline that the client asked for, monotonic ms; Infinity when it named none. */
  readonly deadlineMs: number
  /** Stops reading the body, or goes on; the sender feels it through TCP. */
  pause(): void
  resume(): void
  answer(answer: Answer): void
  fail(failure: Failure): void
}

/**
 * Many windows in one request. They go from the body into slots as they arrive and as the bulk lane has
 * room; what has no room yet stays with the sender. A bad or shed window spoils no other.
 */
export class BulkUpload implements BulkSource {
  readonly #owner: UploadOwner
  readonly #reader: WindowReader
  readonly #results: Results
  readonly #context: InferenceContext
  readonly #inFlight = new Set<InFlight>()
  #count = 0
  #firstFailure: { status: Status; detail: string } | null = null
  #complete = false
  #paused = false
  #over = false
  /** Why no further window is tried. */
  #givenUp: { status: Status; detail: string } | null = null
  readonly #deadline: NodeJS.Timeout | undefined
  /** Runs while the body does not come, or while no window finds room. */
  #patience: NodeJS.Timeout | undefined

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
    this.#expectMore()
  }

  /** @param lent for the length of the call only */
  onPart(lent: Uint8Array, isLast: boolean): void {
    if (this.#over) return
    this.#complete = isLast
    this.#expectMore()
    this.#reader.push(lent)
    if (this.#reader.fault !== null) return this.#refuse(this.#reader.fault)
    this.#context.engine.bulk.offer(this)
    this.#reader.retain()
    if (!this.#over) this.#goOn()
  }

  submitNext(stream: Stream): boolean {
    const { engine, maxDeadlineMs, maxWindowsPerRequest } = this.#context
    const refused = engine.refuseAll()
    if (refused !== null) this.#giveUp(refused.code, refused.detail)
    while (this.#reader.ready > 0 && !this.#over) {
      if (this.#count === maxWindowsPerRequest) {
        this.#end()
        this.#owner.fail(tooManyWindows(maxWindowsPerRequest))
        return false
      }
      const index = this.#count++
      if (this.#givenUp !== null) {
        this.#reader.skip()
        this.#fail(index, this.#givenUp.status, this.#givenUp.detail)
        continue
      }
      const fault = this.#reader.takeInto(stream.ring.nextSlot!)
      if (fault !== null) {
        this.#fail(index, 'invalid_window', fault)
        continue
      }
      const arrivedMs = monotonicMs()
      const deadlineMs = Math.min(this.#owner.deadlineMs, arrivedMs + maxDeadlineMs)
      const waiter = new BulkWindow(this, index)
      waiter.inFlight = engine.submit(stream, { arrivedMs, deadlineMs }, waiter)
      this.#inFlight.add(waiter.inFlight)
      this.#expectMore()
      break
    }
    if (this.#reader.ready > 0 && !this.#over) return true
    this.#goOn()
    return false
  }

  settled(index: number, outcome: Outcome, slot: Slot, inFlight: InFlight): void {
    if (this.#over) return
    this.#inFlight.delete(inFlight)
    if (outcome === 'ok') this.#results.ok(index, slot)
    else {
      const late = 'There was no result within the deadline'
      this.#fail(index, outcome, outcome === 'deadline_exceeded' ? late : lostFailure().detail)
    }
    this.#goOn()
  }

  /** The client is gone: nobody waits for its windows. */
  cancel(): void {
    this.#end()
  }

  /** Reads on when all that has come has been taken, and answers when all has ended. */
  #goOn(): void {
    if (this.#over) return
    if (this.#reader.ready > 0) {
      if (!this.#complete && !this.#paused) {
        this.#paused = true
        this.#expectMore()
        this.#owner.pause()
      }
      return
    }
    if (!this.#complete) {
      if (this.#paused) {
        this.#paused = false
        this.#expectMore()
        this.#owner.resume()
      }
      return
    }
    const fault = this.#reader.end()
    if (fault !== null) this.#refuse(fault)
    else if (this.#inFlight.size === 0) this.#answer()
  }

  #expectMore(): void {
    clearTimeout(this.#patience)
    const { maxDeadlineMs } = this.#context
    this.#patience = setTimeout(
      () => {
        if (this.#paused || this.#complete) {
          const status = this.#context.engine.available ? 'overloaded' : 'model_unavailable'
          this.#giveUp(status, `No window found room for ${maxDeadlineMs} ms`)
        } else {
          this.#end()
          this.#owner.fail({
            code: 'deadline_exceeded',
            detail: `The body is not complete, and nothing of it has come for ${STALLED_AFTER_MS} ms`,
          })
        }
      },
      this.#paused || this.#complete ? maxDeadlineMs : STALLED_AFTER_MS,
    )
  }

  /** From here on windows fail without being tried; those in flight end as they do. */
  #giveUp(status: Status, detail: string): void {
    this.#givenUp ??= { status, detail }
    this.#context.engine.bulk.withdraw(this)
    while (this.#reader.ready > 0) {
      this.#reader.skip()
      this.#fail(this.#count++, this.#givenUp.status, this.#givenUp.detail)
    }
    this.#goOn()
  }

  #fail(index: number, status: Status, detail: string): void {
    this.#firstFailure ??= { status, detail }
    this.#context.metrics.failed(status)
    this.#results.failed(index, status, detail)
  }

  /** The body as a whole is not what it should be: no part of it is answered. */
  #refuse(fault: string): void {
    this.#end()
    this.#owner.fail({ code: 'invalid_window', detail: fault })
  }

  #answer(): void {
    this.#end()
    const results = this.#results
    if (this.#count === 0) {
      return this.#owner.fail({
        code: 'invalid_window',
        detail: 'Cannot read windows: there are none, expected one or more',
      })
    }
    if (results.failures === this.#count) {
      const { status, detail } = this.#firstFailure!
      const none = `None of ${this.#count} windows has a result. The first: ${detail}`
      return this.#owner.fail({
        code: status,
        detail: none,
        headers: COMES_BACK.has(status) ? { 'Retry-After': '1' } : {},
      })
    }
    const headers = {
      ...this.#provenance(),
      'Content-Type': results.contentType,
      'X-Windows-Failed': String(results.failures),
      'Server-Timing': serverTiming(results.meanQueueMs, results.meanInferMs),
    }
    this.#owner.answer({ status: 200, headers, body: results.body(this.#count) })
  }

  /** Names every backend that gave a result: an answer that holds those of two says so. */
  #provenance(): Record<string, string> {
    const sources = [...this.#results.backends].map(backend => this.#context.provenance[backend])
    const all = (header: keyof (typeof sources)[0]) =>
      [...new Set(sources.map(source => source[header]))].join(', ')
    return {
      'X-Inference-Backend': all('X-Inference-Backend'),
      'X-Model-Sha256': all('X-Model-Sha256'),
    }
  }

  #end(): void {
    this.#over = true
    this.#context.uploads.delete(this)
    clearTimeout(this.#deadline)
    clearTimeout(this.#patience)
    this.#context.engine.bulk.withdraw(this)
    for (const inFlight of this.#inFlight) inFlight.cancel()
    this.#inFlight.clear()
    // What still comes of the body is read and thrown away: a client hears an answer only after it has sent all.
    if (this.#paused) this.#owner.resume()
  }
}

class BulkWindow implements Waiter {
  inFlight!: InFlight
  readonly #upload: BulkUpload
  readonly #index: number

  constructor(upload: BulkUpload, index: number) {
    this.#upload = upload
    this.#index = index
  }

  settle(outcome: Outcome, slot: Slot): void {
    this.#upload.settled(this.#index, outcome, slot, this.inFlight)
  }
}

/**
 * Collects the results of an upload, a row of float32[64 + motifs] per window, in the order of the windows
 * whatever the order in which they end. What is kept is 304 bytes a window; JSON is made of it as it is sent.
 */
export abstract class Results {
  abstract readonly contentType: string
  readonly backends = new Set<BackendKind>()
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
    this.backends.add(slot.backend)
    this.#makeRoom(index)
    this.row(index).set(slot.outputBytes)
  }

  /** The row of a window without a result carries its status, see QUIET_NAN. */
  failed(index: number, status: Status, _detail: string): void {
    this.failures++
    this.#makeRoom(index)
    const row = this.row(index)
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
  abstract body(count: number): LongBody

  protected row(index: number): Uint8Array {
    return this.#rows.subarray(index * this.rowBytes, (index + 1) * this.rowBytes)
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

  override body(count: number): LongBody {
    const pieceOf = (first: number) => {
      const rows = Math.min(ROWS_PER_PIECE, count - first)
      return Buffer.concat(Array.from({ length: rows }, (_, at) => this.row(first + at)))
    }
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
      line.write(this.#failures.get(index) ?? encodeResult(new Float32Array(this.row(index).slice().buffer)))
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
