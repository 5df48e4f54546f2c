import { Body } from './body.ts'

/**
 * Decides when answers go out. At once, mostly, but for two moments:
 *
 * - While uWebSockets hands over a part of a body. An answer may close its connection, as the client has asked for
 *   or as we do, and uWebSockets would go on reading into what it has just freed: it looks whether a connection is
 *   still there behind a request's handler, but not behind that of its body.
 * - While the port closes. A client that waits for an answer does not open a connection meanwhile, and a connection
 *   that the kernel has but nobody has accepted is reset when the port closes.
 */
export class AnswerGate {
  #held: (() => void)[] | null = null

  /** Sends now, or as soon as that can be done. */
  pass(send: () => void): void {
    if (Body.isBeingRead) setImmediate(() => this.pass(send))
    else if (this.#held === null) send()
    else this.#held.push(send)
  }

  /** Whether pass() would send at once. */
  get isOpen(): boolean {
    return this.#held === null && !Body.isBeingRead
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
