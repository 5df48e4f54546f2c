import type { WebSocketLike } from '../client/web-socket.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import {
  decodeHead,
  encodeFrame,
  type FrameName,
  frameName,
  type Head,
  headBytes,
  STREAM_VERSION,
  WINDOW_STATUSES,
  type WindowStatus,
} from '../src/http/frame.ts'

export const MOTIFS = 12

type Received = { [N in FrameName]: { name: N; head: Head<N>; payload: Uint8Array } }[FrameName]

/** The far end of one connection: the test plays the server. Nothing happens of its own accord. */
export class FakeSocket implements WebSocketLike {
  binaryType = 'blob'
  onopen: ((event: never) => void) | null = null
  onmessage: ((event: never) => void) | null = null
  onclose: ((event: never) => void) | null = null
  onerror: ((event: never) => void) | null = null
  readonly url: string
  readonly protocols: readonly string[] | undefined
  /** What the client has sent, decoded. */
  readonly received: Received[] = []
  state: 'connecting' | 'open' | 'closed' = 'connecting'
  /** Told of each frame as it comes. */
  onFrame: (frame: Received) => void = () => {}

  constructor(url: string, protocols?: string[]) {
    this.url = url
    this.protocols = protocols
  }

  // The client's side.

  send(data: Uint8Array<ArrayBuffer>): void {
    if (this.state === 'connecting') throw new Error('InvalidStateError: still connecting')
    if (this.state === 'closed') return
    const bytes = data.slice()
    const name = frameName(bytes)!
    const frame = {
      name,
      head: decodeHead(name, bytes),
      payload: bytes.subarray(headBytes(name)),
    } as Received
    this.received.push(frame)
    this.onFrame(frame)
  }

  close(): void {
    // The package `ws` emits an error when it is closed before it was open.
    if (this.state === 'connecting') queueMicrotask(() => this.onerror!({} as never))
    this.state = 'closed'
  }

  // The server's side.

  open(): void {
    this.state = 'open'
    this.#tell(this.onopen, {})
  }

  /** Closes the connection, as the peer or the network would: 1006 is no close frame, and an error. */
  drop(code = 1006): void {
    this.state = 'closed'
    if (code === 1006) this.#tell(this.onerror, {})
    this.#tell(this.onclose, { code })
  }

  /** Fails to connect as Node.js 20 and 22 tell it: with an error, and no close behind it. */
  fail(message?: string): void {
    this.state = 'closed'
    this.#tell(this.onerror, message === undefined ? {} : { message })
  }

  deliver(data: unknown): void {
    if (this.state === 'open') this.#tell(this.onmessage, { data })
  }

  say<Name extends FrameName>(name: Name, head: Head<Name>, payload?: Uint8Array): void {
    this.deliver(encodeFrame(name, head, payload).buffer)
  }

  /** Opens the connection and welcomes the client. */
  welcome(credits: number, overrides: Partial<Head<'welcome'>> = {}): void {
    this.open()
    this.say('welcome', {
      version: STREAM_VERSION,
      mode: 0,
      backend: 1,
      credits,
      motifs: MOTIFS,
      hop: 50,
      first: this.of('hello')[0]?.first ?? 0,
      deadlineMs: 40,
      model: Uint8Array.from({ length: 32 }, (_, index) => index * 7 + 1),
      ...overrides,
    })
  }

  /** Answers a window with what `resultFor` makes of it. */
  result(sequence: number, window: Float32Array, overrides: Partial<Head<'result'>> = {}): void {
    const { latent, motifScores } = resultFor(window)
    const output = Float32Array.of(...latent, ...motifScores)
    const head = {
      sequence,
      queueUs: 1500,
      inferUs: 250,
      status: 0,
      backend: 1,
      modelStart: 0x0801,
      ...overrides,
    }
    this.say('result', head, new Uint8Array(output.buffer))
  }

  /** @param sequence null: about the connection */
  error(sequence: number | null, status: WindowStatus, detail = 'because', retryAfterMs = 0): void {
    const head = {
      sequence: sequence ?? 0,
      hasSequence: sequence === null ? 0 : 1,
      status: WINDOW_STATUSES.indexOf(status),
      retryAfterMs,
    }
    this.say('error', head, new TextEncoder().encode(detail))
  }

  /** Heads of the frames of that name, in the order in which they came. */
  of<Name extends FrameName>(name: Name): Head<Name>[] {
    return this.received.filter(frame => frame.name === name).map(({ head }) => head as Head<Name>)
  }

  #tell(handler: ((event: never) => void) | null, event: object): void {
    handler?.(event as never)
  }
}

/** A WebSocket class, and the sockets that were made with it, the newest last. */
export function fakeWebSocket(onSocket: (socket: FakeSocket) => void = () => {}): {
  readonly WebSocket: new (url: string, protocols?: string[]) => FakeSocket
  readonly sockets: FakeSocket[]
  readonly last: FakeSocket
} {
  const sockets: FakeSocket[] = []
  class WebSocket extends FakeSocket {
    constructor(url: string, protocols?: string[]) {
      super(url, protocols)
      sockets.push(this)
      onSocket(this)
    }
  }
  return {
    WebSocket,
    sockets,
    get last(): FakeSocket {
      return sockets.at(-1)!
    },
  }
}

/** A window that follows from its sequence alone and is like no other. */
export function distinctWindow(sequence: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: 900 }, (_, value) => sequence + value / 1024)
}

/** What a model makes of a window: only its own values lead to it. */
export function resultFor(window: Float32Array) {
  return {
    latent: Float32Array.from({ length: LATENT_DIMS }, (_, dim) => window[dim * 13]! / 2),
    motifScores: Float32Array.from({ length: MOTIFS }, (_, motif) => window[motif * 71 + 5]! / 4),
  }
}

export function windowIn(payload: Uint8Array): Float32Array {
  return new Float32Array(payload.slice().buffer)
}
