import { z } from 'zod'
import { BACKENDS } from '../core/backend.ts'
import { LATENT_DIMS, WINDOW_BYTES } from '../core/window.ts'
import { WINDOW_STATUSES } from './frame.ts'
import {
  atRest,
  binary,
  type DocumentedOperation,
  errorResponse,
  errorResponses,
  type Guard,
  guardOf,
  header,
  headers,
  INFERENCE_ERRORS,
  INFERENCE_HEADERS,
  INFERENCE_PARAMETERS,
  jsonResponse,
  MEANINGS,
  OCTET_STREAM,
  PAGE_HEADERS,
  type Part,
  type Paths,
  parameter,
  ref,
} from './openapi-parts.ts'
import { schemasOf } from './schema.ts'
import type { Service } from './service.ts'
import { V2_HEADERS, V2_PARAMETERS, V2_RESPONSES, V2_SCHEMAS, v2Paths } from './v2/openapi.ts'

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
  Upgrade: header('What the connection is, or has to become.', { const: 'websocket' }),
  'Sec-WebSocket-Accept': header('Proves that the key was understood.', { type: 'string' }),
  'Sec-WebSocket-Version': header('The only version that is spoken.', { const: '13' }),
  'Sec-WebSocket-Protocol': {
    ...header('Comes back to those who have named it.', { const: 'hailo.v1' }),
    required: false,
  },
  ...V2_HEADERS,
}

/** The description of this very server, in OpenAPI 3.1: as it is configured, with the routes that it has. */
export function openApiOf({ config, models, version }: Service): Part & { paths: Paths } {
  const model = models.current
  const needsKey = config.apiKeys.length > 0
  const unauthorized = errorResponses(['unauthorized', 'rate_limited'])
  const guard = guardOf(needsKey, unauthorized)
  const metricsGuard = guardOf(needsKey && config.metricsKey, unauthorized)
  return {
    openapi: '3.1.1',
    info: {
      title: 'hailo-inference',
      version,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description: [
        'Windows of IMU samples go in, their latent and motif scores come out.',
        `Every error is one JSON shape, \`Error\`, or \`Problem\` for those who accept \`application/problem+json\`. An unknown path is answered 404 \`not_found\`, a known path with another method 405 \`method_not_allowed\`. Below \`/v2\` every error is \`V2Error\`: text without a code, as the protocol has it. Answers may gain fields.`,
        `The deadline counts from the first byte of a request: ${config.deadlineMs} ms, unless \`X-Deadline-Ms\` says otherwise.`,
      ].join('\n\n'),
    },
    servers: [{ url: '/' }],
    tags: [
      { name: 'inference' },
      { name: 'health', description: 'For probes, scrapers and people.' },
      { name: 'stream', description: 'WebSocket.' },
      { name: 'v2', description: 'The Open Inference Protocol, which KServe and Triton speak.' },
      { name: 'documentation' },
    ],
    paths: mergePaths(
      inferencePaths(config, guard),
      healthPaths(guard, metricsGuard),
      streamPaths(guard),
      documentationPaths(),
      v2Paths(config, model),
    ),
    components: {
      schemas: componentsOf({ ...schemasOf(config), ...V2_SCHEMAS }),
      headers: HEADERS,
      parameters: parametersOf(config),
      responses: {
        NotFound: errorResponses(['not_found'])['404'],
        MethodNotAllowed: errorResponses(['method_not_allowed'])['405'],
        ...V2_RESPONSES,
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
function componentsOf(schemas: Record<string, z.ZodType>): Record<string, Part> {
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

function healthPaths(guard: Guard, metricsGuard: Guard): Paths {
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
    '/metrics': page(
      metricsGuard({
        operationId: 'metrics',
        summary: 'Metrics for Prometheus',
        tags: ['health'],
        description: 'OpenMetrics when Accept asks for it. Needs no API key, unless METRICS_KEY is set.',
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
    ),
    '/status': page(
      guard({
        operationId: 'status',
        summary: 'Model, backends, device and workers',
        tags: ['health'],
        responses: { 200: jsonResponse('As it is now.', 'Status') },
      }),
    ),
    '/live': page(
      guard({
        operationId: 'live',
        summary: 'The last two minutes, second by second',
        tags: ['health'],
        description: 'What the live page shows. It asks once a second for what it does not have.',
        parameters: [
          {
            name: 'after',
            in: 'query',
            description: 'Number of the last tick that is known. Without it, all that are kept are told.',
            schema: { type: 'integer', minimum: -1, default: -1 },
          },
        ],
        responses: {
          200: jsonResponse('As it is now, and the ticks since.', 'Live'),
          ...errorResponses(['invalid_request']),
        },
      }),
    ),
    '/': page(
      guard({
        operationId: 'root',
        summary: 'What there is, and how it is configured; for browsers the live page',
        tags: ['health'],
        description: 'The page needs no API key. It asks for one where the server wants one.',
        responses: {
          200: {
            description: 'Endpoints and configuration, or a page where Accept prefers one.',
            headers: PAGE_HEADERS,
            content: {
              'application/json': { schema: ref('Root') },
              'text/html': { schema: { type: 'string' } },
            },
          },
        },
      }),
    ),
  }
}

function streamPaths(guard: Guard): Paths {
  const refusal = {
    426: errorResponse(
      { upgrade_required: MEANINGS.upgrade_required },
      { ...PAGE_HEADERS, ...headers('Upgrade', 'Sec-WebSocket-Version') },
    ),
  }
  const stream = (operationId: string, summary: string) => {
    const get = guard({
      operationId,
      summary,
      tags: ['stream'],
      description:
        'Frames are binary and little-endian, or JSON; docs/stream.md draws them. The client says hello and is told how many windows it may have under way, its credits; each window gets exactly one answer, in the order of its sequence.',
      parameters: [
        { name: 'Upgrade', in: 'header', required: true, schema: { const: 'websocket' } },
        { name: 'Sec-WebSocket-Key', in: 'header', required: true, schema: { type: 'string' } },
        { name: 'Sec-WebSocket-Version', in: 'header', required: true, schema: { const: '13' } },
        {
          name: 'Sec-WebSocket-Protocol',
          in: 'header',
          description:
            '`hailo.v1`. A browser, which can set no other header, may name its API key here too: `hailo.v1, key.…`.',
          schema: { type: 'string' },
        },
      ],
      responses: {
        101: {
          description: 'The connection is a WebSocket from here on.',
          headers: {
            ...PAGE_HEADERS,
            ...headers('Upgrade', 'Sec-WebSocket-Accept', 'Sec-WebSocket-Protocol'),
          },
        },
        ...errorResponses(['forbidden']),
        ...refusal,
        503: errorResponse(
          {
            overloaded:
              'all connections that WS_MAX_CONNECTIONS allows are taken, or nobody is let in under this load',
            draining: MEANINGS.draining,
          },
          PAGE_HEADERS,
        ),
      },
    })
    const refused = guard({ operationId, summary, tags: ['stream'], responses: refusal })
    const head = { ...bodiless(refused), summary: 'Refused: a WebSocket begins with GET' }
    return { get, head }
  }
  return {
    '/stream': stream('stream', 'Windows and results over a WebSocket'),
    '/ws/v1/analysis': stream('streamAnalysis', 'The same as GET /stream'),
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
function page(operation: DocumentedOperation): Record<'get' | 'head', DocumentedOperation> {
  const get = { ...operation, responses: { ...operation.responses, ...errorResponses(['internal_error']) } }
  return { get, head: bodiless(get) }
}

/** HEAD in place of GET. */
function bodiless(get: DocumentedOperation): DocumentedOperation {
  const responses = Object.entries(get.responses).map(([status, { content, ...rest }]) => [status, rest])
  return {
    ...get,
    operationId: `${get.operationId}Head`,
    summary: `${get.summary}, without the body`,
    responses: Object.fromEntries(responses),
  }
}

/** Many windows may have their results from two backends. */
function listOf(word: string): string {
  return `^(${word})(, (${word}))*$`
}

function parametersOf({ deadlineMs, maxDeadlineMs }: Service['config']): Record<string, Part> {
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
    ...V2_PARAMETERS,
  }
}

function resultBytesOf(motifCount: number): number {
  return (LATENT_DIMS + motifCount) * 4
}
