import { createHash, timingSafeEqual } from 'node:crypto'

/** Headers that say who asks. Empty strings when absent. */
export interface Credentials {
  readonly apiKey: string
  readonly authorization: string
}

/** What a page may read beside the body. */
const EXPOSED = {
  'Access-Control-Expose-Headers':
    'Inference-Header-Content-Length, Retry-After, Server-Timing, X-Config-Version, X-Correlation-ID, X-Inference-Backend, X-Model-Sha256, X-Request-ID, X-Windows-Failed',
}

/** Decides who may call, and which web pages may read the answers. */
export class Access {
  readonly #keyDigests: readonly Buffer[]
  readonly #origins: ReadonlySet<string>

  constructor(options: { apiKeys: readonly string[]; corsOrigins: readonly string[] }) {
    this.#keyDigests = options.apiKeys.map(digest)
    this.#origins = new Set(options.corsOrigins)
  }

  get needsKey(): boolean {
    return this.#keyDigests.length > 0
  }

  get usesCors(): boolean {
    return this.#origins.size > 0
  }

  /** The number of the key in X-API-Key or `Authorization: Bearer`. Null when it is none of ours. */
  keyOf({ apiKey, authorization }: Credentials): number | null {
    if (!this.needsKey) return null
    const bearer = /^bearer +(.+)$/i.exec(authorization)?.[1] ?? ''
    const presented = digest(apiKey || bearer)
    let found: number | null = null
    // Digests have one length, and every key is compared in constant time: timing tells nothing.
    for (const [index, key] of this.#keyDigests.entries()) if (timingSafeEqual(key, presented)) found = index
    return found
  }

  /**
   * Whether a page of `origin` may open a WebSocket or send a POST here: browsers ask nobody before the first, nor
   * before a simple one of the second. A page of our own host may, as may what sends no Origin: it is no page.
   */
  admits(origin: string, host: string): boolean {
    if (origin === '' || this.#origins.has('*') || this.#origins.has(origin)) return true
    return URL.canParse(origin) && new URL(origin).host === host.toLowerCase()
  }

  /** The headers that let a page of `origin` read an answer; none when it may not. */
  corsHeaders(origin: string): Record<string, string> {
    if (!this.usesCors) return {}
    if (this.#origins.has('*')) return { 'Access-Control-Allow-Origin': '*', ...EXPOSED }
    if (!this.#origins.has(origin)) return { Vary: 'Origin' }
    return { 'Access-Control-Allow-Origin': origin, Vary: 'Origin', ...EXPOSED }
  }
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
