import type { HttpRequest, HttpResponse } from 'uWebSockets.js'
import { isIP, isIPv6 } from 'node:net'
import { monotonicMs } from '../clock.ts'
import type { Rate, RateLimitConfig } from '../config.ts'
import { type Failure, retryAfter } from './reply.ts'

/** Addresses that are remembered, some 150 bytes each. Who is forgotten begins with a whole burst again. */
const MAX_ADDRESSES = 4096
/** Groups of an IPv6 address that name its network: its hosts can have as many addresses as they like. */
const NETWORK_GROUPS = 4
/** Clients on the Unix-domain socket have no address; they are one client. */
const NO_ADDRESS = 'local'

/** How many windows each client may send, by its key and by its address. */
export class RateLimits {
  readonly #perKey: TokenBuckets | null
  readonly #perAddress: TokenBuckets | null
  readonly #trustProxy: boolean

  private constructor({ perKey, perAddress, trustProxy }: RateLimitConfig) {
    this.#perKey = perKey && new TokenBuckets(perKey, Number.POSITIVE_INFINITY) // as many as there are keys
    this.#perAddress = perAddress && new TokenBuckets(perAddress, MAX_ADDRESSES)
    this.#trustProxy = trustProxy
  }

  /** Null when there is no limit: then nobody spends any time on it. */
  static of(config: RateLimitConfig): RateLimits | null {
    return config.perKey === null && config.perAddress === null ? null : new RateLimits(config)
  }

  /** Call within the handler: the request can be read only there. @param key its number; null: none of ours */
  allowanceOf(request: HttpRequest, response: HttpResponse, key: number | null): Allowance {
    const shares: Share[] = []
    if (this.#perKey !== null && key !== null) shares.push({ buckets: this.#perKey, client: String(key) })
    if (this.#perAddress !== null) {
      const told = this.#trustProxy ? toldAddress(request) : null
      const client = told ?? clientOf(new Uint8Array(response.getRemoteAddress()))
      shares.push({ buckets: this.#perAddress, client })
    }
    return new Allowance(shares)
  }
}

interface Share {
  readonly buckets: TokenBuckets
  readonly client: string
}

/** What one client may send. */
export class Allowance {
  readonly #shares: readonly Share[]

  constructor(shares: readonly Share[]) {
    this.#shares = shares
  }

  /** Takes so many windows from all of its buckets, or from none. @returns 0, or the ms after which it can be tried again */
  take(windows: number, nowMs = monotonicMs()): number {
    const waitMs = this.#waitMs(windows, nowMs)
    if (waitMs === 0) this.#spend(windows, nowMs)
    return waitMs
  }

  /** Windows that an admitted request turned out to bring: they may be owed, but not while others are. @returns as take() */
  takeFurther(windows: number, nowMs = monotonicMs()): number {
    const waitMs = this.#waitMs(0, nowMs)
    if (waitMs === 0) this.#spend(windows, nowMs)
    return waitMs
  }

  /** Windows that were taken and did not come. */
  giveBack(windows: number): void {
    this.#spend(-windows, monotonicMs())
  }

  #waitMs(windows: number, nowMs: number): number {
    const waits = this.#shares.map(({ buckets, client }) => buckets.waitMs(client, windows, nowMs))
    return Math.max(0, ...waits)
  }

  #spend(windows: number, nowMs: number): void {
    for (const { buckets, client } of this.#shares) buckets.spend(client, windows, nowMs)
  }
}

/**
 * One token bucket per client, for the `capacity` clients that were seen last. More windows than a burst may be taken
 * at once from a bucket that is full: it owes them, and is empty for the longer.
 */
export class TokenBuckets {
  readonly #rate: Rate
  readonly #capacity: number
  /** In the order in which they were last seen. */
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>()

  constructor(rate: Rate, capacity: number) {
    this.#rate = rate
    this.#capacity = capacity
  }

  get size(): number {
    return this.#buckets.size
  }

  /** 0 when so many windows can be taken now. */
  waitMs(client: string, windows: number, nowMs: number): number {
    const { perSecond, burst } = this.#rate
    const missing = Math.min(windows, burst) - this.#bucketOf(client, nowMs).tokens
    return missing <= 0 ? 0 : (missing / perSecond) * 1000
  }

  /** @param windows below 0 they are given back */
  spend(client: string, windows: number, nowMs: number): void {
    const bucket = this.#bucketOf(client, nowMs)
    bucket.tokens = Math.min(this.#rate.burst, bucket.tokens - windows)
  }

  /** Filled up to now. */
  #bucketOf(client: string, nowMs: number): { tokens: number; atMs: number } {
    const { perSecond, burst } = this.#rate
    const bucket = this.#buckets.get(client) ?? { tokens: burst, atMs: nowMs }
    this.#buckets.delete(client)
    if (this.#buckets.size >= this.#capacity) {
      const [leastRecent] = this.#buckets.keys()
      this.#buckets.delete(leastRecent!)
    }
    this.#buckets.set(client, bucket)
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * perSecond)
    bucket.atMs = nowMs
    return bucket
  }
}

export function rateLimited(waitMs: number): Failure {
  return {
    code: 'rate_limited',
    detail: rateLimitedDetail(waitMs),
    headers: { 'Retry-After': retryAfter(waitMs) },
  }
}

export function rateLimitedDetail(waitMs: number): string {
  return `This client sends more windows than it may, expected the next in ${Math.ceil(waitMs)} ms`
}

/** Who an address stands for: an IPv4 address, also one that is mapped into IPv6, or the /64 network of an IPv6 one. */
export function clientOf(address: Uint8Array): string {
  if (address.length === 4) return address.join('.')
  if (address.length !== 16) return NO_ADDRESS
  const isMapped =
    address.subarray(0, 10).every(byte => byte === 0) && address[10] === 255 && address[11] === 255
  if (isMapped) return address.subarray(12).join('.')
  const words = new DataView(address.buffer, address.byteOffset, address.byteLength)
  return Array.from({ length: NETWORK_GROUPS }, (_, at) => words.getUint16(2 * at).toString(16)).join(':')
}

/**
 * What the proxy before us tells: the last entry of the last X-Forwarded-For, as all before that is what the client told
 * the proxy. Null when it tells no address.
 */
function toldAddress(request: HttpRequest): string | null {
  let told = ''
  request.forEach((name, value) => {
    if (name === 'x-forwarded-for') told = value // uWebSockets' getHeader() would give the first
  })
  return clientOfText(told.slice(told.lastIndexOf(',') + 1).trim())
}

/** @param text an address, maybe with a port. Null when it is none */
export function clientOfText(text: string): string | null {
  const url = `http://${isIPv6(text) ? `[${text}]` : text}`
  const hostname = URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, '') : ''
  if (isIP(hostname) === 0) return null
  return clientOf(isIPv6(hostname) ? bytesOfIPv6(hostname) : Uint8Array.from(hostname.split('.'), Number))
}

/** @param text as URL normalises it */
function bytesOfIPv6(text: string): Uint8Array {
  const [left = [], right = []] = text.split('::').map(part => part.split(':').filter(group => group !== ''))
  const zeros = new Array(8 - left.length - right.length).fill('0')
  const groups = [...left, ...zeros, ...right].map(group => Number.parseInt(group, 16))
  return Uint8Array.from(groups.flatMap(group => [group >> 8, group & 255]))
}
