import { once } from 'node:events'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { CHANNELS } from '../src/core/window.ts'

export const JSON_TYPE = 'application/json'
export const OCTET_STREAM = 'application/octet-stream'
/** Bounds every wait, so that a server that stays silent fails the test with a reason. */
const PATIENCE_MS = 30_000
/** Less than servers keep a connection that idles: none is used again just as it is closed. */
const LONGEST_IDLE_MS = 5000

export type Answer = ReturnType<typeof answerOf>
type Headers = Record<string, string>
type Server = { readonly port: number }

const agent = new Agent({ keepAlive: true, timeout: LONGEST_IDLE_MS })

/** Asks over a connection that is kept alive. @param route as in `POST /infer` */
export async function ask(
  { port }: Server,
  route: string,
  { headers = {}, body = '' }: { headers?: Headers; body?: string | Uint8Array } = {},
): Promise<Answer> {
  const [method, path] = route.split(' ')
  const timeout = PATIENCE_MS
  const outgoing = request({ agent, host: '127.0.0.1', port, method, path, headers, timeout })
  outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer to ${route} in ${PATIENCE_MS} ms`)))
  outgoing.end(body)
  const [incoming] = await once(outgoing, 'response')
  return answerOf(incoming.statusCode, incoming.headers, await buffer(incoming))
}

/** Posts a window to /infer, as JSON unless the headers say octet-stream. */
export function postWindow(server: Server, window: Float32Array, headers: Headers = {}): Promise<Answer> {
  const binary = headers['Content-Type'] === OCTET_STREAM
  return ask(server, 'POST /infer', {
    headers: { 'Content-Type': JSON_TYPE, ...headers },
    body: binary ? bytesOf(window) : jsonOf(window),
  })
}

export function jsonOf(window: Float32Array): string {
  return JSON.stringify({ x: rowsOf(window) })
}

export function bytesOf(window: Float32Array): Uint8Array {
  return new Uint8Array(window.buffer, window.byteOffset, window.byteLength)
}

export function rowsOf(window: Float32Array): number[][] {
  return Array.from({ length: window.length / CHANNELS }, (_, step) =>
    Array.from(window.subarray(step * CHANNELS, (step + 1) * CHANNELS)),
  )
}

/** The latent and the motif scores behind each other, however they were sent. */
export function resultOf(answer: Answer): Float32Array {
  if (answer.headers['content-type'] !== OCTET_STREAM) {
    return Float32Array.of(...answer.json.latent, ...answer.json.motif_scores)
  }
  return new Float32Array(Uint8Array.from(answer.body).buffer) // copied: a Buffer may begin anywhere in its pool
}

/** The head of a request as it goes over the wire. Nothing is added but Host: no Content-Length either. */
export function headOf(route: string, headers: Record<string, string | number> = {}): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${route} HTTP/1.1\r\nHost: test\r\n${lines.join('')}\r\n`
}

/** A whole POST to /infer as it goes over the wire. */
export function postOf(body: string | Uint8Array, headers: Record<string, string | number> = {}): Buffer {
  const bytes = Buffer.from(body)
  return Buffer.concat([
    Buffer.from(headOf('POST /infer', { 'Content-Length': bytes.length, ...headers })),
    bytes,
  ])
}

/** A bare connection: sends what it is told, right or wrong, and reads one answer after the other. */
export class Connection {
  readonly #socket: Socket
  readonly #chunks: AsyncIterator<Buffer>
  #received: Buffer = Buffer.alloc(0)

  private constructor(socket: Socket, patienceMs: number) {
    this.#socket = socket
    this.#chunks = socket[Symbol.asyncIterator]()
    socket.on('error', () => {}) // told by #read()
    socket.setTimeout(patienceMs, () => socket.destroy(new Error(`silence for ${patienceMs} ms`)))
  }

  /** Ends with the test, if not before. @param localAddress a loopback address, to be somebody else */
  static async open(
    { port }: Server,
    { patienceMs = PATIENCE_MS, localAddress = '127.0.0.1' } = {},
  ): Promise<Connection> {
    const socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true })
    onTestFinished(() => void socket.destroy())
    await once(socket, 'connect')
    return new Connection(socket, patienceMs)
  }

  send(...parts: (string | Uint8Array)[]): void {
    this.#socket.write(Buffer.concat(parts.map(part => Buffer.from(part))))
  }

  /** Sends so many bytes at a time, each in a TCP segment of its own. */
  async sendInSegments(bytes: Uint8Array, segmentBytes: number): Promise<void> {
    for (let at = 0; at < bytes.length; at += segmentBytes) {
      this.send(bytes.subarray(at, at + segmentBytes))
      await nextTurn()
    }
  }

  /** The next answer. @throws when the server closes the connection instead */
  async answer(): Promise<Answer> {
    while (!this.#received.includes('\r\n\r\n')) {
      if (!(await this.#read())) throw new Error(`closed after ${JSON.stringify(String(this.#received))}`)
    }
    const [statusLine, ...lines] = String(this.#take(this.#received.indexOf('\r\n\r\n') + 4)).split('\r\n')
    const pairs = lines.filter(line => line !== '').map(line => line.split(': ', 2) as [string, string])
    const headers = Object.fromEntries(pairs.map(([name, value]) => [name.toLowerCase(), value]))
    const length = Number(headers['content-length'] ?? 0)
    while (this.#received.length < length && (await this.#read()));
    return answerOf(Number(statusLine!.split(' ')[1]), headers, this.#take(length))
  }

  /** Waits until the server closes the connection. Returns what else it has sent. */
  async rest(): Promise<string> {
    while (await this.#read());
    return String(this.#take(this.#received.length))
  }

  /** Says that nothing more will be sent; still listens. */
  end(): void {
    this.#socket.end()
  }

  /** Hangs up. */
  close(): void {
    this.#socket.destroy()
  }

  /** False at the end of the connection. */
  async #read(): Promise<boolean> {
    try {
      const { value, done } = await this.#chunks.next()
      if (!done) this.#received = Buffer.concat([this.#received, value])
      return !done
    } catch (error) {
      // A server that has enough closes with a reset when bytes are still on their way to it.
      if (['ECONNRESET', 'EPIPE'].includes((error as NodeJS.ErrnoException).code!)) return false
      throw error
    }
  }

  #take(length: number): Buffer {
    const taken = this.#received.subarray(0, length)
    this.#received = this.#received.subarray(length)
    return taken
  }
}

function answerOf(status: number, headers: IncomingHttpHeaders, body: Buffer) {
  return {
    status,
    /** Names in lower case. */
    headers,
    body,
    /** The body, parsed. */
    get json() {
      return JSON.parse(String(body))
    },
  }
}
