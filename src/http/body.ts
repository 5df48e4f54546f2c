import type { HttpResponse } from 'uWebSockets.js'
import type { AnswerGate } from './gate.ts'

export interface BodyReader {
  /** The whole body, for the length of the call only. */
  onBody(bytes: Uint8Array): void
  /** A part came, and it was not the last. */
  onPart(): void
  /** Called once, when more than the limit has come. The rest is thrown away, unless it is passed on. */
  onTooLarge(receivedBytes: number): void
}

/** Takes a part of a body, for the length of the call only. */
type Taker = (part: Uint8Array, isLast: boolean) => void

const FIRST_BYTES = 4096
const NOTHING = Buffer.alloc(0)

/**
 * The body of a request. It is collected up to a limit and handed over once, whole; in one piece, as a
 * window mostly comes, it is lent straight from the socket's buffer without a copy. Or each part is passed
 * on as it comes.
 */
export class Body {
  /** What has come so far, when it came in parts: the first `#received` bytes. */
  #collected: Buffer = NOTHING
  #received = 0
  #taker: Taker | null = null
  #done = false
  #isComplete = false
  #onComplete: (() => void) | null = null

  /** @param limitBytes below 0, every part is too large: nothing is collected */
  constructor(response: HttpResponse, limitBytes: number, reader: BodyReader, gate: AnswerGate) {
    response.onData((chunk, isLast) => {
      gate.isReading = true
      this.#isComplete = isLast
      try {
        this.#read(new Uint8Array(chunk), isLast, limitBytes, reader)
        if (isLast) this.#onComplete?.()
      } finally {
        gate.isReading = false
      }
    })
  }

  get collected(): Buffer {
    return this.#collected.subarray(0, this.#received)
  }

  /** Passes on what has come, and every part from here on. */
  passOn(taker: Taker): void {
    this.#taker = taker
    if (this.#received > 0) taker(this.collected, false)
    this.#collected = NOTHING
  }

  /** All of it has come, also what was thrown away. */
  get isComplete(): boolean {
    return this.#isComplete
  }

  /** @param then called once, when that is so: it is not yet */
  onComplete(then: () => void): void {
    this.#onComplete = then
  }

  /** Nobody wants the rest. */
  drop(): void {
    this.#done = true
    this.#collected = NOTHING
    this.#received = 0
  }

  #read(part: Uint8Array, isLast: boolean, limitBytes: number, reader: BodyReader): void {
    if (this.#taker !== null) return this.#taker(part, isLast)
    if (this.#done) return
    if (this.#received + part.length > limitBytes) {
      this.#done = true
      reader.onTooLarge(this.#received + part.length)
      ;(this.#taker as Taker | null)?.(part, isLast)
    } else if (isLast) {
      this.#done = true
      if (this.#received > 0) this.#collect(part)
      reader.onBody(this.#received > 0 ? this.collected : part)
      this.#collected = NOTHING
    } else {
      this.#collect(part)
      reader.onPart()
    }
  }

  #collect(part: Uint8Array): void {
    const needed = this.#received + part.length
    if (needed > this.#collected.length) {
      const larger = Buffer.allocUnsafe(Math.max(FIRST_BYTES, 2 * needed))
      this.#collected.copy(larger, 0, 0, this.#received)
      this.#collected = larger
    }
    this.#collected.set(part, this.#received)
    this.#received = needed
  }
}
