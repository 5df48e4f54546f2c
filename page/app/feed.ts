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
    const goOn = await this.#askOnce()
    this.#asking = false
    if (goOn) this.#timer = setTimeout(() => this.ask(), PAUSE_MS)
  }

  /** @returns false when there is no use in asking again before there is another key */
  async #askOnce(): Promise<boolean> {
    const key = apiKey()
    let answer: Live
    try {
      const response = await fetch(`live?after=${this.#listener.lastTick()}`, {
        headers: key === null ? {} : { 'X-API-Key': key },
        signal: AbortSignal.timeout(PATIENCE_MS),
      })
      if (response.status === 401) {
        this.#listener.refused()
        return false
      }
      if (!response.ok) throw new Error(`it answered ${response.status}`)
      answer = await response.json()
    } catch (error) {
      this.#listener.lost(reasonOf(error))
      return true
    }
    this.#listener.told(answer)
    return true
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof DOMException) return 'it is silent'
  if (error instanceof SyntaxError) return 'its answer makes no sense'
  return error instanceof TypeError ? 'it cannot be reached' : (error as Error).message
}
