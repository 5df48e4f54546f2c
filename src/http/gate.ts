/** What is longer goes out at once, also where uWebSockets collects what is sent until a handler has returned. */
export const CORKED_BYTES = 8 * 1024

/**
 * Decides when answers go out. At once, mostly, but for two moments:
 *
 * - While uWebSockets hands over a part of a body, long answers wait. They go out at once, and then close their
 *   connection if that was asked for, and uWebSockets would go on reading into what it has just freed: it looks whether
 *   a connection is still there behind a request's handler, but not behind that of its body.
 * - While the port closes. A client that waits for an answer does not open a connection meanwhile, and a connection
 *   that the kernel has but nobody has accepted is reset when the port closes.
 */
export class AnswerGate {
  /** A part of a body is being handed over. */
  isReading = false
  #held: (() => void)[] | null = null

  /** Sends now, or as soon as that can be done. @param bytes of the body */
  pass(bytes: number, send: () => void): void {
    if (this.isReading && bytes > CORKED_BYTES) setImmediate(() => this.pass(bytes, send))
    else if (this.#held === null) send()
    else this.#held.push(send)
  }

  /** The port is closing. */
  get isShut(): boolean {
    return this.#held !== null
  }

  shut(): void {
    this.#held ??= []
  }

  open(): void {
    const held = this.#held ?? []
    this.#held = null
    for (const send of held) send()
  }
}
