import { monotonicMs } from '../clock.ts'
import type { BackendKind } from '../core/backend.ts'
import { LEVEL } from '../core/degradation.ts'
import type { Outcome } from '../core/outcome.ts'
import { distance } from '../core/ring.ts'
import type { Slot } from '../core/slot.ts'
import type { Engine } from '../engine/engine.ts'
import type { Origin, Trace, Witness } from '../engine/observer.ts'
import { type InFlight, Stream, type Waiter } from '../engine/stream.ts'
import type { Model } from '../model.ts'
import type { ServedModels, Told } from '../served-models.ts'
import { BINARY } from './binary-frames.ts'
import { codec } from './codec.ts'
import type { FrameName } from './frame.ts'
import { JSON_TEXT } from './json-frames.ts'
import { type Allowance, rateLimitedDetail } from './rate-limit.ts'
import { SampleCutter } from './samples.ts'
import type { FrontDoorMetrics } from './service.ts'
import { Thinning } from './thinning.ts'
import type { ClientFrame, Frame, Gap, ModelMark, Variant, WindowError, WindowFrame } from './variant.ts'

/** The largest message that is read: 7,281 samples, or seventy windows' worth. */
export const MAX_FRAME_BYTES = 256 * 1024
/** Windows that one connection may have on their way, if there are slots for so many. */
export const LARGEST_CREDITS = 32
/** A peer that has so much to read still gets no credits back until it has read. */
const HIGH_WATER_BYTES = 64 * 1024
/** A peer that has so much to read still is given up. */
export const MAX_BUFFERED_BYTES = 256 * 1024
/** Refusals of windows without a credit, and gaps, that wait for their turn. More of them are a flood. */
const MAX_UNPAID = 1024
/**
 * Frames within a second that cost the client nothing and lead to nothing. Tens of thousands of them fit into
 * one read of the socket, and nobody else gets a turn before the last.
 */
const MAX_IDLE_FRAMES = 256
const IDLE_FRAMES_MS = 1000
/** No message that is shorter holds a window: as JSON, 100 rows of 9 digits, their commas and brackets. */
const SHORTEST_WINDOW_BYTES = 2000
const NO_CREDIT = 'too many windows without a credit'
const THINNED = 'Left out under load: the window overlaps the one before'
const HELLO_MS = 10_000
const SILENCE_MS = 5 * 60_000
/** A worker that was lost needs about so long to be replaced. */
const REOPEN_MS = 1000

/** Close codes of RFC 6455 and of the registry that goes with it. */
export const CLOSE = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  policy: 1008,
  tooBig: 1009,
  restart: 1012,
} as const

/** The far end of a connection, as a session sees it. */
export interface Sender {
  /** Bytes that the peer has not taken yet. */
  readonly bufferedBytes: number
  /** Sends all in one write. The frames are the caller's again when it returns. */
  send(frames: readonly Frame[]): void
  /** @param reason at most 123 bytes */
  close(code: number, reason: string): void
}

export interface SessionContext {
  readonly engine: Pick<Engine, 'admit' | 'submit' | 'draining' | 'level'>
  readonly backend: BackendKind
  readonly models: ServedModels
  /** Told with each result. */
  readonly mark: Told<ModelMark>
  readonly motifCount: number
  /** Windows that a connection may have on their way. */
  readonly credits: number
  readonly deadlineMs: number
  readonly maxDeadlineMs: number
  readonly metrics: Pick<FrontDoorMetrics, 'framed' | 'frames' | 'refused' | 'thinned'>
  readonly witness: Pick<Witness, 'windowFailed'>
  readonly turn: { arrivedMs(): number }
}

/** Who is at the far end. */
export interface StreamClient extends Pick<Origin, 'endpoint' | 'requestId' | 'stream' | 'trace'> {
  /** Null: it may send as much as it likes. */
  readonly allowance: Allowance | null
}

/**
 * One client's conversation over `/stream`: hello, then windows or samples in and results out.
 *
 * Invariant: every window gets one answer, in the order in which the windows came, however they end:
 * answers queue for those before them. What a client can make the server hold is bounded by its
 * credits, by MAX_UNPAID and by MAX_BUFFERED_BYTES; the time it can take from others by MAX_IDLE_FRAMES.
 */
export class Session {
  readonly #sender: Sender
  readonly #context: SessionContext
  readonly #client: StreamClient
  /** Null before the hello. */
  #variant: Variant | null = null
  /** In samples mode alone. */
  #cutter: SampleCutter | null = null
  /** Of a client that agreed to it. */
  #thinning: Thinning | null = null
  /** In windows mode: of the last window. */
  #lastSequence = 0
  /** When the frame that is being read arrived. */
  #arrivedMs = 0
  /** Windows that the client may still send. */
  #credits: number
  /** Credits of windows that were answered, not given back yet. */
  #owed = 0
  readonly #queue: QueuedAnswer[] = []
  /** Answered, to be used again: with those in the queue there are never more of them than credits. */
  readonly #spare: QueuedAnswer[] = []
  /** Those in the queue that took no credit. */
  #unpaid = 0
  /** Frames that led to nothing, and the arrival of the first of them. */
  #idleFrames = 0
  #idleSinceMs = Number.NEGATIVE_INFINITY
  /** Goes out before what is in the queue: it is nobody's turn. */
  #atOnce: Frame[] = []
  #flushing = false
  /** How to close once everything is answered. */
  #lastWords: { readonly code: number; readonly reason: string } | null = null
  #over = false
  readonly #windowsIn: Counted
  readonly #resultsOut: Counted
  #timer: NodeJS.Timeout

  constructor(sender: Sender, context: SessionContext, client: StreamClient) {
    this.#sender = sender
    this.#client = client
    this.#context = context
    this.#credits = context.credits
    this.#windowsIn = context.metrics.frames('in', 'window')
    this.#resultsOut = context.metrics.frames('out', 'result')
    const reason = `no hello within ${HELLO_MS / 1000} s`
    this.#timer = setTimeout(() => this.#close(CLOSE.policy, reason), HELLO_MS)
  }

  /** @param message valid during the call only */
  receive(message: Uint8Array, isBinary: boolean): void {
    if (this.#over || this.#lastWords !== null) return
    if (message.length > MAX_FRAME_BYTES) {
      this.#context.metrics.framed('in', 'unknown')
      return this.#close(CLOSE.tooBig, `a frame has at most ${MAX_FRAME_BYTES} bytes`)
    }
    const arrivedMs = this.#context.turn.arrivedMs()
    // Once per turn of the event loop: to start a timer anew takes as long as to read a frame.
    if (arrivedMs !== this.#arrivedMs && this.#variant !== null) this.#timer.refresh()
    this.#arrivedMs = arrivedMs
    const variant = isBinary ? BINARY : JSON_TEXT
    const frame = variant.read(message)
    if (frame.type === 'window') this.#windowsIn.count++
    else this.#context.metrics.framed('in', frame.type === 'unreadable' ? frame.name : frame.type)
    if (this.#variant === null) return this.#greet(variant, frame)
    if (this.#variant === variant) this.#take(frame, message.length)
    else this.#complain('Cannot read a frame: the first one chose between binary and JSON for all')
  }

  /** The peer has read what was buffered. */
  drained(): void {
    if (this.#owed > 0) this.#scheduleFlush()
  }

  /** Tells that nothing new is admitted; it is the engine that refuses. */
  drain(): void {
    if (this.#variant !== null) this.#sayAtOnce('draining', this.#variant.draining())
  }

  /** Closes once everything is answered. What comes from now on is not read. */
  end(code: number, reason: string): void {
    this.#lastWords ??= { code, reason }
    this.#scheduleFlush()
  }

  /** The connection is no more: what waits in the rings makes room for others. */
  gone(): void {
    this.#over = true
    clearTimeout(this.#timer)
    for (const { inFlight } of this.#queue) inFlight?.cancel()
    this.#queue.length = 0
    this.#atOnce = []
  }

  #greet(variant: Variant, hello: ClientFrame): void {
    this.#variant = variant
    if (hello.type !== 'hello') {
      const found = hello.type === 'unreadable' ? hello.detail : `The first frame is ${hello.type}`
      this.#complain(`${found}; a client begins with hello`)
      this.#flush()
      return this.#close(CLOSE.protocolError, 'the first frame must be a good hello')
    }
    clearTimeout(this.#timer)
    const reason = `silent for ${SILENCE_MS / 60_000} minutes`
    this.#timer = setTimeout(() => this.#close(CLOSE.goingAway, reason), SILENCE_MS)

    const { mode, hop, first, thin } = hello
    this.#lastSequence = (first - 1) | 0
    if (mode === 'samples') {
      if (thin) this.#thinning = new Thinning({ hop, first })
      this.#cutter = new SampleCutter(
        { hop, first },
        {
          window: (sequence, bytes) => {
            const isThinned =
              this.#context.engine.level >= LEVEL.degraded && this.#thinning?.overlaps(sequence)
            const fill = isThinned ? null : (slot: Slot) => codec.readWindow(bytes, slot)
            this.#submit({ sequence, deadlineMs: 0, fill })
          },
          gap: gap => this.#tellGap(gap),
        },
      )
    }
    const { backend, models, motifCount, credits, deadlineMs, engine } = this.#context
    const modelSha256 = models.current.sha256
    const welcome = { mode, hop, first, credits, deadlineMs, backend, modelSha256, motifCount }
    this.#sayAtOnce('welcome', variant.welcome(welcome))
    if (engine.draining) this.drain()
  }

  #take(frame: ClientFrame, messageBytes: number): void {
    switch (frame.type) {
      case 'window':
        return this.#takeWindow(frame, messageBytes)
      case 'samples':
        if (this.#cutter === null) return this.#complain('Cannot take samples: the mode is windows')
        return this.#cutter.push(frame.index, frame.bytes)
      case 'cancel':
        return this.#cancel(frame.sequence)
      case 'bye':
        return this.end(CLOSE.normal, 'bye')
      case 'hello':
        return this.#complain('Cannot take hello: it was said before')
      case 'unreadable':
        return this.#complain(frame.detail)
    }
  }

  #takeWindow(window: WindowFrame, messageBytes: number): void {
    const { sequence } = window
    if (this.#cutter !== null) return this.#complain('Cannot take a window: the mode is samples')
    if (distance(this.#lastSequence, sequence) > 0) {
      this.#lastSequence = sequence | 0
      const paysForNone = this.#credits > 0 && messageBytes < SHORTEST_WINDOW_BYTES
      if (paysForNone && this.#isFlood('too many windows that are too short')) return
      return this.#submit(window)
    }
    // It has no turn any more. The credit that it took comes back with this answer.
    if (this.#credits > 0) {
      this.#credits--
      this.#owed++
    }
    const expected = `expected one after ${this.#lastSequence >>> 0}`
    this.#complain(`Cannot take window: its sequence ${sequence} is not new, ${expected}`, sequence)
  }

  /** Sends the window on its way, or queues what keeps it from going. @param window without `fill` it is left out */
  #submit(window: Pick<WindowFrame, 'sequence' | 'deadlineMs'> & { fill: WindowFrame['fill'] | null }): void {
    if (this.#over) return
    const { deadlineMs, maxDeadlineMs, engine } = this.#context
    const wantedMs = window.deadlineMs
    const budgetMs = Math.min(wantedMs === 0 ? deadlineMs : wantedMs, maxDeadlineMs)
    const answer = this.#credits > 0 ? (this.#spare.pop() ?? this.#newAnswer(true)) : this.#newAnswer(false)
    answer.sequence = window.sequence
    answer.arrivedMs = this.#arrivedMs
    answer.deadlineMs = this.#arrivedMs + budgetMs
    this.#enqueue(answer)
    if (!answer.paid) {
      this.#context.metrics.refused('overloaded', 'no_credit')
      return this.#refuse(answer, 'overloaded', 'There is no credit left for this window', deadlineMs)
    }
    this.#credits--
    if (window.fill === null) {
      this.#context.metrics.thinned()
      return this.#refuse(answer, 'thinned', THINNED)
    }
    if (!(budgetMs > 0)) {
      const expected = `expected a number above 0, or 0 for ${deadlineMs}`
      return this.#refuse(answer, 'invalid_request', `Cannot take a deadline of ${wantedMs} ms, ${expected}`)
    }
    const waitMs = this.#client.allowance === null ? 0 : this.#client.allowance.take(1)
    if (waitMs > 0) {
      this.#context.metrics.refused('rate_limited', 'rate_limited')
      return this.#refuse(answer, 'rate_limited', rateLimitedDetail(waitMs), waitMs)
    }
    const place = engine.admit(answer)
    if (!(place instanceof Stream)) return this.#refuse(answer, place.code, place.detail, place.retryAfterMs)
    const fault = window.fill(place.ring.nextSlot!)
    if (fault !== null) return this.#refuse(answer, 'invalid_window', fault)
    answer.inFlight = engine.submit(place, answer, answer)
    this.#thinning?.went(window.sequence)
  }

  #tellGap(gap: Gap): void {
    const answer = this.#newAnswer(false)
    this.#enqueue(answer)
    this.#context.metrics.framed('out', 'gap')
    this.#answer(answer, this.#variant!.gap(gap))
  }

  #newAnswer(paid: boolean): QueuedAnswer {
    return new QueuedAnswer(paid, this.#client, this.#settle)
  }

  #enqueue(answer: QueuedAnswer): void {
    this.#queue.push(answer)
    if (answer.paid || this.#isFlood(NO_CREDIT)) return
    if (++this.#unpaid > MAX_UNPAID) this.#close(CLOSE.policy, NO_CREDIT)
  }

  /** Counts a frame that leads to nothing. True when it was one too many: then nothing more is read. */
  #isFlood(reason: string): boolean {
    if (this.#arrivedMs - this.#idleSinceMs >= IDLE_FRAMES_MS) {
      this.#idleSinceMs = this.#arrivedMs
      this.#idleFrames = 0
    }
    if (++this.#idleFrames > MAX_IDLE_FRAMES) this.#close(CLOSE.policy, reason)
    return this.#over
  }

  /** A window has ended, maybe before those ahead of it. */
  readonly #settle = (answer: QueuedAnswer, outcome: Outcome, slot: Slot): void => {
    if (outcome === 'ok') {
      // This copies the result out of the slot, which is another window's once this returns.
      answer.result = this.#variant!.result(answer.sequence, slot, this.#context.mark.of(slot), answer.result)
      this.#resultsOut.count++
      return this.#answer(answer, answer.result)
    }
    if (outcome === 'deadline_exceeded') {
      const spentMs = (monotonicMs() - answer.arrivedMs).toFixed(1)
      const allowedMs = (answer.deadlineMs - answer.arrivedMs).toFixed(1)
      const detail = `There is no result after ${spentMs} ms, expected within the deadline of ${allowedMs} ms`
      return this.#refuse(answer, outcome, detail)
    }
    const detail = 'The worker that had this window was lost, or the model gave no usable result for it'
    this.#refuse(answer, outcome, detail, REOPEN_MS)
  }

  #cancel(sequence: number): void {
    const answer = this.#queue.find(answer => answer.sequence === sequence && answer.inFlight !== null)
    if (answer === undefined) {
      this.#isFlood('too many cancels of nothing')
      return
    }
    answer.inFlight!.cancel()
    this.#refuse(answer, 'cancelled', 'The client has cancelled this window')
  }

  #refuse(answer: QueuedAnswer, status: WindowError['status'], detail: string, retryAfterMs = 0): void {
    const { sequence } = answer
    this.#context.metrics.framed('out', 'error')
    this.#answer(answer, this.#errorFrame({ sequence, status, detail, retryAfterMs }, answer))
  }

  #answer(answer: QueuedAnswer, frame: Frame): void {
    answer.inFlight = null
    answer.frame = frame
    if (this.#queue[0] === answer) this.#scheduleFlush()
  }

  /** About a frame that has no turn. */
  #complain(detail: string, sequence: number | null = null): void {
    if (this.#isFlood('too many frames that cannot be taken')) return
    const error = { sequence, status: 'invalid_request', detail, retryAfterMs: 0 } as const
    const origin = { ...this.#client, sequence: sequence ?? 0, arrivedMs: this.#arrivedMs }
    this.#sayAtOnce('error', this.#errorFrame(error, origin))
  }

  #errorFrame(error: WindowError, origin: Origin): Frame {
    // What the client has asked for, or agreed to, is no failure, and is counted elsewhere.
    if (error.status !== 'cancelled' && error.status !== 'thinned')
      this.#context.witness.windowFailed(error.status, origin)
    return this.#variant!.error({ ...error, retryAfterMs: Math.ceil(error.retryAfterMs) })
  }

  #sayAtOnce(name: FrameName, frame: Frame): void {
    this.#atOnce.push(frame)
    this.#context.metrics.framed('out', name)
    this.#scheduleFlush()
  }

  /** Results come out of a ring by the batch: what is ready by the end of it goes out in one write. */
  #scheduleFlush(): void {
    if (this.#flushing) return
    this.#flushing = true
    queueMicrotask(() => this.#flush())
  }

  #flush(): void {
    this.#flushing = false
    if (this.#over) return
    const frames = this.#atOnce
    this.#atOnce = []
    const firstToCome = this.#queue.findIndex(({ frame }) => frame === null)
    const answered = this.#queue.splice(0, firstToCome === -1 ? this.#queue.length : firstToCome)
    for (const { frame, paid } of answered) {
      frames.push(frame!)
      if (paid) this.#owed++
      else this.#unpaid--
    }
    if (this.#owed > 0 && this.#sender.bufferedBytes <= HIGH_WATER_BYTES) {
      frames.push(this.#variant!.credit(this.#owed))
      this.#context.metrics.framed('out', 'credit')
      this.#credits += this.#owed
      this.#owed = 0
    }
    if (frames.length > 0) this.#sender.send(frames)
    for (const answer of answered) if (answer.paid) this.#spare.push(answer.clear())
    if (this.#sender.bufferedBytes > MAX_BUFFERED_BYTES) {
      this.#close(CLOSE.policy, 'answers are not read')
    } else if (this.#lastWords !== null && this.#queue.length === 0) {
      this.#close(this.#lastWords.code, this.#lastWords.reason)
    }
  }

  #close(code: number, reason: string): void {
    if (this.#over) return
    this.gone()
    this.#sender.close(code, reason)
  }
}

export function markOf({ sha256 }: Model): ModelMark {
  const [first = 0, second = 0] = Buffer.from(sha256.slice(0, 4), 'hex')
  return { sha256: sha256.slice(0, 12), start: first | (second << 8) }
}

type Counted = ReturnType<FrontDoorMetrics['frames']>

/** What one window is answered with, there or to come; or what is told between two of them. */
class QueuedAnswer implements Waiter, Origin {
  readonly endpoint: string
  readonly requestId: string
  readonly stream: number
  readonly trace: Trace | null
  /** It took a credit. */
  readonly paid: boolean
  sequence = 0
  arrivedMs = 0
  deadlineMs = 0
  /** Null once it has ended, and when it never went on its way. */
  inFlight: InFlight | null = null
  /** Null while it is to come. */
  frame: Frame | null = null
  /** The last result that it was, as it went out: the next one is written over it. */
  result: Frame | null = null
  readonly #settled: (answer: QueuedAnswer, outcome: Outcome, slot: Slot) => void

  constructor(
    paid: boolean,
    { endpoint, requestId, stream, trace }: StreamClient,
    settled: (answer: QueuedAnswer, outcome: Outcome, slot: Slot) => void,
  ) {
    this.endpoint = endpoint
    this.requestId = requestId
    this.stream = stream
    this.trace = trace
    this.paid = paid
    this.#settled = settled
  }

  get origin(): Origin {
    return this
  }

  settle(outcome: Outcome, slot: Slot): void {
    this.#settled(this, outcome, slot)
  }

  /** Makes it ready for another window. */
  clear(): this {
    this.frame = null
    return this
  }
}
