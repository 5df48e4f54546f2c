import type { HttpRequest, HttpResponse, TemplatedApp, us_socket_context_t, WebSocket } from 'uWebSockets.js'
import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../clock.ts'
import { LEVEL } from '../core/degradation.ts'
import type { Engine } from '../engine/engine.ts'
import type { BeginTrace, Witness } from '../engine/observer.ts'
import type { Access, Credentials } from './access.ts'
import { type Caller, callerOf, credentialsOf } from './caller.ts'
import { refusedFailure } from './exchange.ts'
import type { AnswerGate } from './gate.ts'
import type { RateLimits } from './rate-limit.ts'
import { errorAnswer, type Failure, FORBIDDEN, lengthOf, retryAfter, send } from './reply.ts'
import { requestIdOf } from './request-id.ts'
import type { FrontDoorMetrics } from './service.ts'
import {
  CLOSE,
  MAX_BUFFERED_BYTES,
  MAX_FRAME_BYTES,
  type Sender,
  Session,
  type SessionContext,
  type StreamClient,
} from './session.ts'
import type { Frame } from './variant.ts'

/** Where clients connect. */
export const STREAM_PATHS = ['/stream', '/ws/v1/analysis'] as const

/** The subprotocol that browsers name, and beside it one that carries their API key: they can set no headers. */
const PROTOCOL = 'hailo.v1'
const KEY_PROTOCOL = /^key\.(.+)$/
/** uWebSockets asks a silent peer for a sign of life in good time before this. */
const IDLE_SECONDS = 60
/** uWebSockets cuts a connection whose message is longer, without a word; up to this we can say why. */
const HARD_LIMIT_BYTES = 2 * MAX_FRAME_BYTES
const RETRY_MS = 1000
/** Once all is answered, so long may clients still send windows and be told "draining". */
const LINGER_MS = 100
/** So long the last bytes have to reach the clients. */
const FLUSH_MS = 100

/** For `GET /stream` by what does not ask for a WebSocket. */
export const UPGRADE_REQUIRED: Failure = {
  code: 'upgrade_required',
  detail: 'This is a WebSocket, expected Upgrade: websocket with Sec-WebSocket-Key and -Version 13',
  headers: { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13' },
}

export interface StreamSocketsContext {
  readonly engine: Engine
  readonly access: Access
  /** Null: every client may send as much as it likes. */
  readonly limits: RateLimits | null
  readonly session: SessionContext
  readonly maxConnections: number
  readonly metrics: FrontDoorMetrics
  readonly witness: Witness
  /** Null: nobody traces, and traceparent is not even read. */
  readonly beginTrace: BeginTrace | null
  readonly gate: AnswerGate
  /** The connection of the request being handled is about to leave HTTP: uWebSockets moves it, and does not say so. */
  onUpgrade(response: HttpResponse): void
}

interface UserData {
  readonly connection: Connection
}

/** `GET /stream`: lets clients in, and passes what they send to their sessions. All of uWebSockets' WebSockets. */
export class StreamSockets {
  readonly #context: StreamSocketsContext
  readonly #connections = new Set<Connection>()
  /** Clients since the start. */
  #count = 0

  constructor(context: StreamSocketsContext) {
    this.#context = context
  }

  addTo(app: TemplatedApp): void {
    for (const path of STREAM_PATHS) {
      app.ws<UserData>(path, {
        maxPayloadLength: HARD_LIMIT_BYTES,
        // A session gives up earlier; this holds what one flush may add.
        maxBackpressure: 4 * MAX_BUFFERED_BYTES,
        idleTimeout: IDLE_SECONDS,
        sendPingsAutomatically: true,
        upgrade: (response, request, socketContext) => {
          this.#upgrade(path, response, request, socketContext)
        },
        open: socket => this.#open(socket),
        message: (socket, message, isBinary) => {
          socket.getUserData().connection.session!.receive(new Uint8Array(message), isBinary)
        },
        drain: socket => socket.getUserData().connection.session!.drained(),
        close: socket => this.#closed(socket),
      })
    }
  }

  /** Tells every client that nothing new is admitted. Call when the engine has begun to drain. */
  drain(): void {
    for (const { session } of this.#connections) session!.drain()
  }

  /**
   * Ends all connections, once the engine has drained. Those who had not heard of it get a moment for
   * what they have sent meanwhile. Nobody is waited for longer: a reader may have stalled.
   */
  async close(): Promise<void> {
    if (this.#connections.size === 0) return
    await sleep(LINGER_MS)
    for (const { session } of this.#connections) session!.end(CLOSE.restart, 'the server is shutting down')
    await sleep(FLUSH_MS)
  }

  #upgrade(
    path: string,
    response: HttpResponse,
    request: HttpRequest,
    socketContext: us_socket_context_t,
  ): void {
    const startedMs = monotonicMs()
    const { engine, metrics, witness, gate, beginTrace } = this.#context
    // The request can be read only now: uWebSockets takes it back when this call returns.
    const key = request.getHeader('sec-websocket-key')
    const protocols = request.getHeader('sec-websocket-protocol').split(/ *, */)
    const asker = {
      requestId: requestIdOf(request.getHeader('x-request-id')),
      accept: request.getHeader('accept'),
      modelAvailable: engine.available,
    }
    const trace = beginTrace?.(request.getHeader('traceparent')) ?? null
    const { allowance, refusal: failure } = this.#checkHead(response, request, protocols)
    const answered = (status: number) =>
      metrics.answered('GET', path, status, (monotonicMs() - startedMs) / 1000)
    if (failure === null) {
      this.#context.onUpgrade(response)
      response.cork(() => {
        response.writeStatus('101 Switching Protocols')
        response.writeHeader('X-Request-ID', asker.requestId)
      })
      // Outside of the cork, and in the handler: where the socket keeps its address, cork() would go on to treat
      // it as HTTP and close it at times (uNetworking/uWebSockets#1929).
      const client = {
        endpoint: path,
        requestId: asker.requestId,
        stream: ++this.#count,
        trace,
        allowance,
      }
      const userData: UserData = { connection: new Connection(client) }
      response.upgrade(userData, key, protocols.includes(PROTOCOL) ? PROTOCOL : '', '', socketContext)
      return answered(101)
    }
    let gone = false
    response.onAborted(() => {
      gone = true
    })
    const origin = { endpoint: path, requestId: asker.requestId, trace }
    witness.windowFailed(failure.code, { ...origin, stream: 0, sequence: 0, arrivedMs: startedMs })
    const { headers, ...answer } = errorAnswer(failure, asker)
    const refusal = { ...answer, headers: { ...headers, 'X-Request-ID': asker.requestId } }
    gate.pass(lengthOf(refusal.body), () => {
      if (!gone) send(response, refusal, () => gone)
    })
    answered(answer.status)
  }

  /** Who the client is, and what keeps it out. */
  #checkHead(response: HttpResponse, request: HttpRequest, protocols: readonly string[]): Caller {
    const refusal = this.#checkUpgrade(request)
    if (refusal !== null) return { allowance: null, refusal }
    const caller = callerOf(request, response, keyOf(request, protocols), 0, this.#context)
    return caller.refusal === null ? { ...caller, refusal: this.#checkRoom() } : caller
  }

  #checkUpgrade(request: HttpRequest): Failure | null {
    const { access } = this.#context
    if (
      !/^websocket$/i.test(request.getHeader('upgrade')) ||
      request.getHeader('sec-websocket-version') !== '13'
    ) {
      return UPGRADE_REQUIRED
    }
    return access.admits(request.getHeader('origin'), request.getHeader('host')) ? null : FORBIDDEN
  }

  #checkRoom(): Failure | null {
    const { engine, maxConnections } = this.#context
    const headers = { 'Retry-After': retryAfter(RETRY_MS) }
    // Not let in either while no window would be: a client that sends what it has would only lose it.
    const refused = engine.refuseAll()
    if (refused !== null) return refusedFailure(refused)
    if (engine.level === LEVEL.reject) {
      const detail = 'No client is let in under this load; those that are connected are served'
      return { code: 'overloaded', status: 503, detail, headers }
    }
    if (this.#connections.size < maxConnections) return null
    const detail = `All ${maxConnections} connections that WS_MAX_CONNECTIONS allows are taken`
    return { code: 'overloaded', status: 503, detail, headers }
  }

  #open(socket: WebSocket<UserData>): void {
    const { connection } = socket.getUserData()
    connection.open(socket, this.#context.session)
    this.#connections.add(connection)
    this.#context.metrics.streaming(this.#connections.size)
  }

  #closed(socket: WebSocket<UserData>): void {
    const { connection } = socket.getUserData()
    connection.closed()
    this.#connections.delete(connection)
    this.#context.metrics.streaming(this.#connections.size)
  }
}

/** Of a browser's WebSocket, a subprotocol carries it. */
function keyOf(request: HttpRequest, protocols: readonly string[]): Credentials {
  const keyProtocol = protocols
    .map(protocol => KEY_PROTOCOL.exec(protocol)?.[1])
    .find(key => key !== undefined)
  const { apiKey, authorization } = credentialsOf(request)
  return { apiKey: apiKey || (authorization === '' ? (keyProtocol ?? '') : ''), authorization }
}

/** One socket, from open to closed: after that, uWebSockets throws when it is touched. */
class Connection implements Sender {
  session: Session | null = null
  readonly #client: StreamClient
  #socket: WebSocket<UserData> | null = null

  constructor(client: StreamClient) {
    this.#client = client
  }

  open(socket: WebSocket<UserData>, context: SessionContext): void {
    this.#socket = socket
    this.session = new Session(this, context, this.#client)
  }

  closed(): void {
    this.#socket = null
    this.session!.gone()
  }

  get bufferedBytes(): number {
    return this.#socket?.getBufferedAmount() ?? 0
  }

  send(frames: readonly Frame[]): void {
    this.#socket?.cork(() => {
      for (const frame of frames) this.#socket?.send(frame, typeof frame !== 'string')
    })
  }

  close(code: number, reason: string): void {
    this.#socket?.end(code, reason)
  }
}
