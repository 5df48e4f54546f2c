import { realpath } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../clock.ts'

const LOOK_INTERVAL_MS = 1000
/** A look that takes longer sits in the disk, and keeps one of the few threads that libuv has for everybody. */
const LOOK_TIMEOUT_MS = 1000
/** Each next one is twice as long. */
const FIRST_RETRY_DELAY_MS = 2000
const LONGEST_RETRY_DELAY_MS = 60_000

/**
 * Looks once a second whether the path that is served leads to another file: whoever brings a version turns a link.
 * Two looks must find the same, so that nobody is followed who is still turning.
 */
export class LinkWatch {
  readonly #path: string | null
  /** Where it led when the model was last read, good or bad; null when it led nowhere. */
  #read: string | null = null
  /** Where it led at the last look. */
  #seen: string | null = null
  /** A look that the disk has not answered. Null: there is none. */
  #looking: Promise<string | null> | null = null
  /** Monotonic ms. */
  #retryMs = Number.POSITIVE_INFINITY
  #retryDelayMs = FIRST_RETRY_DELAY_MS
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  /** @param path as it was configured; null: there is nothing to look at */
  constructor(path: string | null) {
    this.#path = path
  }

  /** The model is about to be read, whoever asked for it. */
  async reading(): Promise<void> {
    const before = this.#read
    this.#read = this.#seen = await this.#look()
    this.#retryMs = Number.POSITIVE_INFINITY
    if (this.#read !== before) this.#retryDelayMs = FIRST_RETRY_DELAY_MS
  }

  /** What was read is good, and could not be opened now: it will count as another in a while. */
  retryLater(): void {
    this.#retryMs = monotonicMs() + this.#retryDelayMs
    this.#retryDelayMs = Math.min(this.#retryDelayMs * 2, LONGEST_RETRY_DELAY_MS)
  }

  /** @param turned told that it leads elsewhere than when the model was last read, or that it is time to try again */
  watch(turned: () => unknown): void {
    if (this.#stopped) return
    const next = () => this.watch(turned)
    this.#timer = setTimeout(() => void this.#compare(turned).finally(next), LOOK_INTERVAL_MS).unref()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** @returns false when a look hangs in the disk, and process.exit() would wait for it for ever */
  async close(): Promise<boolean> {
    this.stop()
    return (await inTime(this.#looking)) !== LATE
  }

  async #compare(turned: () => unknown): Promise<void> {
    const before = this.#seen
    this.#seen = await this.#look()
    // One that leads nowhere is being turned, or broken: the model that serves is not given up for that.
    const settled = this.#seen !== null && this.#seen === before
    const due = this.#seen !== this.#read || monotonicMs() >= this.#retryMs
    if (settled && due && !this.#stopped) await turned()
  }

  /** Asynchronous: a disk that hangs must not keep windows waiting. One at a time: nor may it take thread after thread. */
  async #look(): Promise<string | null> {
    if (this.#path === null || (await inTime(this.#looking)) === LATE || this.#stopped) return null
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
