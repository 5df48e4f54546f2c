import type { Live } from '../../src/live/answer.ts'
import { apiKey } from './key.ts'

/** The page asks anew so long after an answer. */
const PAUSE_MS = 1000
/** A server that is silent for so long is lost. */
const PATIENCE_MS = 4000

interface Listener {
  /** Number of the last tick that is known. */
  lastTick(): number
  told(answer: Live): void
  lost(why: string): void
  /** The server wants another API key, or one at all. */
  refused(): void
}

/** Asks the server what is new, as long as somebody looks at the page. */
export class Feed {
  readonly #listener: Listener
  #timer: ReturnType<typeof setTimeout> | undefined
  #asking = false

  constructor(listener: Listener) {
    this.#listener = listener
    document.addEventListener('visibilitychange', () => this.ask())
    this.ask()
  }

  /** Asks now, and from then on regularly. */
  async ask(): Promise<void> {
    clearTimeout(this.#timer)
    if (document.hidden || this.#asking) return
    this.#asking = true
    await this.#askOnce()
    this.#asking = false
    this.#timer = setTimeout(() => this.ask(), PAUSE_MS)
  }

  async #askOnce(): Promise<void> {
    const key = apiKey()
    try {
      const response = await fetch(`live?after=${this.#listener.lastTick()}`, {
        headers: key === null ? {} : { 'X-API-Key': key },
        signal: AbortSignal.timeout(PATIENCE_MS),
      })
      if (response.status === 401) this.#listener.refused()
      else if (!response.ok) this.#listener.lost(`it answered ${response.status}`)
      else this.#listener.told(await response.json())
    } catch (error) {
      const silent = error instanceof DOMException && error.name === 'TimeoutError'
      this.#listener.lost(silent ? 'it is silent' : 'it cannot be reached')
    }
  }
}
