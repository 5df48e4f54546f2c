import { z } from 'zod'
import { BACKENDS } from '../core/backend.ts'
import { LATENT_DIMS } from '../core/window.ts'
import { KEPT_REASONS } from './counters.ts'

/** Counts how often a field has changed its meaning or has gone. New fields may come without. */
const LINE_VERSION = 1

const ms = z.number().min(0)
const share = z.number().min(0).max(1)
const motif = z.object({ index: z.int().min(0), label: z.string(), score: z.number() })

const common = {
  v: z.literal(LINE_VERSION),
  /** Of the wall clock: a label, not to be subtracted. */
  time: z.iso.datetime(),
  request_id: z.string(),
  endpoint: z.string(),
  /** Of a client of `/stream`, counted from 1 since the start; 0 of others. */
  stream: z.int().min(0),
  sequence: z.int().min(0),
  config_version: z.string(),
}

/** What a client got that got a result. */
export const AnswerLine = z.strictObject({
  ...common,
  status: z.literal('ok'),
  backend: z.enum(BACKENDS),
  model_sha256: z.string(),
  latency_ms: z.strictObject({ admit: ms, queue: ms, infer: ms, settle: ms, encode: ms, total: ms }),
  /** Best first. */
  top_motifs: z.array(motif).min(1).max(3),
  confidence: z.number(),
  entropy: share,
  margin: z.number().min(0),
})
export type AnswerLine = z.infer<typeof AnswerLine>

/** What a client got that got an error. */
export const ErrorLine = z.strictObject({
  ...common,
  status: z.string().refine(status => status !== 'ok' && status !== ''),
  latency_ms: z.strictObject({ total: ms }),
})
export type ErrorLine = z.infer<typeof ErrorLine>

/** One line of answers-NNN.ndjson. */
export const Line = z.union([AnswerLine, ErrorLine])

/** One line of kept-NNN.ndjson: a window worth labelling. */
export const KeptLine = AnswerLine.extend({
  reasons: z.array(z.enum(KEPT_REASONS)).min(1),
  /** Of kept-NNN.f32: its samples, float32[100][9]. */
  row: z.int().min(0),
  latent: z.array(z.number()).length(LATENT_DIMS),
  motif_scores: z.array(z.number()).min(1),
})
export type KeptLine = z.infer<typeof KeptLine>
