import type { Live } from '../../src/live/answer.ts'
import { apiKey } from './key.ts'

/** The page asks anew so long after it got no answer; after one the server says when. */
const RETRY_MS = 1000
/** A server from which nothing comes for so long is lost. A slow one is not. */
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
    try {
      const pauseMs = await this.#askOnce()
      if (pauseMs !== null) this.#timer = setTimeout(() => this.ask(), pauseMs)
    } finally {
      this.#asking = false
    }
  }

  /** @returns when to ask again, ms; null when there is no use in it before there is another key */
  async #askOnce(): Promise<number | null> {
    const key = apiKey()
    try {
      const answer = await ask(this.#listener.lastTick(), key)
      if (answer !== null) return this.#tell(answer)
      // Another one was given while the server looked at this one.
      if (apiKey() !== key) return 0
      this.#listener.refused()
      return null
    } catch (error) {
      this.#listener.lost(reasonOf(error))
    }
    return RETRY_MS
  }

  /** Of a proxy, or of another version, an answer may be anything. @returns when the server wants to be asked again, ms */
  #tell(answer: string): number {
    try {
      const live: Live = JSON.parse(answer)
      this.#listener.told(live)
      return live.pause_ms ?? RETRY_MS // one that was started before levels came does not say
    } catch (cause) {
      throw new Error('its answer makes no sense', { cause })
    }
  }
}

/**
 * What the server says is new after a tick, null when it refuses the key.
 * @throws DOMException when it is silent for too long, TypeError when it cannot be reached, Error with what it answered
 */
async function ask(after: number, key: string | null): Promise<string | null> {
  const abort = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  const heard = () => {
    clearTimeout(timer)
    timer = setTimeout(() => abort.abort(), PATIENCE_MS)
  }
  heard()
  try {
    const response = await fetch(`live?after=${after}`, {
      headers: key === null ? {} : { 'X-API-Key': key },
      signal: abort.signal,
    })
    if (response.status === 401) return null
    if (!response.ok) throw new Error(`it answered ${response.status}`)
    return await read(response.body!, heard)
  } finally {
    clearTimeout(timer)
  }
}

/** All of a body, however long it takes. @param heard called whenever some of it has come */
async function read(body: ReadableStream<Uint8Array<ArrayBuffer>>, heard: () => void): Promise<string> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return text
    heard()
    text += value
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof DOMException) return 'it is silent'
  return error instanceof TypeError ? 'it cannot be reached' : (error as Error).message
}
