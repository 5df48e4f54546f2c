import { TIMESTEPS } from '../core/window.ts'
import { AT_REST } from './compat.ts'
import { type ErrorCode, REPLY } from './reply.ts'

/** What the OpenAPI document is put together from, by openapi.ts and v2/openapi.ts. */

/** An object of the OpenAPI document: it has its own rules, and a test that knows them. */
export type Part = Record<string, unknown>
export interface DocumentedOperation {
  readonly operationId: string
  readonly summary: string
  readonly tags: readonly string[]
  readonly responses: Readonly<Record<string, Part>>
  readonly [field: string]: unknown
}
/** Operations by path and, in lower case, method. */
export type Paths = Record<string, Record<string, DocumentedOperation>>

export const OCTET_STREAM = 'application/octet-stream'

/** What each error code means. One without a meaning does not compile. */
export const MEANINGS: Record<ErrorCode, string> = {
  invalid_window: 'a window of a wrong shape, type or range, or a body that has none',
  invalid_request: 'something else in the request cannot be understood, for example X-Deadline-Ms',
  unauthorized: 'no API key, or a wrong one',
  not_found: 'there is no such path, model or version',
  method_not_allowed: 'the path answers to other methods, see Allow',
  body_too_large: 'more bytes, or more windows, than one request may have',
  unsupported_media_type: 'a Content-Type, or below /v2 a Content-Encoding, that this path does not read',
  overloaded: 'the window would have to wait longer than its deadline; no device time was spent',
  internal_error: 'the server failed; its log says how',
  model_unavailable:
    'no worker has a model, a client has unloaded it, or the worker was lost with the window',
  draining: 'the server is about to end; the connection closes',
  deadline_exceeded: 'the deadline passed before there was a result',
  forbidden: 'a page of another origin, which CORS_ORIGINS does not list, sends a POST or wants to connect',
  upgrade_required: 'the path is for WebSockets, and the request asks for no upgrade',
  rate_limited: 'this client sends more windows than RATE_LIMIT_PER_KEY or RATE_LIMIT_PER_ADDRESS allows',
  model_refused: 'what lies there now cannot be served, and the model that serves goes on',
  unload_not_allowed: 'ALLOW_MODEL_UNLOAD is not set, and this is the only model',
}

const COMES_BACK: ReadonlySet<ErrorCode> = new Set([
  'overloaded',
  'rate_limited',
  'model_unavailable',
  'draining',
])

export const INFERENCE_ERRORS: readonly ErrorCode[] = [
  'invalid_window',
  'invalid_request',
  'forbidden',
  'body_too_large',
  'unsupported_media_type',
  'overloaded',
  'rate_limited',
  'model_unavailable',
  'draining',
  'deadline_exceeded',
]

export const INFERENCE_PARAMETERS = ['X-Deadline-Ms', 'X-Request-ID', 'X-Correlation-ID'].map(name =>
  ref(name, 'parameters'),
)
export const PAGE_HEADERS = headers('X-Request-ID')
export const INFERENCE_HEADERS = headers(
  'X-Request-ID',
  'X-Correlation-ID',
  'X-Inference-Backend',
  'X-Model-Sha256',
  'X-Config-Version',
  'Server-Timing',
)

/** Adds to an operation what a caller without a key is told, where one is needed. */
export type Guard = (operation: DocumentedOperation) => DocumentedOperation

/** @param unauthorized the responses to a caller without a right key, in the words of the door */
export function guardOf(needsKey: boolean, unauthorized: Record<string, Part>): Guard {
  if (!needsKey) return operation => operation
  return operation => ({
    ...operation,
    security: [{ apiKey: [] }, { bearer: [] }],
    responses: { ...unauthorized, ...operation.responses },
  })
}

/** One response per status; several codes may share one. */
export function errorResponses(
  codes: readonly ErrorCode[],
  headers: Part = PAGE_HEADERS,
): Record<string, Part> {
  return perStatus(codes, (_, meanings) => errorResponse(meanings, headers))
}

/** @param meanings of the codes that it may have */
export function errorResponse(meanings: Partial<Record<ErrorCode, string>>, headers: Part): Part {
  const codes = Object.keys(meanings) as ErrorCode[]
  // With its type: without one, validators may pass over the properties.
  const narrowed = (name: string) => ({
    schema: { allOf: [ref(name), { type: 'object', properties: { error: { enum: codes } } }] },
  })
  return {
    description: codes.map(code => `\`${code}\`: ${meanings[code]}.`).join('\n\n'),
    headers: { ...headers, ...headersOf(codes) },
    content: {
      'application/json': narrowed('Error'),
      'application/problem+json': narrowed('Problem'),
    },
  }
}

/** @param responseOf makes the response of the codes that share a status */
export function perStatus(
  codes: readonly ErrorCode[],
  responseOf: (codes: ErrorCode[], meanings: Partial<Record<ErrorCode, string>>) => Part,
): Record<string, Part> {
  const responses: Record<string, Part> = {}
  for (const status of new Set(codes.map(code => REPLY[code].http))) {
    const sharing = codes.filter(code => REPLY[code].http === status)
    responses[status] = responseOf(sharing, Object.fromEntries(sharing.map(code => [code, MEANINGS[code]])))
  }
  return responses
}

/** The headers that come with these codes, beside those of every answer. */
export function headersOf(codes: readonly ErrorCode[]): Part {
  return headers(
    ...(codes.some(code => COMES_BACK.has(code)) ? ['Retry-After'] : []),
    ...(codes.includes('unauthorized') ? ['WWW-Authenticate'] : []),
    ...(codes.includes('method_not_allowed') ? ['Allow'] : []),
  )
}

export function jsonResponse(description: string, schema: string, headers: Part = PAGE_HEADERS): Part {
  return { description, headers, content: { 'application/json': { schema: ref(schema) } } }
}

export function binary(description: string): Part {
  return { schema: { type: 'string', format: 'binary', description } }
}

/** One that is always there. */
export function header(description: string, schema: Part): Part {
  return { description, required: true, schema }
}

export function headers(...names: string[]): Part {
  return Object.fromEntries(names.map(name => [name, ref(name, 'headers')]))
}

export function parameter(name: string, description: string, schema: Part): Record<string, Part> {
  return { [name]: { name, in: 'header', description, schema } }
}

export function ref(name: string, kind: 'schemas' | 'headers' | 'parameters' = 'schemas'): Part {
  return { $ref: `#/components/${kind}/${name}` }
}

/** One window. */
export function atRest(): number[][] {
  return Array.from({ length: TIMESTEPS }, () => [...AT_REST])
}
