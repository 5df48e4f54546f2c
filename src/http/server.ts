import { once } from 'node:events'
import { chmod, rm } from 'node:fs/promises'
import { Readable, Writable } from 'node:stream'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { type Request, type Response, Server } from 'hyper-express'
import { UnusableKeyError } from '../certificate.ts'
import { monotonicMs } from '../clock.ts'
import type { TlsConfig } from '../config.ts'
import { LEVEL } from '../core/degradation.ts'
import { LATENT_DIMS } from '../core/window.ts'
import type { Model } from '../model.ts'
import { prefersPage } from './accept.ts'
import { Access } from './access.ts'
import { callerOf, credentialsOf } from './caller.ts'
import { encodeOperation, root, status, TEST } from './compat.ts'
import { DOCS_PAGES } from './docs-page.ts'
import { type InferenceContext, overloadedHead, provenanceOf, resultHeads } from './exchange.ts'
import { assertFree } from './free-port.ts'
import { AnswerGate, CORKED_BYTES } from './gate.ts'
import { healthz, readyz } from './health.ts'
import { INFER, InferenceExchange, type Operation } from './infer.ts'
import { KeptConnections } from './keep-alive.ts'
import { live } from './live.ts'
import { methodLabel } from './methods.ts'
import { livePage } from './page.ts'
import { RateLimits } from './rate-limit.ts'
import { type Answer, type Asker, errorAnswer, type Failure, jsonAnswer } from './reply.ts'
import { requestIdOf } from './request-id.ts'
import type { Service } from './service.ts'
import { LARGEST_CREDITS, markOf } from './session.ts'
import { STREAM_PATHS, StreamSockets, UPGRADE_REQUIRED } from './socket.ts'
import { clearSocketPath } from './socket-path.ts'
import { EventLoopTurn } from './turn.ts'
import { V2Routes } from './v2/routes.ts'

type ListenSocket = Awaited<ReturnType<Server['listen']>>

/** For browsers, whatever page it is: it is what its type says, in no frame, and loads nothing but what its own policy allows. */
const SAFETY = {
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
}

/** For a year. */
const ONLY_TLS = { 'Strict-Transport-Security': 'max-age=31536000' }

const BARE = {
  auto_close: false, // signals belong to assemble.ts
  max_body_length: Number.MAX_SAFE_INTEGER, // bodies are limited where they are read, with our own answer
}

/** Of hyper-express, and not in its types: puts the routes in place, as listen() does. */
interface Compilable {
  _compile(): void
}

/** Of uWebSockets, and not in its types: an app may hand what it accepts to others, in turns. */
interface SharedApp {
  getDescriptor(): number
  addChildAppDescriptor(descriptor: number): void
  removeChildAppDescriptor(descriptor: number): void
}

/** Answers a request without a body. */
type Page = (asker: Asker, query: URLSearchParams) => Answer | Promise<Answer>

const PREFLIGHT = 'preflight'
const PREFLIGHT_ANSWER: Answer = {
  status: 200, // not 204: hyper-express cannot send one, the connection would be lost
  headers: {
    'Access-Control-Allow-Methods': 'GET, POST',
    'Access-Control-Allow-Headers':
      'Authorization, Content-Encoding, Content-Type, Inference-Header-Content-Length, X-API-Key, X-Correlation-ID, X-Deadline-Ms, X-Request-ID',
    'Access-Control-Max-Age': '600',
  },
  body: '',
}

/**
 * Open to everyone, also when an API key is configured: probes, scrapers and preflights carry none, nor
 * do browsers that open a page.
 */
const WITHOUT_KEY = new Set([
  '/healthz',
  '/readyz',
  '/metrics',
  '/openapi.json',
  ...Object.keys(DOCS_PAGES),
  PREFLIGHT,
])
const ROOT = '/'

/** After the last result, so long may clients with an idle connection still ask and be told "draining". */
const LINGER_MS = 1000
/** Longer ones go out as they are read, in pieces. */
const LONG_BODY_BYTES = 64 * 1024
/** So long answers are held while the port closes, and so long they have afterwards to reach the clients. */
const HOLD_MS = 50
const FLUSH_MS = 200

/** Of a Unix-domain socket: its owner and its group may connect. */
const SOCKET_MODE = 0o660

/** The front door: every route, all of hyper-express. */
export class FrontDoor {
  readonly #service: Service
  readonly #access: Access
  readonly #safety: Readonly<Record<string, string>>
  readonly #operations: readonly Operation[]
  readonly #pages: Readonly<Record<string, Page>>
  readonly #v2: V2Routes
  readonly #context: InferenceContext
  /** The first listens on the port. With TLS there is one for each certificate, and one for the Unix-domain socket. */
  readonly #servers: Server[] = []
  /** Gets who connects, in place of the one that listens. Null before the certificate was renewed. */
  #newest: Server | null = null
  readonly #limits: RateLimits | null
  readonly #gate = new AnswerGate()
  readonly #connections: KeptConnections
  readonly #turn = new EventLoopTurn()
  readonly #uploads: InferenceContext['uploads'] = new Set()
  readonly #sockets: StreamSockets
  readonly #listening: ListenSocket[] = []
  #socketPath: string | null = null
  /** Made when somebody asks for it: few do. It names the version of its model. */
  #openApi: { readonly model: Model; readonly answer: Promise<Answer> } | null = null
  /** Null: it was not built. */
  readonly #livePage = livePage()

  /** @throws UnusableKeyError, see serverWithTls() */
  constructor(service: Service) {
    this.#service = service
    this.#access = new Access(service.config)
    this.#safety = service.config.tls === null ? SAFETY : { ...SAFETY, ...ONLY_TLS }
    this.#connections = new KeptConnections({
      maxOpen: service.config.maxConnections,
      isClosed: () => service.engine.level === LEVEL.reject,
      turnedAway: reason => service.metrics.turnedAway(reason),
    })
    this.#limits = RateLimits.of(service.config.rateLimits)
    this.#operations = [
      { ...INFER, endpoint: '/infer' },
      { ...INFER, endpoint: '/infer/infer' },
      { ...INFER, endpoint: '/' },
      encodeOperation(service),
      ...(service.config.testEndpoints ? [TEST] : []),
    ]
    this.#pages = {
      ...this.#livePage,
      [ROOT]: asker => (this.#isForPage(ROOT, asker.accept) ? this.#livePage![ROOT]!() : root(service)),
      '/healthz': () => healthz(service),
      '/readyz': () => readyz(service),
      '/status': () => status(service),
      '/live': (asker, query) => live(service, asker, query),
      '/metrics': async ({ accept }) => {
        const { contentType, text } = await service.metrics.scrape(accept)
        return { status: 200, headers: { 'Content-Type': contentType }, body: text }
      },
      '/openapi.json': () => this.#describe(),
      ...DOCS_PAGES,
      ...Object.fromEntries(STREAM_PATHS.map(path => [path, failing(UPGRADE_REQUIRED)])),
    }
    this.#sockets = this.#makeSockets()
    this.#context = this.#makeContext()
    this.#v2 = new V2Routes(service, this.#context)
    this.#addServer(service.config.tls)
  }

  /** Whether browsers get the live page. */
  get hasPage(): boolean {
    return this.#livePage !== null
  }

  /** HTTP connections, of those that may be open. */
  get fullness(): number {
    return this.#connections.fullness
  }

  /** Resolves with the port, which the system chose when `port` is 0. @throws when it is taken */
  async listen(host: string, port: number): Promise<number> {
    await assertFree(host, port)
    const [server] = this.#servers
    this.#listening.push(await server!.listen(port, host))
    return server!.port
  }

  /**
   * Shows the certificate that lies in the files now to those who connect from here on, and leaves the others their
   * connections. uWebSockets reads certificates when an app is made, and only then: so another app is made, and the one
   * that listens hands what it accepts to it. @throws when uWebSockets cannot read it; nothing has changed then
   */
  renewCertificate(): void {
    const listening = appOf(this.#servers[0]!)
    const before = this.#newest
    const server = this.#addServer(this.#service.config.tls)
    ;(server as unknown as Compilable)._compile()
    listening.addChildAppDescriptor(appOf(server).getDescriptor())
    if (before !== null) listening.removeChildAppDescriptor(appOf(before).getDescriptor())
    this.#newest = server
  }

  /** Tells those who are connected for long that nothing new is admitted. Call when the engine has begun to drain. */
  drain(): void {
    this.#sockets.drain()
    for (const upload of this.#uploads) upload.drain()
  }

  /** The same routes, never with TLS, for processes of this machine. @param path absolute, 107 bytes at most @throws when it is taken */
  async listenOnPath(path: string): Promise<void> {
    await clearSocketPath(path)
    const server = this.#service.config.tls === null ? this.#servers[0]! : this.#addServer(null)
    const socket = await server.listen(path).catch(() => {
      throw new Error('the socket cannot be made, its folder must exist and be writable')
    })
    this.#listening.push(socket)
    this.#socketPath = path
    await chmod(path, SOCKET_MODE) // until here, nobody but its owner could connect
  }

  /**
   * Ends the front door after the engine has drained: clients with a connection get a while to ask
   * once more and be told; then the port closes, in a moment in which nobody is connecting anew.
   */
  async close(): Promise<void> {
    await Promise.all([this.#sockets.close(), this.#untilNobodyIsConnected(LINGER_MS)])
    this.#connections.stop()
    this.#gate.shut()
    if (this.#socketPath !== null) await rm(this.#socketPath, { force: true })
    await sleep(HOLD_MS)
    for (const socket of this.#listening) this.#servers[0]!.close(socket)
    this.#gate.open()
    await this.#untilNobodyIsConnected(FLUSH_MS)
    for (const server of this.#servers) server.uws_instance.close()
  }

  async #untilNobodyIsConnected(timeoutMs: number): Promise<void> {
    const untilMs = monotonicMs() + timeoutMs
    while (this.#connections.open > 0 && monotonicMs() < untilMs) await sleep(10)
  }

  #describe(): Promise<Answer> {
    const model = this.#service.models.current
    if (this.#openApi?.model !== model) this.#openApi = { model, answer: openApi(this.#service) }
    return this.#openApi.answer
  }

  /** A server with all routes. @throws UnusableKeyError, see serverWithTls() */
  #addServer(tls: TlsConfig | null): Server {
    const server = tls === null ? new Server(BARE) : serverWithTls(tls)
    this.#connections.watch(server.uws_instance)
    this.#sockets.addTo(server.uws_instance)
    this.#v2.addTo(server.uws_instance)
    this.#addOperations(server)
    this.#addPages(server)
    this.#addRefusals(server)
    this.#servers.push(server)
    return server
  }

  /** The hot routes go straight to uWebSockets: hyper-express' wrappers would cost as much as all the rest. */
  #addOperations(server: Server): void {
    for (const operation of this.#operations) {
      server.uws_instance.post(operation.endpoint, (response, request) => {
        new InferenceExchange(response, request, operation, this.#context)
      })
    }
  }

  #makeContext(): InferenceContext {
    const { config, models, engine, metrics, witness, beginTrace } = this.#service
    return {
      engine,
      provenance: models.told(provenanceOf),
      resultHeads: models.told((model, backend) =>
        resultHeads(provenanceOf(model, backend), config.configVersion),
      ),
      overloadedHead: models.told((model, backend) =>
        overloadedHead(provenanceOf(model, backend), config.configVersion),
      ),
      withoutResult: () => models.source(config.mode),
      configVersion: config.configVersion,
      access: this.#access,
      limits: this.#limits,
      deadlineMs: config.deadlineMs,
      maxDeadlineMs: config.maxDeadlineMs,
      maxWindowsPerRequest: config.maxWindowsPerRequest,
      resultBytes: (LATENT_DIMS + config.motifCount) * 4,
      uploads: this.#uploads,
      metrics,
      witness,
      beginTrace,
      turn: this.#turn,
      gate: this.#gate,
    }
  }

  #makeSockets(): StreamSockets {
    const { config, models, engine, metrics, witness, beginTrace } = this.#service
    return new StreamSockets({
      engine,
      access: this.#access,
      limits: this.#limits,
      metrics,
      witness,
      beginTrace,
      gate: this.#gate,
      maxConnections: config.streamConnections,
      session: {
        engine,
        backend: config.mode,
        models,
        mark: models.told(markOf),
        motifCount: config.motifCount,
        credits: Math.min(LARGEST_CREDITS, config.workers * config.ringSlots),
        deadlineMs: config.deadlineMs,
        maxDeadlineMs: config.maxDeadlineMs,
        metrics,
        witness,
        turn: this.#turn,
      },
      onUpgrade: response => this.#connections.upgrading(response),
    })
  }

  #addPages(server: Server): void {
    for (const [endpoint, page] of Object.entries(this.#pages)) {
      const handler = this.#handlerOf(endpoint, page)
      server.get(endpoint, handler)
      server.head(endpoint, handler)
    }
  }

  /** What is left: a known path with another method, a page asking whether it may, an unknown path. */
  #addRefusals(server: Server): void {
    const pages = this.#pages
    const operations = this.#operations
    const endpoints = new Set([...Object.keys(pages), ...operations.map(({ endpoint }) => endpoint)])
    for (const endpoint of endpoints) {
      const methods: string[] = pages[endpoint] ? ['GET', 'HEAD'] : []
      if (operations.some(operation => operation.endpoint === endpoint)) methods.push('POST')
      const allow = methods.join(', ')
      const refuse = failing({
        code: 'method_not_allowed',
        detail: `${endpoint} answers to ${allow} only`,
        headers: { Allow: allow },
      })
      server.any(endpoint, this.#handlerOf(endpoint, refuse))
    }
    if (this.#access.usesCors)
      server.options(
        '/*',
        this.#handlerOf(PREFLIGHT, () => PREFLIGHT_ANSWER),
      )
    const nothingHere = failing({
      code: 'not_found',
      detail: 'There is nothing here; GET / lists what there is',
    })
    server.set_not_found_handler(this.#handlerOf('unknown', nothingHere))
    server.set_error_handler((request, response, error) => {
      this.#service.log.error({ err: error }, 'a request could not be answered')
      const admit = failing({ code: 'internal_error', detail: 'The server failed; its log says how' })
      return this.#handlerOf('unknown', admit)(request, response)
    })
  }

  /** Whether the live page or a part of it is asked for: these hold nothing that needs a key. */
  #isForPage(endpoint: string, accept: string): boolean {
    if (this.#livePage === null || !(endpoint in this.#livePage)) return false
    return endpoint !== ROOT || prefersPage(accept)
  }

  /** Call at once: the request can be read only within the handler. */
  #refusalOf({ raw: request }: Request, { raw: response }: Response): Failure | null {
    return callerOf(request, response, credentialsOf(request), 0, this.#context).refusal
  }

  #handlerOf(endpoint: string, page: Page) {
    const { metricsKey } = this.#service.config
    const needsKey = !WITHOUT_KEY.has(endpoint) || (endpoint === '/metrics' && metricsKey)
    return async (request: Request, response: Response): Promise<void> => {
      const startedMs = monotonicMs()
      const header = (name: string) => request.headers[name] ?? ''
      const { engine, metrics } = this.#service
      const asker = {
        requestId: requestIdOf(header('x-request-id')),
        accept: header('accept'),
        modelAvailable: engine.available,
      }
      const isOpen = !needsKey || this.#isForPage(endpoint, asker.accept)
      const refusal = isOpen ? null : this.#refusalOf(request, response)
      const query = new URLSearchParams(request.path_query)
      const answer = await (refusal === null ? page : failing(refusal))(asker, query)

      const headers = {
        ...this.#safety,
        ...this.#access.corsHeaders(header('origin')),
        ...answer.headers,
        'X-Request-ID': asker.requestId,
      }
      response.status(answer.status)
      for (const [name, value] of Object.entries(headers)) response.header(name, value)
      // uWebSockets takes a HEAD answer that names a length for unfinished: no request can follow it.
      const last = answer.close || engine.draining || request.method === 'HEAD'
      const body = answer.body as string | Buffer
      if (body.length > CORKED_BYTES && !request.received) await untilReceived(request)
      this.#gate.pass(body.length, () => {
        // A reader that stops must not make uWebSockets hold what it has not taken.
        const isLong = typeof body !== 'string' && body.length > LONG_BODY_BYTES && !last
        if (isLong) void response.stream(Readable.from(piecesOf(body)), body.length)
        else response.send(body, last)
      })
      const seconds = (monotonicMs() - startedMs) / 1000
      metrics.answered(methodLabel(request.method), endpoint, answer.status, seconds)
    }
  }
}

/** Resolves when nothing of the request is being read any more: hyper-express would answer within that, see AnswerGate. */
async function untilReceived(request: Request): Promise<void> {
  const received = once(request, 'received')
  // Thrown away: hyper-express stops reading what nobody takes.
  request.pipe(new Writable({ write: (_part, _encoding, done) => done() }))
  await received
  await nextTurn()
}

/** @throws UnusableKeyError */
function serverWithTls({ certPath, keyPath }: TlsConfig): Server {
  try {
    return new Server({ ...BARE, cert_file_name: certPath, key_file_name: keyPath })
  } catch {
    throw new UnusableKeyError()
  }
}

/** Loads what describes the server only where somebody asks for it: the start need not wait for that. */
async function openApi(service: Service): Promise<Answer> {
  const { openApiOf } = await import('./openapi.ts')
  return jsonAnswer(200, openApiOf(service))
}

function appOf(server: Server): SharedApp {
  return server.uws_instance as unknown as SharedApp
}

function failing(failure: Failure): Page {
  return asker => errorAnswer(failure, asker)
}

function* piecesOf(body: Buffer): Iterable<Buffer> {
  for (let at = 0; at < body.length; at += LONG_BODY_BYTES) yield body.subarray(at, at + LONG_BODY_BYTES)
}
