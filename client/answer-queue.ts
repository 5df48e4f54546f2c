/** Between who delivers and who iterates. Ends once: then what is left is read, and after it the error thrown, if any. */
export class AnswerQueue<Answer> implements AsyncIterableIterator<Answer, undefined> {
  readonly #onRead: () => void
  readonly #unread: Answer[] = []
  readonly #readers: Reader<Answer>[] = []
  #end: { readonly error: Error | null } | null = null

  /** @param onRead called when there is room for one more */
  constructor(onRead: () => void) {
    this.#onRead = onRead
  }

  get size(): number {
    return this.#unread.length
  }

  push(value: Answer): void {
    const reader = this.#readers.shift()
    if (reader) reader.resolve({ value, done: false })
    else this.#unread.push(value)
  }

  end(error: Error | null): void {
    this.#end ??= { error }
    for (const reader of this.#readers.splice(0)) this.#settle(reader)
  }

  next(): Promise<IteratorResult<Answer, undefined>> {
    return new Promise((resolve, reject) => {
      const reader = { resolve, reject }
      if (this.#unread.length > 0) {
        resolve({ value: this.#unread.shift()!, done: false })
        this.#onRead()
      } else if (this.#end !== null) this.#settle(reader)
      else this.#readers.push(reader)
    })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #settle({ resolve, reject }: Reader<Answer>): void {
    if (this.#end!.error === null) resolve({ value: undefined, done: true })
    else reject(this.#end!.error)
  }
}

/** A promise that somebody waits for. */
interface Reader<Answer> {
  resolve(result: IteratorResult<Answer, undefined>): void
  reject(error: Error): void
}
