import { BACKENDS, type BackendKind } from '../src/core/backend.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { WINDOW_STATUSES } from '../src/http/stream-words.ts'
import { type ErrorCode, errorCode } from './error.ts'
import { type Answer, badAnswer, jsonOf } from './exchange.ts'

/** What the model makes of one window. */
export interface Inference extends Result, Provenance {}

interface Result {
  /** float32[64] */
  readonly latent: Float32Array
  /** float32[motifs], each in [0, 1] */
  readonly motifScores: Float32Array
}

/** Each is null when the answer does not say, or when a page of another origin may not read it. */
interface Provenance {
  /** What gave this result. */
  readonly backend: BackendKind | null
  /** Of the model: its first 12 hex digits, or "stub". */
  readonly modelSha256: string | null
  /** Names the request in the server's log. */
  readonly requestId: string | null
  /** From the request's first byte until the model took the window. */
  readonly queueMs: number | null
  /** The model's own time. */
  readonly inferMs: number | null
}

export interface Failed {
  readonly error: ErrorCode
}

/**
 * Reads a binary answer of `count` rows. The results are views: together they keep the answer in memory.
 * @throws InferenceError `bad_answer`
 */
export function readRows(answer: Answer, count: number): (Inference | Failed)[] {
  const { body } = answer
  const rowBytes = body.length / count
  if (rowBytes % 4 !== 0 || rowBytes <= LATENT_DIMS * 4) {
    throw badAnswer(answer, `${body.length} bytes are not ${count} rows of 64 + motifs float32`)
  }
  const provenance = provenanceOf(answer)
  return Array.from({ length: count }, (_, index) => {
    const row = new Float32Array(body.buffer, body.byteOffset + index * rowBytes, rowBytes / 4)
    const failure = failureOf(row)
    return failure === null ? { ...resultOf(row), ...provenance } : { error: failure }
  })
}

/** @throws InferenceError `bad_answer` */
export function readJson(answer: Answer): Inference {
  const { latent, motif_scores } = jsonOf(answer)
  if (!areNumbers(latent) || latent.length !== LATENT_DIMS) throw badAnswer(answer, 'no latent of 64 numbers')
  if (!areNumbers(motif_scores)) throw badAnswer(answer, 'no motif scores')
  return {
    latent: Float32Array.from(latent),
    motifScores: Float32Array.from(motif_scores),
    ...provenanceOf(answer),
  }
}

/** Splits float32[64 + motifs]. */
export function resultOf(output: Float32Array): Result {
  return { latent: output.subarray(0, LATENT_DIMS), motifScores: output.subarray(LATENT_DIMS) }
}

const QUIET_NAN = 0x7fc00000
/** Bits in which a NaN can carry something. */
const PAYLOAD = 0x003fffff

/** A row of a window that failed is nothing but quiet NaNs that carry the status. A result has no NaN at all. */
function failureOf(row: Float32Array): ErrorCode | null {
  const first = new Uint32Array(row.buffer, row.byteOffset, 1)[0]!
  return (first & ~PAYLOAD) === QUIET_NAN ? errorCode(WINDOW_STATUSES[first & PAYLOAD]) : null
}

function areNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every(Number.isFinite)
}

function provenanceOf({ header }: Answer): Provenance {
  const backend = header('X-Inference-Backend')
  const timing = header('Server-Timing') ?? ''
  const durationMs = (name: string) => {
    const found = new RegExp(`\\b${name};dur=([\\d.]+)`).exec(timing)
    return found ? Number(found[1]) : null
  }
  return {
    backend: BACKENDS.find(kind => kind === backend) ?? null,
    modelSha256: header('X-Model-Sha256'),
    requestId: header('X-Request-ID'),
    queueMs: durationMs('queue'),
    inferMs: durationMs('infer'),
  }
}
