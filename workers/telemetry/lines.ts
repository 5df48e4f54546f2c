import { LATENT_DIMS } from '../../src/core/window.ts'
import { type Certainty, certaintyOf } from '../../src/telemetry/certainty.ts'
import type { KeptReason } from '../../src/telemetry/counters.ts'
import type { AnswerLine, ErrorLine, KeptLine } from '../../src/telemetry/line.ts'
import type { TelemetryRecord } from '../../src/telemetry/record-ring.ts'
import type { TelemetryFacts } from '../../src/telemetry/telemetry.ts'

/** Not the schema's own: that would load zod for a number. The compiler holds both together. */
const LINE_VERSION = 1
const TOP_MOTIFS = 3

/** What a record says of its answer. */
export interface Reading {
  readonly latent: Float32Array
  readonly scores: Float32Array
  readonly certainty: Certainty
}

export function readingOf({ output }: TelemetryRecord): Reading {
  const scores = output.subarray(LATENT_DIMS)
  return { latent: output.subarray(0, LATENT_DIMS), scores, certainty: certaintyOf(scores, TOP_MOTIFS) }
}

/** Makes the lines of docs/telemetry.md. */
export class LineMaker {
  readonly #facts: TelemetryFacts

  constructor(facts: TelemetryFacts) {
    this.#facts = facts
  }

  /** @param timeMs Unix time */
  answer(record: TelemetryRecord, { scores, certainty }: Reading, timeMs: number): AnswerLine {
    const { motifLabels, sha256 } = this.#facts
    const [admit, queue, infer, settle, encode, total] = record.stagesMs.map(rounded)
    return {
      ...this.#common(record, timeMs),
      status: 'ok',
      backend: record.backend!,
      model_sha256: sha256[record.backend!],
      latency_ms: {
        admit: admit!,
        queue: queue!,
        infer: infer!,
        settle: settle!,
        encode: encode!,
        total: total!,
      },
      top_motifs: certainty.top.map(index => ({
        index,
        label: motifLabels[index]!,
        score: precise(scores[index]!),
      })),
      confidence: precise(certainty.confidence),
      entropy: precise(certainty.entropy),
      margin: precise(certainty.margin),
    }
  }

  error(record: TelemetryRecord, timeMs: number): ErrorLine {
    const { status, stagesMs } = record
    return { ...this.#common(record, timeMs), status, latency_ms: { total: rounded(stagesMs.at(-1)!) } }
  }

  kept(line: AnswerLine, { latent, scores }: Reading, reasons: KeptReason[], row: number): KeptLine {
    return {
      ...line,
      reasons,
      row,
      latent: Array.from(latent, precise),
      motif_scores: Array.from(scores, precise),
    }
  }

  #common({ requestId, endpoint, stream, sequence }: TelemetryRecord, timeMs: number) {
    return {
      v: LINE_VERSION,
      time: new Date(timeMs).toISOString(),
      request_id: requestId,
      endpoint,
      stream,
      sequence,
      config_version: this.#facts.configVersion,
    } as const
  }
}

/** To the microsecond. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000
}

/** To a millionth: scores and latents are of the order of 1. */
function precise(value: number): number {
  return Math.round(value * 1e6) / 1e6
}
