import { realpath } from 'node:fs/promises'

const LOOK_INTERVAL_MS = 1000

/**
 * Looks once a second whether the path that is served leads to another file: whoever brings a version turns a link.
 * Two looks must find the same, so that nobody is followed who is still turning.
 */
export class LinkWatch {
  readonly #path: string
  readonly #turned: () => unknown
  /** Where it led when the model was last read, good or bad; null when it led nowhere. */
  #read: string | null = null
  /** Where it led at the last look. */
  #seen: string | null = null

  /** @param path as it was configured @param turned told that it leads elsewhere than when the model was last read */
  constructor(path: string, turned: () => unknown) {
    this.#path = path
    this.#turned = turned
  }

  /** The model is about to be read, whoever asked for it. */
  async reading(): Promise<void> {
    this.#read = this.#seen = await this.#look()
  }

  watch(): void {
    setTimeout(() => void this.#compare().finally(() => this.watch()), LOOK_INTERVAL_MS).unref()
  }

  async #compare(): Promise<void> {
    const before = this.#seen
    this.#seen = await this.#look()
    // One that leads nowhere is being turned, or broken: the model that serves is not given up for that.
    if (this.#seen !== null && this.#seen === before && this.#seen !== this.#read) await this.#turned()
  }

  /** Asynchronous: a disk that hangs must not keep windows waiting. */
  #look(): Promise<string | null> {
    return realpath(this.#path).catch(() => null)
  }
}
