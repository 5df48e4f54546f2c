import { z } from 'zod'
import type { Config } from '../../config.ts'
import { CHANNELS, TIMESTEPS } from '../../core/window.ts'

/** The bodies of the Open Inference Protocol. Descriptions end the sentence "… is not valid, expected …". */

/** Windows in one request. A server whose rings hold fewer takes fewer, see maxBatchOf(). */
export const MAX_BATCH = 64

/** Windows in one request to this very server: never more than all rings hold together. */
export function maxBatchOf({ workers, ringSlots }: Pick<Config, 'workers' | 'ringSlots'>): number {
  return Math.min(MAX_BATCH, workers * ringSlots)
}

export const INPUT_NAME = 'imu_window'
export const OUTPUT_NAMES = ['latent', 'motif_scores'] as const
export type OutputName = (typeof OUTPUT_NAMES)[number]

const wholeNumber = z.int().min(0).describe('a whole number, 0 or more')
const toggle = z.boolean().describe('true or false')

const SHAPE = `[n,${TIMESTEPS},${CHANNELS}] with n from 1 to ${MAX_BATCH}`
const Shape = z
  .tuple([z.int().min(1).max(MAX_BATCH), z.literal(TIMESTEPS), z.literal(CHANNELS)])
  .describe(SHAPE)

export const InputTensor = z
  .object({
    name: z.literal(INPUT_NAME).describe(`${INPUT_NAME}, the only input of this model`),
    shape: Shape,
    datatype: z.literal('FP32').describe('FP32'),
    parameters: z
      .looseObject({ binary_data_size: wholeNumber.optional() })
      .optional()
      .describe('an object of parameters'),
    // Its numbers are checked where they are read: a schema would visit each of 57,600 once more.
    data: z
      .unknown()
      .optional()
      .meta({
        description: 'The values, row-major: flat, or nested as the shape says. Absent when they are binary',
        anyOf: [
          { type: 'array', items: { type: 'number' } },
          {
            type: 'array',
            items: { type: 'array', items: { type: 'array', items: { type: 'number' } } },
          },
        ],
      }),
  })
  .describe('an input tensor')

export const RequestedOutput = z
  .object({
    name: z.enum(OUTPUT_NAMES).describe(OUTPUT_NAMES.join(' or ')),
    parameters: z
      .looseObject({ binary_data: toggle.optional() })
      .optional()
      .describe('an object of parameters'),
  })
  .describe('an output, {"name"}')

export const InferRequest = z
  .object({
    id: z.string().max(1024).optional().describe('text of at most 1024 characters'),
    parameters: z
      .looseObject({
        timeout: wholeNumber.optional().describe('whole microseconds, 0 for none'),
        priority: wholeNumber
          .optional()
          .describe('a whole number: 0 and 1 are live, from 2 on it waits behind live traffic'),
        binary_data_output: toggle.optional(),
      })
      .optional()
      .describe('an object of parameters'),
    inputs: z.array(InputTensor).length(1).describe(`an array of one tensor, ${INPUT_NAME}`),
    outputs: z
      .array(RequestedOutput)
      .max(OUTPUT_NAMES.length)
      .optional()
      .describe(`an array of ${OUTPUT_NAMES.join(', ')}, each at most once`),
  })
  .describe('an inference request, {"inputs":[…]}')
export type InferRequest = z.infer<typeof InferRequest>

export const OutputTensor = z.object({
  name: z.enum(OUTPUT_NAMES),
  datatype: z.literal('FP32'),
  shape: z.tuple([z.int().positive(), z.int().positive()]).describe('Windows, and values of each'),
  parameters: z
    .object({ binary_data_size: z.int().positive() })
    .optional()
    .describe('In binary: how many bytes lie behind the JSON'),
  data: z.array(z.number()).optional().describe('Flat, row-major. Absent when it is binary'),
})

export const InferResponse = z.object({
  model_name: z.string(),
  model_version: z.string(),
  id: z.string().optional(),
  parameters: z.object({ inference_backend: z.string().describe('Who answered; two after a fallback') }),
  outputs: z.array(OutputTensor),
})
export type InferResponse = z.infer<typeof InferResponse>

export const ErrorResponse = z.object({ error: z.string().min(1).describe('For people') })

export const ServerMetadata = z.object({
  name: z.string(),
  version: z.string(),
  extensions: z.array(z.string()),
})

const TensorMetadata = z.object({ name: z.string(), datatype: z.literal('FP32'), shape: z.array(z.int()) })

export const ModelMetadata = z.object({
  name: z.string(),
  versions: z.array(z.string()),
  platform: z.string(),
  inputs: z.array(TensorMetadata),
  outputs: z.array(TensorMetadata),
})

const TensorConfig = z.object({
  name: z.string(),
  data_type: z.literal('TYPE_FP32'),
  dims: z.array(z.int()),
})

export const ModelConfig = z.object({
  name: z.string(),
  platform: z.string(),
  backend: z.string(),
  max_batch_size: z.int().positive(),
  input: z.array(TensorConfig),
  output: z.array(TensorConfig),
  dynamic_batching: z.object({}),
  version_policy: z.object({ latest: z.object({ num_versions: z.int() }) }),
})

const Duration = z.object({
  count: z.int().nonnegative().describe('How often'),
  ns: z.int().nonnegative().describe('Nanoseconds in all'),
})

export const ModelStatistics = z.object({
  model_stats: z.array(
    z.object({
      name: z.string(),
      version: z.string(),
      last_inference: z.int().nonnegative().describe('Unix time in ms, 0 before the first'),
      inference_count: z.int().nonnegative().describe('Windows that got a result, over all doors'),
      execution_count: z.int().nonnegative().describe('Runs of the model, each of one batch, over all doors'),
      inference_stats: z.object({
        success: Duration,
        fail: Duration,
        queue: Duration,
        compute_input: Duration,
        compute_infer: Duration,
        compute_output: Duration,
        cache_hit: Duration,
        cache_miss: Duration,
      }),
      batch_stats: z.array(z.object({})),
    }),
  ),
})
export type ModelStatistics = z.infer<typeof ModelStatistics>

export const IndexRequest = z
  .object({ ready: toggle.optional() })
  .describe('an object, for example {"ready":true}')

export const RepositoryIndex = z.array(
  z.object({
    name: z.string(),
    version: z.string(),
    state: z.enum(['READY', 'UNAVAILABLE']),
    reason: z.string(),
  }),
)

export const LoadRequest = z
  .object({ parameters: z.record(z.string(), z.unknown()).optional().describe('an object of parameters') })
  .describe('an object, or no body')

/**
 * What is wrong with a document, told by its first fault. Names what is expected at that place, and
 * never what the client sent.
 */
export function faultIn(schema: z.ZodType, error: z.ZodError): string {
  const { path } = error.issues[0]!
  let place = ''
  let expected: z.core.$ZodType = schema
  let description = schema.description
  for (const step of path) {
    const inner = innerOf(expected, step)
    if (inner === null) break
    place += typeof step === 'number' ? `[${step}]` : `${place === '' ? '' : '.'}${String(step)}`
    expected = inner
    description = (inner as z.ZodType).description ?? description
  }
  return `${place === '' ? 'The body' : place} is not valid, expected ${description}`
}

/** The schema at one step of a path; null where none of ours says more. */
function innerOf(schema: z.core.$ZodType, step: PropertyKey): z.core.$ZodType | null {
  if (schema instanceof z.ZodOptional) return innerOf(schema.unwrap(), step)
  if (schema instanceof z.ZodObject) return schema.shape[step as string] ?? null
  if (schema instanceof z.ZodArray && typeof step === 'number') return schema.element
  return null
}
