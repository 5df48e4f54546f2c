import type { z } from 'zod'
import type { Config } from '../../config.ts'
import { CHANNELS, TIMESTEPS } from '../../core/window.ts'
import type { Model } from '../../model.ts'
import {
  atRest,
  binary,
  type DocumentedOperation,
  guardOf,
  header,
  headers,
  headersOf,
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
  perStatus,
  ref,
} from '../openapi-parts.ts'
import type { ErrorCode } from '../reply.ts'
import {
  ErrorResponse,
  INPUT_NAME,
  IndexRequest,
  InferRequest,
  InferResponse,
  LoadRequest,
  ModelConfig,
  ModelMetadata,
  ModelStatistics,
  maxBatchOf,
  RepositoryIndex,
  ServerMetadata,
} from './schema.ts'

/** The part of the OpenAPI document that is the Open Inference Protocol. */

/** By the names that they have in the document, where others have the plain ones. */
export const V2_SCHEMAS = {
  V2Error: ErrorResponse,
  V2ServerMetadata: ServerMetadata,
  V2ModelMetadata: ModelMetadata,
  V2ModelConfig: ModelConfig,
  V2ModelStatistics: ModelStatistics,
  V2InferRequest: InferRequest,
  V2InferResponse: InferResponse,
  V2IndexRequest: IndexRequest,
  V2RepositoryIndex: RepositoryIndex,
  V2LoadRequest: LoadRequest,
} satisfies Record<string, z.ZodType>

const HEADER_LENGTH = 'Inference-Header-Content-Length'

export const V2_HEADERS: Record<string, Part> = {
  [HEADER_LENGTH]: {
    ...header('Bytes of JSON before the tensors; in binary answers.', {
      type: 'string',
      pattern: '^[1-9][0-9]*$',
    }),
    required: false,
  },
}

export const V2_PARAMETERS: Record<string, Part> = {
  ...parameter(
    HEADER_LENGTH,
    'Bytes of JSON before the tensors. 0: the body is one window, and nothing else. Absent: it is JSON.',
    { type: 'integer', minimum: 0 },
  ),
  ...parameter('Content-Encoding', 'How the body is compressed. Answers are not.', {
    enum: ['gzip', 'x-gzip', 'deflate', 'identity'],
  }),
}

/** What no operation tells: it names none. */
export const V2_RESPONSES: Record<string, Part> = {
  V2NotFound: errors(['not_found'])['404']!,
  V2MethodNotAllowed: errors(['method_not_allowed'])['405']!,
}

/** What an operation tells of itself. */
type Fields = Pick<DocumentedOperation, 'operationId' | 'summary' | 'responses'> & Part

export function v2Paths(config: Config, model: Model): Paths {
  const guard = guardOf(config.apiKeys.length > 0, errors(['unauthorized', 'rate_limited']))
  const get = (path: string, fields: Fields): Paths => ({ [path]: { get: guard(operation(fields)) } })
  const post = (path: string, fields: Fields): Paths => ({ [path]: { post: guard(operation(fields)) } })
  const readyResponses = {
    200: { description: 'Yes. There is no body.', headers: PAGE_HEADERS },
    // Not known when it will be: no Retry-After.
    503: { ...errors(['model_unavailable', 'draining'])['503'], headers: PAGE_HEADERS },
  }

  /** @param suffix of the operations' ids @param place parameters of the path */
  const ofModel = (base: string, suffix: string, place: Part[]): Paths => ({
    ...get(base, {
      operationId: `v2ModelMetadata${suffix}`,
      summary: 'Names, datatypes and shapes of the tensors',
      parameters: place,
      responses: { 200: jsonResponse('As they are.', 'V2ModelMetadata'), ...errors(['not_found']) },
    }),
    ...get(`${base}/ready`, {
      operationId: `v2ModelReady${suffix}`,
      summary: 'Whether the model answers',
      parameters: place,
      responses: { ...readyResponses, ...errors(['not_found']) },
    }),
    ...get(`${base}/config`, {
      operationId: `v2ModelConfig${suffix}`,
      summary: 'The configuration of the model, with the largest batch',
      parameters: place,
      responses: { 200: jsonResponse('As it is.', 'V2ModelConfig'), ...errors(['not_found']) },
    }),
    ...get(`${base}/stats`, {
      operationId: `v2ModelStatistics${suffix}`,
      summary: 'What the requests of this protocol took',
      parameters: place,
      responses: { 200: jsonResponse('Growing only.', 'V2ModelStatistics'), ...errors(['not_found']) },
    }),
    ...post(`${base}/infer`, {
      operationId: `v2Infer${suffix}`,
      summary: 'Latent and motif scores of a batch of windows',
      description: [
        `A batch of 1 to ${maxBatchOf(config)} windows, answered whole: the first that is refused or lost ends it. \`${HEADER_LENGTH}\` tells what the body is, its Content-Type is not looked at.`,
        `As binary, so many bytes of JSON as \`${HEADER_LENGTH}\` says, then little-endian float32, the tensors behind each other in the order in which the JSON lists them. Outputs are binary for which \`binary_data\`, or \`binary_data_output\` for all, asks.`,
        `The deadline is the nearer of \`X-Deadline-Ms\` and \`parameters.timeout\`; without either ${config.deadlineMs} ms. A \`timeout\` of 0 is none.`,
      ].join('\n\n'),
      parameters: [
        ...place,
        ...INFERENCE_PARAMETERS,
        ...Object.keys(V2_PARAMETERS).map(name => ref(name, 'parameters')),
      ],
      requestBody: {
        required: true,
        content: {
          'application/json': {
            schema: ref('V2InferRequest'),
            examples: { atRest: { summary: 'A sensor at rest', value: exampleRequest() } },
          },
          [OCTET_STREAM]: binary('JSON, `V2InferRequest`, and behind it the window or windows'),
        },
      },
      responses: {
        200: {
          description: 'The outputs that were asked for.',
          headers: { ...INFERENCE_HEADERS, ...headers(HEADER_LENGTH) },
          content: {
            'application/json': { schema: ref('V2InferResponse') },
            [OCTET_STREAM]: binary('JSON, `V2InferResponse`, and behind it the binary outputs'),
          },
        },
        ...errors(INFERENCE_ERRORS, INFERENCE_HEADERS),
        ...errors(['not_found']),
      },
    }),
  })

  const modelName = pathParameter('model', 'The one model that there is.', model.servedName)
  const version = pathParameter('version', 'The version of the model.', model.version)
  const repositoryPath = '/v2/repository/models/{model}'
  return {
    ...get('/v2', {
      operationId: 'v2ServerMetadata',
      summary: 'What this server is',
      responses: { 200: jsonResponse('Name, version and extensions.', 'V2ServerMetadata') },
    }),
    '/v2/health/live': {
      get: operation({
        operationId: 'v2Live',
        summary: 'Whether the process answers',
        description: 'Needs no API key.',
        responses: { 200: { description: 'Yes. There is no body.', headers: PAGE_HEADERS } },
      }),
    },
    '/v2/health/ready': {
      get: operation({
        operationId: 'v2Ready',
        summary: 'Whether clients should be sent here',
        description: 'Needs no API key.',
        responses: readyResponses,
      }),
    },
    ...get('/v2/models/stats', {
      operationId: 'v2Statistics',
      summary: 'The statistics of all models: there is one',
      responses: { 200: jsonResponse('Growing only.', 'V2ModelStatistics') },
    }),
    ...ofModel('/v2/models/{model}', '', [modelName]),
    ...ofModel('/v2/models/{model}/versions/{version}', 'OfVersion', [modelName, version]),
    ...post('/v2/repository/index', {
      operationId: 'v2RepositoryIndex',
      summary: 'The models that there are, ready or not',
      requestBody: optionalBody('V2IndexRequest'),
      responses: {
        200: jsonResponse('The one model; none, when only ready ones are asked for.', 'V2RepositoryIndex'),
        ...errors(['invalid_request', 'forbidden', 'body_too_large']),
      },
    }),
    ...post(`${repositoryPath}/load`, {
      operationId: 'v2Load',
      summary: 'Serves the model that lies there now, and lets clients in again, once it was unloaded',
      description:
        'Answers when another model has taken over, between two windows, or when there is none. Parameters that would bring a model or a configuration are refused.',
      parameters: [modelName],
      requestBody: optionalBody('V2LoadRequest'),
      responses: {
        200: { description: 'It is loaded, or was. There is no body.', headers: PAGE_HEADERS },
        ...errors([
          'invalid_request',
          'forbidden',
          'not_found',
          'model_refused',
          'body_too_large',
          'draining',
        ]),
      },
    }),
    ...post(`${repositoryPath}/unload`, {
      operationId: 'v2Unload',
      summary: 'Closes every door, `/infer` too, where ALLOW_MODEL_UNLOAD allows it',
      parameters: [modelName],
      requestBody: optionalBody('V2LoadRequest'),
      responses: {
        200: { description: 'It is unloaded, or was. There is no body.', headers: PAGE_HEADERS },
        ...errors(['invalid_request', 'forbidden', 'not_found', 'unload_not_allowed', 'body_too_large']),
      },
    }),
  }
}

function operation(fields: Fields): DocumentedOperation {
  return { ...fields, tags: ['v2'] }
}

/** The protocol has text where our other routes have a code: what the code means is told all the same. */
function errors(codes: readonly ErrorCode[], headers: Part = PAGE_HEADERS): Record<string, Part> {
  return perStatus(codes, sharing => ({
    description: `Told as text: ${sharing.map(code => MEANINGS[code]).join('; or ')}.`,
    headers: { ...headers, ...headersOf(sharing) },
    content: { 'application/json': { schema: ref('V2Error') } },
  }))
}

function optionalBody(schema: string): Part {
  return { required: false, content: { 'application/json': { schema: ref(schema) } } }
}

function pathParameter(name: string, description: string, value: string): Part {
  return { name, in: 'path', required: true, description, schema: { type: 'string', enum: [value] } }
}

function exampleRequest(): InferRequest {
  const shape: [number, typeof TIMESTEPS, typeof CHANNELS] = [1, TIMESTEPS, CHANNELS]
  return { id: '1', inputs: [{ name: INPUT_NAME, datatype: 'FP32', shape, data: [atRest()] }] }
}
