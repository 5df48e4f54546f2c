import { z } from 'zod'
import type { Config } from '../config.ts'
import { BACKEND_FAILURES, BACKENDS } from '../core/backend.ts'
import { LEVEL, LEVELS } from '../core/degradation.ts'
import { CHANNEL_NAMES, CHANNELS, LATENT_DIMS, SENSORS, TIMESTEPS } from '../core/window.ts'
import { RELOAD_RESULTS } from '../reload/outcome.ts'
import { WINDOW_STATUSES } from './frame.ts'
import { type ErrorCode, REPLY } from './reply.ts'

/**
 * What goes over the wire as JSON, for documentation and tests. On the hot path nothing is parsed with
 * these: core/window.ts is quicker and says better what is wrong. test/openapi.test.ts holds that both
 * take the same windows.
 */

const channels = CHANNEL_NAMES.map((name, channel) => {
  const { unit, limit } = SENSORS[Math.floor(channel / 3)]!
  return z.number().min(-limit).max(limit).describe(`${name}, ${unit}`)
})

const SampleSchema = z
  .tuple(channels as [z.ZodNumber, ...z.ZodNumber[]])
  .describe(
    `One time step: ${CHANNEL_NAMES.join(' ')}, raw, in ${SENSORS.map(({ unit }) => unit).join(', ')}.`,
  )

export const WindowSchema = z
  .array(SampleSchema)
  .length(TIMESTEPS)
  .describe(
    `${TIMESTEPS} samples of ${CHANNELS} channels: one second at 100 Hz. The server does the z-score itself.`,
  )

const LatentSchema = z.array(z.number()).length(LATENT_DIMS).describe('The latent.')

const BackendSchema = z.enum(BACKENDS).describe('hailo: the device. onnx: the CPU. stub: made-up numbers.')
const Sha256Schema = z
  .string()
  .regex(/^([0-9a-f]{64}|stub)$/)
  .describe('SHA-256 of the model, "stub" where there is none.')
const LevelSchema = z
  .int()
  .min(LEVEL.normal)
  .max(LEVEL.reject)
  .describe(`Backpressure: ${LEVELS.map(({ level, name }) => `${level} ${name}`).join(', ')}.`)
const FallbackSchema = z.object({
  from: BackendSchema,
  to: BackendSchema,
  cause: z.enum(BACKEND_FAILURES),
})

const ErrorSchema = z
  .object({
    error: z.enum(Object.keys(REPLY) as [ErrorCode, ...ErrorCode[]]).describe('For programs.'),
    detail: z.string().min(1).describe('For people: what was wrong, with the value, and what is expected.'),
    model_available: z.boolean().describe('Whether an inference could be answered now.'),
    request_id: z.string().min(1).describe('That of X-Request-ID.'),
  })
  .describe('Every error has this shape. What was sent is never echoed.')

const ProblemSchema = ErrorSchema.extend({
  type: z.literal('about:blank'),
  title: z.string().describe('The phrase of the status.'),
  status: z.int().min(400).max(599),
}).describe('The same as RFC 9457 has it, for those who accept application/problem+json.')

const RowErrorSchema = z
  .object({
    error: z.enum(WINDOW_STATUSES.filter(status => Object.hasOwn(REPLY, status))),
    detail: z.string().min(1),
  })
  .describe('Why this window has no result.')

const HealthSchema = z.object({
  ok: z.boolean().describe('False when starting the process again would help, or the model is not there.'),
  status: z.enum([
    'ok',
    'degraded',
    'starting',
    'warming',
    'draining',
    'golden_check_failed',
    'model_unavailable',
    'workers_hang',
  ]),
  reason: z.string().nullable().describe('Why it is not as it was configured.'),
  model: z.string(),
  version: z.string().describe("The model's."),
  uptime_s: z.number().nonnegative(),
  config_version: z.string(),
  hef_sha256: Sha256Schema,
  expected_sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable(),
  config_ok: z.boolean().describe('Whether the model is the expected one.'),
  device: z.string(),
  mode: BackendSchema,
  fallback: FallbackSchema.extend({ since_s: z.number().nonnegative() })
    .nullable()
    .describe('What answers in place of the configured backend.'),
  latency_ms: z.number().nonnegative().nullable().describe('Mean of the last answers.'),
  contract: z.object({
    window_len: z.literal(TIMESTEPS),
    channels: z.literal(CHANNELS),
    latent_dims: z.literal(LATENT_DIMS),
    motif_classes: z.int().positive(),
  }),
  contract_compatible: z.boolean().describe('Whether EdgeInfer takes the answers.'),
  level: LevelSchema,
  warm: z.boolean(),
})

const ReadinessSchema = z.object({
  ready: z.boolean(),
  reasons: z.array(z.string()).describe('Why not. Empty when ready.'),
})

const DeviceSchema = z.object({
  id: z.string(),
  name: z.string(),
  library_version: z.string(),
  firmware_version: z.string(),
  temperature_celsius: z.number().nullable(),
  clock_mhz: z.number().nullable(),
  throttled: z.boolean(),
  utilization_percent: z.number().min(0).max(100),
  generation: z.int().nonnegative().describe('Grows each time the device is opened anew.'),
})

const StatusSchema = z.object({
  ready: z.boolean(),
  model_name: z.string(),
  hef_path: z.string().nullable().describe('The model, whatever its format.'),
  hef_exists: z.boolean(),
  hailort_available: z.boolean(),
  initialization_error: z.string().nullable(),
  last_inference_time: z.iso.datetime().nullable(),
  num_motifs: z.int().positive(),
  endpoint_status: z.object({ infer: z.boolean(), encode: z.boolean(), test: z.boolean() }),
  api_version: z.string(),
  mode: BackendSchema,
  model_version: z.string(),
  model_sha256: Sha256Schema,
  model_generation: z.int().nonnegative().describe('Models that took over from another since the start.'),
  last_reload: z
    .object({
      result: z.enum(RELOAD_RESULTS),
      reason: z.string().nullable().describe('Why it was refused: the model that served goes on.'),
      at: z.iso.datetime(),
      version: z.string().describe('Of the model that serves since.'),
    })
    .nullable()
    .describe('What came of the last look for another model.'),
  phase: z.enum(['starting', 'warming', 'ready', 'golden_check_failed', 'draining']),
  level: LevelSchema,
  device: DeviceSchema.nullable(),
  fallback: FallbackSchema.nullable(),
  workers: z.array(
    z.object({
      serving: z.boolean(),
      backend: BackendSchema.nullable(),
      in_flight: z.int().nonnegative(),
      slots: z.int().positive(),
    }),
  ),
})

const RootSchema = z.object({
  service: z.literal('hailo-inference'),
  version: z.string(),
  model_ready: z.boolean(),
  endpoints: z
    .record(z.string(), z.string().nullable())
    .describe('Method and path of each; null: switched off.'),
  config: z.object({
    mode: BackendSchema,
    fallback: BackendSchema.nullable(),
    model: z.string(),
    model_version: z.string(),
    model_sha256: Sha256Schema,
    workers: z.int().positive(),
    ring_slots: z.int().positive(),
    deadline_ms: z.number().positive(),
    max_deadline_ms: z.number().positive(),
    max_windows_per_request: z.int().positive().describe('In one POST /infer.'),
    num_motifs: z.int().positive(),
    motif_labels: z.array(z.string()),
    config_version: z.string(),
  }),
})

const LiveSchema = z
  .object({
    process: z.string().describe('Another one after a restart: ticks count anew then.'),
    cell_ms: z.int().positive().describe('What one character of `marks` stands for.'),
    pause_ms: z.int().positive().describe('When to ask again: less often under load.'),
    history: z.int().positive().describe('Ticks that are kept.'),
    latency_edges_ms: z.array(z.number()).describe('Upper edges of `latency`, whose last bucket is open.'),
    now: z.object({
      ready: z.boolean(),
      reasons: z.array(z.string()).describe('Why not.'),
      answering: z.array(BackendSchema),
      fallback: z.string().nullable().describe('Why it is not what was configured.'),
      level: LevelSchema,
      capacity: z.int().positive().describe('Slots in all rings.'),
      workers: z.array(
        z.object({
          backend: BackendSchema.nullable(),
          in_flight: z.int().nonnegative(),
          slots: z.int().positive(),
          heartbeat_age_s: z.number().nonnegative().nullable(),
          busy: z
            .number()
            .min(0)
            .max(1)
            .describe('Share of the last tick, estimated from the time per window.'),
        }),
      ),
      device: DeviceSchema.omit({
        library_version: true,
        firmware_version: true,
        clock_mhz: true,
      }).nullable(),
    }),
    provenance: z.object({
      version: z.string().describe('Of this software.'),
      uptime_s: z.int().nonnegative(),
      mode: BackendSchema,
      device: z.string(),
      model: z.string(),
      model_version: z.string(),
      model_sha256: z
        .partialRecord(BackendSchema, Sha256Schema)
        .describe('Of each backend that answers; of the configured one where none does.'),
      config_ok: z.boolean(),
      config_version: z.string(),
      golden: z.enum(['passed', 'failed', 'pending', 'not checked']),
      deadline_ms: z.number().positive(),
      motif_labels: z.array(z.string()),
    }),
    ticks: z
      .array(
        z.object({
          tick: z.int().nonnegative(),
          span_ms: z.int().nonnegative().describe('How long it really was.'),
          answered: z.int().nonnegative(),
          latency: z.array(z.int().nonnegative()).describe('Answered windows per bucket.'),
          depth: z.int().nonnegative().describe('Windows in flight when it ended.'),
          wait_ms: z.number().nonnegative().describe('The longest wait of an answered window.'),
          failed: z.record(z.string(), z.int().positive()).describe('Errors by their code.'),
          lanes: z.array(
            z.object({
              stream: z.int().nonnegative().describe('Number of the client of /stream; 0: over HTTP.'),
              answered: z.int().positive(),
              marks: z
                .string()
                .regex(/^[.A-Za-z]*$/)
                .describe('Per cell the top motif of its first answer: A is the first label, b the 28th.'),
            }),
          ),
          hidden: z.int().nonnegative().describe('Answered windows of clients that no lane was free for.'),
        }),
      )
      .describe('Oldest first.'),
  })
  .describe('What the live page shows.')

/** By the names that they have in the document. */
export function schemasOf({ motifCount, maxWindowsPerRequest }: Config) {
  const MotifScores = z
    .array(z.number().min(0).max(1))
    .length(motifCount)
    .describe('One score per motif, in the order of the labels that GET / tells.')
  const Result = z.object({ latent: LatentSchema, motif_scores: MotifScores })
  return {
    Sample: SampleSchema,
    Window: WindowSchema,
    Latent: LatentSchema,
    MotifScores,
    Result,
    InferRequest: z.union([
      z.object({ x: WindowSchema }).describe('One window. Other keys are ignored.'),
      z.object({ windows: z.array(WindowSchema).min(1).max(maxWindowsPerRequest) }).describe('Several.'),
    ]),
    RowError: RowErrorSchema,
    Results: z
      .object({
        results: z.array(z.union([Result, RowErrorSchema])).describe('One per window, in the order sent.'),
        failed: z.int().nonnegative().describe('How many have no result.'),
      })
      .describe('The answer to several windows.'),
    EncodeRequest: z.union([z.object({ imu_window: WindowSchema }), z.object({ x: WindowSchema })]),
    Encoding: z.object({
      latent_embedding: LatentSchema,
      model_version: z.string(),
      accuracy: z.number().min(0).max(1).nullable(),
    }),
    SelfTest: z.object({
      test_status: z.literal('success'),
      latent_shape: z.tuple([z.literal(LATENT_DIMS)]),
      motif_shape: z.tuple([z.literal(motifCount)]),
      latent_range: z.tuple([z.number(), z.number()]).describe('Least and greatest.'),
      motif_range: z.tuple([z.number(), z.number()]).describe('Least and greatest.'),
      inference_time_ms: z.number().nonnegative(),
    }),
    Health: HealthSchema,
    Readiness: ReadinessSchema,
    Status: StatusSchema,
    Root: RootSchema,
    Live: LiveSchema,
    Error: ErrorSchema,
    Problem: ProblemSchema,
  } satisfies Record<string, z.ZodType>
}
