import { realpath } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

const LOOK_INTERVAL_MS = 1000
/** A look that takes longer sits in the disk, and keeps one of the few threads that libuv has for everybody. */
const LOOK_TIMEOUT_MS = 1000

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
  /** A look that the disk has not answered. Null: there is none. */
  #looking: Promise<string | null> | null = null
  #closed = false

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

  /** @returns false when a look hangs in the disk, and process.exit() would wait for it for ever */
  async close(): Promise<boolean> {
    this.#closed = true
    return (await inTime(this.#looking)) !== LATE
  }

  async #compare(): Promise<void> {
    const before = this.#seen
    this.#seen = await this.#look()
    // One that leads nowhere is being turned, or broken: the model that serves is not given up for that.
    if (this.#seen !== null && this.#seen === before && this.#seen !== this.#read) await this.#turned()
  }

  /** Asynchronous: a disk that hangs must not keep windows waiting. One at a time: nor may it take thread after thread. */
  async #look(): Promise<string | null> {
    if ((await inTime(this.#looking)) === LATE || this.#closed) return null
    const looking = realpath(this.#path).catch(() => null)
    this.#looking = looking
    void looking.then(() => {
      if (this.#looking === looking) this.#looking = null
    })
    const found = await inTime(looking)
    return found === LATE ? null : found
  }
}

const LATE: unique symbol = Symbol('late')

async function inTime<Found>(look: Promise<Found> | null): Promise<Found | null | typeof LATE> {
  if (look === null) return null
  const over = new AbortController()
  const late = sleep<typeof LATE>(LOOK_TIMEOUT_MS, LATE, { signal: over.signal, ref: false }).catch(
    (): typeof LATE => LATE,
  )
  return Promise.race([look, late]).finally(() => over.abort())
}
