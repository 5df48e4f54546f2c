import { z } from 'zod'
import { BACKENDS } from '../core/backend.ts'
import { LATENT_DIMS, TIMESTEPS, WINDOW_BYTES } from '../core/window.ts'
import { AT_REST } from './compat.ts'
import { WINDOW_STATUSES } from './frame.ts'
import { type ErrorCode, REPLY } from './reply.ts'
import { schemasOf } from './schema.ts'
import type { Service } from './service.ts'

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

const OCTET_STREAM = 'application/octet-stream'

/** What each error code means. One without a meaning does not compile. */
const MEANINGS: Record<ErrorCode, string> = {
  invalid_window: 'a window of a wrong shape, type or range, or a body that has none',
  invalid_request: 'something else in the request cannot be understood, for example X-Deadline-Ms',
  unauthorized: 'no API key, or a wrong one',
  not_found: 'there is no such path',
  method_not_allowed: 'the path answers to other methods, see Allow',
  body_too_large: 'more bytes, or more windows, than one request may have',
  unsupported_media_type: 'a Content-Type that this path does not read',
  overloaded: 'the window would have to wait longer than its deadline; no device time was spent',
  internal_error: 'the server failed; its log says how',
  model_unavailable: 'no worker has a model, or the worker was lost with the window',
  draining: 'the server is about to end; the connection closes',
  deadline_exceeded: 'the deadline passed before there was a result',
  forbidden: 'a page of another origin, which CORS_ORIGINS does not list, wants to connect',
  upgrade_required: 'the path is for WebSockets, and the request asks for no upgrade',
  unload_not_allowed: 'ALLOW_MODEL_UNLOAD is not set, and this is the only model',
}

const COMES_BACK: ReadonlySet<ErrorCode> = new Set(['overloaded', 'model_unavailable', 'draining'])

const INFERENCE_ERRORS: readonly ErrorCode[] = [
  'invalid_window',
  'invalid_request',
  'body_too_large',
  'unsupported_media_type',
  'overloaded',
  'model_unavailable',
  'draining',
  'deadline_exceeded',
]

const HEADERS: Record<string, Part> = {
  'X-Request-ID': header("The client's own, or one that was made.", { type: 'string' }),
  'X-Correlation-ID': { ...header('What the client sent.', { type: 'string' }), required: false },
  'X-Inference-Backend': header('What gave the result, or would have.', {
    pattern: listOf(BACKENDS.join('|')),
  }),
  'X-Model-Sha256': header("First 12 digits of the model's SHA-256.", {
    pattern: listOf('[0-9a-f]{12}|stub'),
  }),
  'X-Config-Version': header('CONFIG_VERSION of the server.', { type: 'string' }),
  'Server-Timing': header('Waited for the device, and ran on it, ms.', {
    pattern: '^queue;dur=[0-9.]+, infer;dur=[0-9.]+$',
  }),
  'X-Windows-Failed': {
    ...header('How many windows have no result; in answers to several.', {
      type: 'string',
      pattern: '^[0-9]+$',
    }),
    required: false,
  },
  'Retry-After': header('Seconds.', { type: 'string', pattern: '^[1-9][0-9]*$' }),
  'WWW-Authenticate': header('How to send a key.', { const: 'Bearer' }),
  Allow: header('The methods that the path answers to.', { type: 'string' }),
}
const INFERENCE_PARAMETERS = ['X-Deadline-Ms', 'X-Request-ID', 'X-Correlation-ID'].map(name =>
  ref(name, 'parameters'),
)
const PAGE_HEADERS = headers('X-Request-ID')
const INFERENCE_HEADERS = headers(
  'X-Request-ID',
  'X-Correlation-ID',
  'X-Inference-Backend',
  'X-Model-Sha256',
  'X-Config-Version',
  'Server-Timing',
)

/** The description of this very server, in OpenAPI 3.1: as it is configured, with the routes that it has. */
export function openApiOf({ config, version }: Service): Part & { paths: Paths } {
  const guard = guardOf(config.apiKeys.length > 0)
  return {
    openapi: '3.1.1',
    info: {
      title: 'hailo-inference',
      version,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description: [
        'Windows of IMU samples go in, their latent and motif scores come out.',
        `Every error is one JSON shape, \`Error\`, or \`Problem\` for those who accept \`application/problem+json\`. An unknown path is answered 404 \`not_found\`, a known path with another method 405 \`method_not_allowed\`. Answers may gain fields.`,
        `The deadline counts from the first byte of a request: ${config.deadlineMs} ms, unless \`X-Deadline-Ms\` says otherwise.`,
      ].join('\n\n'),
    },
    servers: [{ url: '/' }],
    tags: [
      { name: 'inference' },
      { name: 'health', description: 'For probes, scrapers and people.' },
      { name: 'stream', description: 'WebSocket.' },
      { name: 'documentation' },
    ],
    paths: mergePaths(
      inferencePaths(config, guard),
      healthPaths(guard),
      streamPaths(guard),
      documentationPaths(),
      // The Open Inference Protocol's paths belong here.
    ),
    components: {
      schemas: componentsOf(schemasOf(config)),
      headers: HEADERS,
      parameters: parametersOf(config),
      responses: {
        NotFound: errorResponses(['not_found'])['404'],
        MethodNotAllowed: errorResponses(['method_not_allowed'])['405'],
      },
      securitySchemes: {
        apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
        bearer: { type: 'http', scheme: 'bearer' },
      },
    },
  }
}

/** Two parts may share a path, each with methods of its own. */
function mergePaths(...parts: Paths[]): Paths {
  const paths: Paths = {}
  for (const [path, operations] of parts.flatMap(part => Object.entries(part))) {
    paths[path] = { ...paths[path], ...operations }
  }
  return paths
}

/** JSON Schemas that refer to each other by their place in the document. */
export function componentsOf(schemas: Record<string, z.ZodType>): Record<string, Part> {
  const registry = z.registry<{ id: string }>()
  for (const [id, schema] of Object.entries(schemas)) registry.add(schema, { id })
  // As input: an object may have more keys than those we know.
  const documents = z.toJSONSchema(registry, {
    target: 'draft-2020-12',
    io: 'input',
    uri: id => `#/components/schemas/${id}`,
  })
  // The dialect is OpenAPI's default, and a place in a document is no $id.
  return Object.fromEntries(
    Object.entries(documents.schemas).map(([id, { $schema, $id, ...schema }]) => [id, schema]),
  )
}

/** Adds to an operation what a caller without a key is told, where one is needed. */
type Guard = (operation: DocumentedOperation) => DocumentedOperation

function guardOf(needsKey: boolean): Guard {
  if (!needsKey) return operation => operation
  return operation => ({
    ...operation,
    security: [{ apiKey: [] }, { bearer: [] }],
    responses: { ...operation.responses, ...errorResponses(['unauthorized']) },
  })
}

function inferencePaths(config: Service['config'], guard: Guard): Paths {
  const { maxWindowsPerRequest, motifCount } = config
  const resultBytes = resultBytesOf(motifCount)
  const statuses = WINDOW_STATUSES.map((status, index) => `${index} ${status}`).join(', ')
  const infer = (operationId: string, summary: string) =>
    guard({
      operationId,
      summary,
      tags: ['inference'],
      description: [
        `One window: JSON \`{"x": …}\`, or ${WINDOW_BYTES} bytes of little-endian float32, row by row. The answer is JSON, or with \`Accept: ${OCTET_STREAM}\` ${resultBytes} bytes of little-endian float32, the latent and then the motif scores.`,
        `Several windows, at most ${maxWindowsPerRequest}: JSON \`{"windows": […]}\`, or N × ${WINDOW_BYTES} bytes. The answers stand in the order of the windows, and one that fails does not spoil the others: \`X-Windows-Failed\` counts the failed ones. As octet-stream, N × ${resultBytes} bytes, the row of a failed window holds uint32 \`0x7FC00000 | status\` in every cell, which is a quiet NaN; status is one of ${statuses}. Only when no window at all has a result is the answer an error, that of the first window.`,
      ].join('\n\n'),
      parameters: INFERENCE_PARAMETERS,
      requestBody: {
        required: true,
        content: {
          'application/json': {
            schema: ref('InferRequest'),
            examples: {
              atRest: { summary: 'A sensor at rest', value: { x: atRest() } },
            },
          },
          [OCTET_STREAM]: binary(`${WINDOW_BYTES} bytes per window`),
        },
      },
      responses: {
        200: {
          description: 'One result, or one per window.',
          headers: { ...INFERENCE_HEADERS, 'X-Windows-Failed': ref('X-Windows-Failed', 'headers') },
          content: {
            'application/json': { schema: { anyOf: [ref('Result'), ref('Results')] } },
            [OCTET_STREAM]: binary(`${resultBytes} bytes per window`),
          },
        },
        ...errorResponses(INFERENCE_ERRORS, INFERENCE_HEADERS),
      },
    })
  const paths: Paths = {
    '/infer': { post: infer('infer', 'Latent and motif scores of one or more windows') },
    '/infer/infer': { post: infer('inferAgain', 'The same as POST /infer') },
    '/': { post: infer('inferAtRoot', 'The same as POST /infer') },
    '/encode': {
      post: guard({
        operationId: 'encode',
        summary: 'The latent of one window, under the names of the older API',
        tags: ['inference'],
        parameters: INFERENCE_PARAMETERS,
        requestBody: {
          required: true,
          content: {
            'application/json': {
              schema: ref('EncodeRequest'),
              examples: { atRest: { summary: 'A sensor at rest', value: { imu_window: atRest() } } },
            },
          },
        },
        responses: {
          200: jsonResponse('The latent.', 'Encoding', INFERENCE_HEADERS),
          ...errorResponses(INFERENCE_ERRORS, INFERENCE_HEADERS),
        },
      }),
    },
  }
  if (config.testEndpoints) {
    paths['/test'] = {
      post: guard({
        operationId: 'test',
        summary: "One window of the server's own making through the real pipeline",
        tags: ['inference'],
        description: 'A body is ignored.',
        parameters: INFERENCE_PARAMETERS,
        responses: {
          200: jsonResponse('It was answered.', 'SelfTest', INFERENCE_HEADERS),
          ...errorResponses(
            INFERENCE_ERRORS.filter(code => code !== 'invalid_window' && code !== 'unsupported_media_type'),
            INFERENCE_HEADERS,
          ),
        },
      }),
    }
  }
  return paths
}

function healthPaths(guard: Guard): Paths {
  return {
    '/healthz': page({
      operationId: 'healthz',
      summary: 'Whether the process is well',
      tags: ['health'],
      description: 'Reads memory only, so it answers also when every worker hangs. Needs no API key.',
      responses: {
        200: jsonResponse('Well, or as well as starting again would make it.', 'Health'),
        503: jsonResponse('Starting again would help, or the model is not there.', 'Health'),
      },
    }),
    '/readyz': page({
      operationId: 'readyz',
      summary: 'Whether clients should be sent here',
      tags: ['health'],
      description: 'Needs no API key.',
      responses: {
        200: jsonResponse('Yes.', 'Readiness'),
        503: jsonResponse('No, with the reasons.', 'Readiness'),
      },
    }),
    '/metrics': page({
      operationId: 'metrics',
      summary: 'Metrics for Prometheus',
      tags: ['health'],
      description: 'OpenMetrics when Accept asks for it. Needs no API key.',
      responses: {
        200: {
          description: 'All metrics.',
          headers: PAGE_HEADERS,
          content: {
            'text/plain': { schema: { type: 'string' } },
            'application/openmetrics-text': { schema: { type: 'string' } },
          },
        },
      },
    }),
    '/status': page(
      guard({
        operationId: 'status',
        summary: 'Model, backends, device and workers',
        tags: ['health'],
        responses: { 200: jsonResponse('As it is now.', 'Status') },
      }),
    ),
    '/': page(
      guard({
        operationId: 'root',
        summary: 'What there is, and how it is configured',
        tags: ['health'],
        responses: { 200: jsonResponse('Endpoints and configuration.', 'Root') },
      }),
    ),
  }
}

function streamPaths(guard: Guard): Paths {
  const stream = (operationId: string, summary: string) =>
    guard({
      operationId,
      summary,
      tags: ['stream'],
      description:
        'Frames are binary and little-endian; docs/stream.md draws them. The client says hello and is told how many windows it may have under way, its credits; each window gets exactly one answer, in the order of its sequence.',
      parameters: [
        { name: 'Upgrade', in: 'header', required: true, schema: { const: 'websocket' } },
        { name: 'Sec-WebSocket-Key', in: 'header', required: true, schema: { type: 'string' } },
        { name: 'Sec-WebSocket-Version', in: 'header', required: true, schema: { const: '13' } },
      ],
      responses: {
        101: { description: 'The connection is a WebSocket from here on.' },
        426: { description: 'The request asks for no upgrade.' },
        ...errorResponses(['draining'], PAGE_HEADERS),
      },
    })
  return {
    '/stream': { get: stream('stream', 'Windows and results over a WebSocket') },
    '/ws/v1/analysis': { get: stream('streamAnalysis', 'The same as GET /stream') },
  }
}

function documentationPaths(): Paths {
  return {
    '/docs': page({
      operationId: 'docs',
      summary: 'This description for people',
      tags: ['documentation'],
      description: 'Loads nothing from another host. Needs no API key.',
      responses: {
        200: {
          description: 'A page.',
          headers: PAGE_HEADERS,
          content: { 'text/html': { schema: { type: 'string' } } },
        },
      },
    }),
    '/openapi.json': page({
      operationId: 'openApi',
      summary: 'This description for programs',
      tags: ['documentation'],
      description: 'Needs no API key.',
      responses: {
        200: {
          description: 'OpenAPI 3.1.',
          headers: PAGE_HEADERS,
          content: { 'application/json': { schema: { type: 'object' } } },
        },
      },
    }),
  }
}

/** GET, and HEAD beside it, which has the same answers without their bodies. */
function page(get: DocumentedOperation): Record<'get' | 'head', DocumentedOperation> {
  const responses = { ...get.responses, ...errorResponses(['internal_error']) }
  const bodiless = Object.entries(responses).map(([status, { content, ...rest }]) => [status, rest])
  return {
    get: { ...get, responses },
    head: {
      ...get,
      operationId: `${get.operationId}Head`,
      summary: `${get.summary}, without the body`,
      responses: Object.fromEntries(bodiless),
    },
  }
}

/** One response per status; several codes may share one. */
function errorResponses(all: readonly ErrorCode[], headers: Part = PAGE_HEADERS): Record<string, Part> {
  const responses: Record<string, Part> = {}
  for (const status of new Set(all.map(code => REPLY[code].http))) {
    const codes = all.filter(code => REPLY[code].http === status)
    const narrowed = (name: string) => ({
      schema: { allOf: [ref(name), { properties: { error: { enum: codes } } }] },
    })
    responses[status] = {
      description: codes.map(code => `\`${code}\`: ${MEANINGS[code]}.`).join('\n\n'),
      headers: {
        ...headers,
        ...(codes.some(code => COMES_BACK.has(code)) && { 'Retry-After': ref('Retry-After', 'headers') }),
        ...(status === 401 && { 'WWW-Authenticate': ref('WWW-Authenticate', 'headers') }),
        ...(status === 405 && { Allow: ref('Allow', 'headers') }),
      },
      content: {
        'application/json': narrowed('Error'),
        'application/problem+json': narrowed('Problem'),
      },
    }
  }
  return responses
}

function jsonResponse(description: string, schema: string, headers: Part = PAGE_HEADERS): Part {
  return { description, headers, content: { 'application/json': { schema: ref(schema) } } }
}

function binary(description: string): Part {
  return { schema: { type: 'string', format: 'binary', description } }
}

function header(description: string, schema: Part): Part {
  return { description, required: true, schema }
}

/** Many windows may have their results from two backends. */
function listOf(word: string): string {
  return `^(${word})(, (${word}))*$`
}

function headers(...names: string[]): Part {
  return Object.fromEntries(names.map(name => [name, ref(name, 'headers')]))
}

function parametersOf({ deadlineMs, maxDeadlineMs }: Service['config']): Record<string, Part> {
  const parameter = (name: string, description: string, schema: Part) => ({
    [name]: { name, in: 'header', description, schema },
  })
  return {
    ...parameter(
      'X-Deadline-Ms',
      `When an answer stops being useful, in ms from the first byte of the request. More than ${maxDeadlineMs} is cut to that.`,
      { type: 'number', exclusiveMinimum: 0, default: deadlineMs },
    ),
    ...parameter('X-Request-ID', 'Comes back in the answer, when it is fit for a header.', {
      type: 'string',
    }),
    ...parameter('X-Correlation-ID', 'The same.', { type: 'string' }),
  }
}

function ref(name: string, kind: 'schemas' | 'headers' | 'parameters' = 'schemas'): Part {
  return { $ref: `#/components/${kind}/${name}` }
}

function resultBytesOf(motifCount: number): number {
  return (LATENT_DIMS + motifCount) * 4
}

function atRest(): number[][] {
  return Array.from({ length: TIMESTEPS }, () => [...AT_REST])
}
