import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { BACKENDS } from '../src/core/backend.ts'
import {
  decodeHead,
  encodeFrame,
  type FrameName,
  frameName,
  HELLO_FLAGS,
  headBytes,
  STREAM_MODES,
  STREAM_VERSION,
  type StreamMode,
  WINDOW_STATUSES,
} from '../src/http/frame.ts'
import { bytesOf, rowsOf } from './http-client.ts'

/** Bounds every wait, so that a server that stays silent fails the test with a reason. */
const PATIENCE_MS = 30_000
const ACCEPT_SALT = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
export const OPCODE = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

/** A frame of the server in the words of the JSON variant. Each has the fields of its type, and no other. */
export interface Said {
  readonly type: string
  readonly seq: number
  readonly n: number
  readonly credits: number
  readonly model_sha256: string
  readonly infer_us: number
  /** Latent and motif scores behind each other. */
  readonly bits: Float32Array
  readonly code: string
  readonly detail: string
}

export interface ConnectOptions {
  readonly path?: string
  readonly headers?: Record<string, string>
}

/** A bare RFC 6455 client: sends what it is told, right or wrong, and reads when it is asked to. */
export class WebSocketClient {
  readonly socket: Socket
  /** Of the answer to the handshake, names in lower case. */
  headers: Record<string, string> = {}
  status = 0
  /** Why the server has closed; 1006 when it did not say. Null while it has not. */
  closed: { code: number; reason: string } | null = null
  /** Pings of the server, answered by hand if at all. */
  pings = 0
  #received: Buffer = Buffer.alloc(0)
  readonly #messages: (string | Buffer)[] = []
  #wake = () => {}
  #upgraded = false

  private constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.socket.on('error', () => {})
    this.socket.on('data', bytes => {
      this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes])
      this.#parse()
      this.#wake()
    })
    this.socket.on('close', () => {
      this.closed ??= { code: 1006, reason: '' }
      this.#wake()
    })
  }

  /** Ends with the test, if not before. An answer other than 101 is in `status`. */
  static async open(
    { port }: { port: number },
    { path = '/stream', headers = {} }: ConnectOptions = {},
  ): Promise<WebSocketClient> {
    const client = new WebSocketClient(port)
    onTestFinished(() => void client.socket.destroy())
    const key = randomBytes(16).toString('base64')
    const all = {
      Host: `127.0.0.1:${port}`,
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Key': key,
      'Sec-WebSocket-Version': '13',
      ...headers,
    }
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
    client.socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
    await client.#until(() => client.status !== 0, 'answer to the handshake')
    const accept = createHash('sha1').update(`${key}${ACCEPT_SALT}`).digest('base64')
    if (client.status === 101 && client.headers['sec-websocket-accept'] !== accept) {
      throw new Error('wrong Sec-WebSocket-Accept')
    }
    return client
  }

  /** The body of an answer other than 101. */
  get body(): string {
    return this.#received.toString()
  }

  /** Messages that came and were not asked for yet. */
  get waiting(): number {
    return this.#messages.length
  }

  /** The next message, in one form. @throws when the server closes instead */
  async next(): Promise<Said> {
    await this.#until(() => this.#messages.length > 0 || this.closed !== null, 'message')
    const message = this.#messages.shift()
    if (message === undefined) throw new Error(`closed with ${JSON.stringify(this.closed)}`)
    return fromFrame(message)
  }

  /** The next message that is no credit. */
  async nextAnswer(): Promise<Said> {
    while (true) {
      const said = await this.next()
      if (said.type !== 'credit') return said
    }
  }

  /** So many results, errors and gaps, whatever credits come between. */
  async answers(count: number): Promise<Said[]> {
    const answers: Said[] = []
    while (answers.length < count) answers.push(await this.nextAnswer())
    return answers
  }

  /** Waits until the server closes. Resolves with why, and what else it has said. */
  async rest(): Promise<{ code: number; reason: string; said: Said[] }> {
    await this.#until(() => this.closed !== null, 'close')
    const said: Said[] = []
    while (this.#messages.length > 0) said.push(await this.next())
    return { ...this.closed!, said }
  }

  send(...messages: (string | Uint8Array)[]): void {
    this.socket.write(Buffer.concat(messages.map(message => wireOf(message))))
  }

  /** Stops reading: what the server sends stays in the kernel, then with the server. */
  stall(): void {
    this.socket.pause()
  }

  resume(): void {
    this.socket.resume()
  }

  hangUp(): void {
    this.socket.destroy()
  }

  async drained(): Promise<void> {
    if (this.socket.writableNeedDrain) await once(this.socket, 'drain')
  }

  async #until(holds: () => boolean, what: string): Promise<void> {
    const untilMs = performance.now() + PATIENCE_MS
    while (!holds()) {
      const leftMs = untilMs - performance.now()
      if (leftMs <= 0) throw new Error(`no ${what} in ${PATIENCE_MS} ms`)
      if (this.closed !== null && what !== 'close') throw new Error(`closed instead of ${what}`)
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, leftMs)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  #parse(): void {
    if (!this.#upgraded && !this.#parseHandshake()) return
    while (this.status === 101) {
      const frame = parseFrame(this.#received)
      if (frame === null) return
      this.#received = this.#received.subarray(frame.end)
      const { opcode, payload } = frame
      if (opcode === OPCODE.text) this.#messages.push(payload.toString())
      else if (opcode === OPCODE.binary) this.#messages.push(Buffer.from(payload))
      else if (opcode === OPCODE.ping) this.pings++
      else if (opcode === OPCODE.close) {
        const code = payload.length < 2 ? 1005 : payload.readUInt16BE(0) // 1005: it does not say
        this.closed = { code, reason: payload.toString('utf8', 2) }
        this.socket.end(wireOf(payload, { opcode: OPCODE.close }))
      }
    }
  }

  #parseHandshake(): boolean {
    const end = this.#received.indexOf('\r\n\r\n')
    if (end === -1) return false
    const [statusLine, ...lines] = this.#received.toString('latin1', 0, end).split('\r\n')
    const pairs = lines.map(line => line.split(': ', 2) as [string, string])
    this.headers = Object.fromEntries(pairs.map(([name, value]) => [name.toLowerCase(), value]))
    this.#received = this.#received.subarray(end + 4)
    this.status = Number(statusLine!.split(' ')[1])
    this.#upgraded = true
    return true
  }
}

/** A message as it goes over the wire, masked as a client must. */
export function wireOf(
  message: string | Uint8Array,
  { opcode = typeof message === 'string' ? OPCODE.text : OPCODE.binary }: { opcode?: number } = {},
): Buffer {
  const payload = Buffer.from(message)
  const mask = randomBytes(4)
  const head = Buffer.alloc(payload.length < 126 ? 2 : payload.length < 65_536 ? 4 : 10)
  head[0] = 0x80 | opcode
  head[1] = 0x80 | (head.length === 2 ? payload.length : head.length === 4 ? 126 : 127)
  if (head.length === 4) head.writeUInt16BE(payload.length, 2)
  if (head.length === 10) head.writeBigUInt64BE(BigInt(payload.length), 2)
  for (let index = 0; index < payload.length; index++) payload[index]! ^= mask[index & 3]!
  return Buffer.concat([head, mask, payload])
}

function parseFrame(bytes: Buffer): { opcode: number; payload: Buffer; end: number } | null {
  if (bytes.length < 2) return null
  const short = bytes[1]! & 0x7f
  const start = short === 126 ? 4 : short === 127 ? 10 : 2
  if (bytes.length < start) return null
  const length = start === 2 ? short : start === 4 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2))
  const end = start + length
  return bytes.length < end ? null : { opcode: bytes[0]! & 0x0f, payload: bytes.subarray(start, end), end }
}

/** What a client says, in the two variants of the frames. */
export interface Speech {
  readonly name: 'binary' | 'JSON'
  hello(options?: { mode?: StreamMode; hop?: number; first?: number; thin?: boolean }): string | Uint8Array
  window(sequence: number, window: Float32Array, deadlineMs?: number): string | Uint8Array
  samples(index: number, samples: Float32Array): string | Uint8Array
  cancel(sequence: number): string | Uint8Array
  bye(): string | Uint8Array
}

export const IN_BINARY: Speech = {
  name: 'binary',
  hello: ({ mode = 'windows', hop = 50, first = 0, thin = false } = {}) =>
    encodeFrame('hello', {
      version: STREAM_VERSION,
      mode: STREAM_MODES.indexOf(mode),
      flags: thin ? HELLO_FLAGS.thin : 0,
      hop,
      first,
    }),
  window: (sequence, window, deadlineMs = 0) =>
    encodeFrame('window', { sequence, deadlineMs }, bytesOf(window)),
  samples: (index, samples) => encodeFrame('samples', { index }, bytesOf(samples)),
  cancel: sequence => encodeFrame('cancel', { sequence }),
  bye: () => encodeFrame('bye', {}),
}

export const IN_JSON: Speech = {
  name: 'JSON',
  hello: ({ mode = 'windows', hop = 50, first = 0, thin = false } = {}) =>
    JSON.stringify({ type: 'hello', version: STREAM_VERSION, mode, hop, first, thin }),
  window: (sequence, window, deadlineMs = 0) =>
    JSON.stringify({ type: 'window', seq: sequence, deadline_ms: deadlineMs, x: rowsOf(window) }),
  samples: (index, samples) => JSON.stringify({ type: 'samples', index, samples: rowsOf(samples) }),
  cancel: sequence => JSON.stringify({ type: 'cancel', seq: sequence }),
  bye: () => JSON.stringify({ type: 'bye' }),
}

/** Says hello and takes the welcome. */
export async function greet(
  client: WebSocketClient,
  speech: Speech,
  options?: Parameters<Speech['hello']>[0],
): Promise<Said> {
  client.send(speech.hello(options))
  const welcome = await client.next()
  if (welcome.type !== 'welcome') throw new Error(`no welcome: ${JSON.stringify(welcome)}`)
  return welcome
}

/** A message of the server in one form, whichever variant it came in. */
export function fromFrame(message: string | Uint8Array): Said {
  return typeof message === 'string' ? fromJson(message) : fromBinary(Buffer.from(message))
}

function fromJson(text: string): Said {
  const said = JSON.parse(text)
  if (said.type !== 'result') return said
  return { ...said, bits: Float32Array.of(...said.latent, ...said.motif_scores) }
}

function fromBinary(bytes: Buffer): Said {
  const type = frameName(bytes)
  if (type === null) throw new Error('a frame of no type')
  return { ...fieldsOf(type, bytes), type } as unknown as Said
}

function fieldsOf(type: FrameName, bytes: Buffer): object {
  const payload = bytes.subarray(headBytes(type))
  switch (type) {
    case 'welcome': {
      const { version, credits, hop, first, mode, backend, motifs, deadlineMs, model } = decodeHead(
        type,
        bytes,
      )
      return {
        version,
        credits,
        hop,
        first,
        mode: STREAM_MODES[mode],
        backend: BACKENDS[backend],
        deadline_ms: deadlineMs,
        model_sha256: Buffer.from(model).toString('hex'),
        contract: { motif_classes: motifs },
      }
    }
    case 'result': {
      const { sequence, status, backend, modelStart, queueUs, inferUs } = decodeHead(type, bytes)
      return {
        seq: sequence,
        status: WINDOW_STATUSES[status],
        backend: BACKENDS[backend],
        // Two bytes: binary frames have no room for more.
        model_sha256: Buffer.of(modelStart, modelStart >>> 8).toString('hex'),
        queue_us: queueUs,
        infer_us: inferUs,
        bits: new Float32Array(Uint8Array.from(payload).buffer),
      }
    }
    case 'credit':
      return { n: decodeHead(type, bytes).count }
    case 'error': {
      const { sequence, status, hasSequence, retryAfterMs } = decodeHead(type, bytes)
      const about = hasSequence ? { seq: sequence } : {}
      return { ...about, code: WINDOW_STATUSES[status], detail: `${payload}`, retry_after_ms: retryAfterMs }
    }
    case 'gap': {
      const { missing, index, sequence } = decodeHead(type, bytes)
      return { missing, index, seq: sequence }
    }
    default:
      return {}
  }
}
