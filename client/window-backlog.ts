import { WINDOW_VALUES } from '../src/core/window.ts'
import { encodeFrame } from '../src/http/frame.ts'
import type { Backlog, Frame, StreamFailure, StreamResult } from './backlog.ts'
import { type ErrorCode, InferenceError } from './error.ts'
import { startTimer, type Timer } from './timer.ts'

interface Pending {
  readonly sequence: number
  /** float32[100][9], a copy: the caller may use its own array again, and this may be sent more than once. */
  readonly bytes: Uint8Array
  /** On the clock of `performance.now()`; Infinity for the server's own. */
  readonly expiresMs: number
  readonly timer: Timer | undefined
  cancelled: boolean
  resolve(result: StreamResult): void
  reject(error: InferenceError): void
}

/**
 * Windows, each with a promise that settles once. A window is in one of two places until it is answered:
 * waiting, or sent over the connection that is open now. Both are in the order of their sequences.
 */
export class WindowBacklog implements Backlog {
  readonly #capacity: number
  #nextSequence = 0
  #waiting: Pending[] = []
  readonly #sent = new Map<number, Pending>()

  /** @param capacity windows that may wait */
  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get waiting(): boolean {
    return this.#waiting.length > 0
  }

  get unanswered(): number {
    return this.#sent.size
  }

  get nextSequence(): number {
    return this.#nextSequence
  }

  /** @throws InferenceError when it is not taken: no sequence is spent on it */
  add(window: Float32Array, deadlineMs = Infinity): Promise<StreamResult> {
    if (window.length !== WINDOW_VALUES) {
      const detail = `Cannot send a window of ${window.length} values, expected ${WINDOW_VALUES} (float32[100][9])`
      throw new InferenceError('invalid_window', detail)
    }
    if (this.#waiting.length >= this.#capacity) {
      const detail = `${this.#waiting.length} windows wait to be sent already`
      throw new InferenceError('queue_full', detail)
    }
    const sequence = this.#nextSequence
    this.#nextSequence = (sequence + 1) >>> 0
    // Once it is sent it is the server's to answer, and that knows the deadline.
    const expire = () => this.#withdraw(sequence, 'deadline_exceeded', EXPIRED)
    return new Promise((resolve, reject) => {
      this.#waiting.push({
        sequence,
        bytes: new Uint8Array(window.slice().buffer),
        expiresMs: performance.now() + deadlineMs,
        timer: startTimer(expire, deadlineMs),
        cancelled: false,
        resolve,
        reject,
      })
    })
  }

  rewind(): number {
    const again = [...this.#sent.values()]
    this.#sent.clear()
    const nowMs = performance.now()
    this.#waiting = [...again, ...this.#waiting].filter(pending => {
      if (pending.cancelled) fail(pending, 'cancelled', CANCELLED)
      else if (pending.expiresMs <= nowMs) fail(pending, 'deadline_exceeded', EXPIRED)
      else return true
      return false
    })
    return this.#waiting[0]?.sequence ?? this.#nextSequence
  }

  next(credits: number): { frame: Frame; windows: number } | null {
    if (credits === 0) return null
    const pending = this.#waiting.shift()
    if (pending === undefined) return null
    const { sequence, bytes, expiresMs } = pending
    this.#sent.set(sequence, pending)
    const leftMs = Math.max(expiresMs - performance.now(), SHORTEST_DEADLINE_MS)
    const deadlineMs = expiresMs === Infinity ? SERVERS_DEADLINE : leftMs
    return { frame: encodeFrame('window', { sequence, deadlineMs }, bytes), windows: 1 }
  }

  answer(sequence: number, answer: StreamResult | StreamFailure): void {
    const pending = this.#sent.get(sequence)
    if (pending === undefined) return
    this.#sent.delete(sequence)
    if ('error' in answer) fail(pending, answer.error, answer.detail, answer.retryAfterMs)
    else {
      clearTimeout(pending.timer)
      pending.resolve(answer)
    }
  }

  cancel(sequence: number): Frame | null {
    const pending = this.#sent.get(sequence)
    if (pending === undefined) {
      this.#withdraw(sequence, 'cancelled', CANCELLED)
      return null
    }
    pending.cancelled = true
    return encodeFrame('cancel', { sequence })
  }

  end(error: InferenceError): void {
    for (const pending of [...this.#sent.values(), ...this.#waiting]) {
      clearTimeout(pending.timer)
      pending.reject(error)
    }
    this.#sent.clear()
    this.#waiting = []
  }

  /** Takes a window back if it waits. */
  #withdraw(sequence: number, code: ErrorCode, detail: string): void {
    const index = this.#waiting.findIndex(pending => pending.sequence === sequence)
    if (index !== -1) fail(this.#waiting.splice(index, 1)[0]!, code, detail)
  }
}

const CANCELLED = 'The window was cancelled before it was answered'
const EXPIRED = 'The window could not be sent within its deadline'
/** On the wire, 0 stands for the server's own. */
const SERVERS_DEADLINE = 0
/** For a window that expires as it is sent: the server says so in its turn. */
const SHORTEST_DEADLINE_MS = 0.001

function fail(pending: Pending, code: ErrorCode, detail: string, retryAfterMs: number | null = null): void {
  clearTimeout(pending.timer)
  pending.reject(new InferenceError(code, detail, retryAfterMs === null ? {} : { retryAfterMs }))
}
