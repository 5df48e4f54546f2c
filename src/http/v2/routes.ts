import type { HttpRequest, HttpResponse, TemplatedApp } from 'uWebSockets.js'
import { monotonicMs } from '../../clock.ts'
import { Body, type BodyReader } from '../body.ts'
import { callerOf, credentialsOf } from '../caller.ts'
import type { InferenceContext } from '../exchange.ts'
import { methodLabel } from '../methods.ts'
import { type Answer, type Failure, FORBIDDEN, jsonAnswer, lengthOf, send } from '../reply.ts'
import { requestIdOf } from '../request-id.ts'
import type { Service } from '../service.ts'
import { type V2Context, V2Exchange } from './infer.ts'
import { modelConfig, modelMetadata, ready, serverMetadata } from './model.ts'
import { OnePerTurn } from './one-per-turn.ts'
import { emptyAnswer, v2Error } from './reply.ts'
import { loadModel, repositoryIndex, unloadModel } from './repository.ts'
import { maxBatchOf } from './schema.ts'
import { Statistics } from './statistics.ts'

/** Answers a request that infers nothing. @param body empty with GET, for the length of the call only */
type Page = (body: Uint8Array) => Answer | Promise<Answer>

/** One path, by its pattern: that is what metrics call it, too. */
interface Route {
  readonly method: 'GET' | 'POST'
  readonly pattern: string
  /** Null: it infers. */
  readonly page: Page | null
  /** Open to everyone, also when an API key is configured. */
  readonly withoutKey?: boolean
}

const NO_BODY = new Uint8Array(0)
/** Of the requests that infer nothing. */
const MAX_BODY_BYTES = 64 * 1024

/** The Open Inference Protocol: all of `/v2`. */
export class V2Routes {
  readonly #service: Service
  readonly #context: V2Context

  constructor(service: Service, context: InferenceContext) {
    const { config } = service
    this.#service = service
    this.#context = {
      ...context,
      modelName: service.models.current.servedName,
      modelVersion: service.models.told(({ version }) => version),
      maxBatch: maxBatchOf(config),
      statistics: new Statistics(),
      largeBodies: new OnePerTurn(),
    }
  }

  addTo(app: TemplatedApp): void {
    const routes = this.#routes()
    for (const route of routes) {
      const handle = (response: HttpResponse, request: HttpRequest) => this.#handle(response, request, route)
      if (route.method === 'GET') app.get(route.pattern, handle)
      else app.post(route.pattern, handle)
    }
    for (const { method, pattern } of routes) {
      const refuse = refusing({
        code: 'method_not_allowed',
        detail: `${pattern} answers to ${method} only`,
        headers: { Allow: method },
      })
      app.any(pattern, (response, request) => this.#answer(response, request, pattern, refuse))
    }
    const nothingHere = refusing({
      code: 'not_found',
      detail: 'There is nothing here; GET /v2 tells what this server is',
    })
    app.any('/v2/*', (response, request) => this.#answer(response, request, '/v2/*', nothingHere))
  }

  #routes(): Route[] {
    const service = this.#service
    const { statistics, maxBatch } = this.#context
    const stats = () => jsonAnswer(200, statistics.report(service))
    const ofModel = ['/v2/models/:model', '/v2/models/:model/versions/:version'].flatMap((path): Route[] => [
      { method: 'GET', pattern: path, page: () => modelMetadata(service) },
      { method: 'GET', pattern: `${path}/ready`, page: () => ready(service) },
      { method: 'GET', pattern: `${path}/config`, page: () => modelConfig(service, maxBatch) },
      { method: 'GET', pattern: `${path}/stats`, page: stats },
      { method: 'POST', pattern: `${path}/infer`, page: null },
    ])
    const repository = '/v2/repository/models/:model'
    return [
      { method: 'GET', pattern: '/v2', page: () => serverMetadata(service) },
      { method: 'GET', pattern: '/v2/health/live', page: emptyAnswer, withoutKey: true },
      { method: 'GET', pattern: '/v2/health/ready', page: () => ready(service), withoutKey: true },
      { method: 'GET', pattern: '/v2/models/stats', page: stats },
      ...ofModel,
      { method: 'POST', pattern: '/v2/repository/index', page: body => repositoryIndex(service, body) },
      { method: 'POST', pattern: `${repository}/load`, page: body => loadModel(service, body) },
      { method: 'POST', pattern: `${repository}/unload`, page: body => unloadModel(service, body) },
    ]
  }

  #handle(response: HttpResponse, request: HttpRequest, route: Route): void {
    const { pattern, page, method, withoutKey = false } = route
    const unknown = this.#unknownIn(pattern, request)
    if (unknown !== null) this.#answer(response, request, pattern, refusing(unknown))
    else if (page === null) new V2Exchange(response, request, pattern, this.#context)
    else this.#answer(response, request, pattern, page, { takesBody: method === 'POST', withoutKey })
  }

  /** What the path names and this server does not have. */
  #unknownIn(pattern: string, request: HttpRequest): Failure | null {
    const { servedName, version } = this.#service.models.current
    const known = pattern.split('/').filter(part => part.startsWith(':'))
    for (const [index, parameter] of known.entries()) {
      const expected = parameter === ':model' ? servedName : version
      if (decoded(request.getParameter(index) ?? '') === expected) continue
      const what = parameter === ':model' ? 'model' : 'version of the model'
      return { code: 'not_found', detail: `There is no such ${what} here, only ${expected}` }
    }
    return null
  }

  #answer(
    response: HttpResponse,
    request: HttpRequest,
    pattern: string,
    page: Page,
    { takesBody = false, withoutKey = false } = {},
  ): void {
    const { access, gate, metrics, engine } = this.#context
    const startedMs = monotonicMs()
    // The request can be read only now: uWebSockets takes it back when the handler returns.
    const method = request.getMethod().toUpperCase()
    const headers = {
      ...access.corsHeaders(request.getHeader('origin')),
      'X-Request-ID': requestIdOf(request.getHeader('x-request-id')),
    }
    let gone = false
    response.onAborted(() => {
      gone = true
    })
    const reply = (answer: Answer) => {
      // A HEAD answer has no body, and uWebSockets lets no request follow it.
      const head = method === 'HEAD'
      const close = answer.close || engine.draining || head
      const whole = { ...answer, headers: { ...answer.headers, ...headers }, close }
      gate.pass(lengthOf(answer.body), () => {
        if (!gone) send(response, head ? { ...whole, body: '' } : whole, () => gone)
      })
      const seconds = (monotonicMs() - startedMs) / 1000
      metrics.answered(methodLabel(method), pattern, answer.status, seconds)
    }

    // A simple request of any type needs no preflight: it would come to here from every page.
    const mayCall = method !== 'POST' || access.admits(request.getHeader('origin'), request.getHeader('host'))
    if (!mayCall) return reply(v2Error(FORBIDDEN))
    const credentials = credentialsOf(request)
    const refusal = withoutKey ? null : callerOf(request, response, credentials, 0, this.#context).refusal
    if (refusal !== null) return reply(v2Error(refusal))
    const answer = (body: Uint8Array) => {
      const answered = page(body)
      if (answered instanceof Promise) void answered.then(reply)
      else reply(answered)
    }
    if (!takesBody) return answer(NO_BODY)
    const reader: BodyReader = {
      onBody: answer,
      onPart: () => {},
      onTooLarge: bytes =>
        reply(
          v2Error({
            code: 'body_too_large',
            detail: `The body has ${bytes} bytes or more, expected at most ${MAX_BODY_BYTES}`,
          }),
        ),
    }
    new Body(response, MAX_BODY_BYTES, reader, gate)
  }
}

function refusing(failure: Failure): Page {
  return () => v2Error(failure)
}

/** A part of a path as the client meant it; null when it is not one. */
function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part)
  } catch {
    return null
  }
}
