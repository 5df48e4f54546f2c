import type { HttpResponse, TemplatedApp } from 'uWebSockets.js'
import { monotonicMs } from '../clock.ts'
import type { TurnedAway } from '../engine/observer.ts'

/** uWebSockets closes an idle connection after 8 to 12 s, so it is touched more often than that. */
const TOUCH_INTERVAL_MS = 4000
/** Nor is a connection kept whose last answer was longer: it may not have been read. */
const LONGEST_ANSWER_BYTES = 256 * 1024
/** Older ones go back to uWebSockets' own timeout: peers that vanished, or want to fill the house, must not pile up. */
const MAX_KEPT = 512
/** Where nobody is to be let in, so many are within a second all the same: a probe of another host that tries again may get through. */
const RESERVE = 8
const RESERVE_MS = 1000

/**
 * Keeps idle HTTP connections open for as long as their clients do. uWebSockets closes them after some
 * ten seconds and has no setting for it: a client that posts every ten seconds would now and then send
 * into a connection that is just being closed.
 *
 * Pausing and resuming a socket starts its timeout anew. That takes a handle that outlives requests,
 * and it must never be a handle of a socket that is gone. uWebSockets' filter gives both: a handle of
 * each connection that opens, and a call for each that closes. Which one closes it does not say; but
 * what is written to a closed socket goes nowhere and still counts as sent, and the count shows in the
 * handle that was kept.
 */
export class KeptConnections {
  readonly #maxOpen: number
  readonly #isClosed: () => boolean
  readonly #turnedAway: (reason: TurnedAway) => void
  /** Handles of sockets, in the order in which they came. Not responses: those end with their request. */
  readonly #sockets = new Set<HttpResponse>()
  readonly #timer: NodeJS.Timeout
  #open = 0
  /** Let in of the reserve since then. */
  #reserved = 0
  #reservedSinceMs = Number.NEGATIVE_INFINITY

  /**
   * @param maxOpen more are closed as they come
   * @param isClosed whether nobody of another host is to be let in at the moment, but for a few
   * @param turnedAway called for each that is closed as it comes
   */
  constructor(options: {
    maxOpen: number
    isClosed: () => boolean
    turnedAway: (reason: TurnedAway) => void
  }) {
    const { maxOpen, isClosed, turnedAway } = options
    this.#maxOpen = maxOpen
    this.#isClosed = isClosed
    this.#turnedAway = turnedAway
    this.#timer = setInterval(() => this.#touch(), TOUCH_INTERVAL_MS)
  }

  watch(app: TemplatedApp): void {
    app.filter((socket, change) => {
      if (change === 1) this.#opened(socket)
      else this.#closed(socket)
    })
  }

  /** HTTP connections open now. */
  get open(): number {
    return this.#open
  }

  /** Of those that may be open, 0 to 1. */
  get fullness(): number {
    return this.#open / this.#maxOpen
  }

  /**
   * The connection whose request is being handled becomes a WebSocket: uWebSockets moves it, and does not
   * report its end here. Of it is known where it comes from, and that it has sent nothing for this request yet;
   * others of which that is true too are forgotten with it, and fall back to uWebSockets' timeout.
   */
  upgrading(response: HttpResponse): void {
    this.#open--
    const address = addressOf(response)
    for (const socket of this.#sockets) {
      if (socket.getWriteOffset() === 0 && addressOf(socket).equals(address)) this.#sockets.delete(socket)
    }
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#sockets.clear()
  }

  #opened(socket: HttpResponse): void {
    this.#open++
    const reason = this.#reasonToClose(socket)
    if (reason !== null) {
      this.#turnedAway(reason)
      socket.close() // which calls #closed()
      return
    }
    this.#sockets.add(socket)
    if (this.#sockets.size > Math.min(MAX_KEPT, this.#maxOpen / 2)) {
      const [oldest] = this.#sockets
      this.#sockets.delete(oldest!)
    }
  }

  /** Null: it may stay. It is counted among the open ones already. */
  #reasonToClose(socket: HttpResponse): TurnedAway | null {
    if (this.#open > this.#maxOpen) return 'limit'
    return this.#isClosed() && !isOfThisHost(socket) && !this.#takeReserve(monotonicMs()) ? 'level' : null
  }

  #takeReserve(nowMs: number): boolean {
    if (nowMs - this.#reservedSinceMs >= RESERVE_MS) {
      this.#reservedSinceMs = nowMs
      this.#reserved = 0
    }
    return this.#reserved++ < RESERVE
  }

  #closed(closing: HttpResponse): void {
    this.#open--
    const sockets = [...this.#sockets]
    const before = sockets.map(socket => socket.getWriteOffset())
    closing.tryEnd('x', Number.MAX_SAFE_INTEGER)
    const closed = sockets.find((socket, index) => socket.getWriteOffset() !== before[index])
    if (closed !== undefined) this.#sockets.delete(closed)
    // Then one of them is gone and nobody knows which: uWebSockets' own timeout must do for all.
    if (this.#sockets.size > this.#open) this.#sockets.clear()
  }

  /** 0 is what a socket has sent that has asked nothing yet, or is asking: uWebSockets' timeout holds for it. */
  #touch(): void {
    for (const socket of this.#sockets) {
      const answeredBytes = socket.getWriteOffset()
      if (answeredBytes === 0 || answeredBytes > LONGEST_ANSWER_BYTES) continue
      socket.pause()
      socket.resume()
    }
  }
}

/** Where health checks of compose and systemd come from: 127.0.0.1, also as IPv6 writes it, ::1, and a Unix-domain socket. */
const LOOPBACK: ReadonlySet<string> = new Set([
  '7f000001',
  '00000000000000000000ffff7f000001',
  '00000000000000000000000000000001',
  '',
])

function isOfThisHost(socket: HttpResponse): boolean {
  return LOOPBACK.has(addressOf(socket).toString('hex'))
}

/** 4 or 16 bytes; none of a Unix-domain socket. */
function addressOf(socket: HttpResponse): Buffer {
  return Buffer.from(socket.getRemoteAddress())
}
