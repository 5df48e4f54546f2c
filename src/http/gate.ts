/**
 * Holds answers back for the moment in which the port closes. A client that waits for an answer does
 * not open a connection meanwhile, and a connection that the kernel has but nobody has accepted is
 * reset when the port closes.
 */
export class AnswerGate {
  #held: (() => void)[] | null = null

  /** Sends now, or when the gate opens again. */
  pass(send: () => void): void {
    if (this.#held === null) send()
    else this.#held.push(send)
  }

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
