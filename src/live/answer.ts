import type { BackendKind } from '../core/backend.ts'
import type { Level } from '../core/degradation.ts'

/** What `GET /live` answers and the live page shows. Plain JSON: the page takes these types as they are. */
export interface Live {
  /** Another one after a restart: ticks count anew then. */
  readonly process: string
  /** What one mark stands for. */
  readonly cell_ms: number
  /** The page asks again so long after this answer: less often under load. */
  readonly pause_ms: number
  /** So many ticks are kept. */
  readonly history: number
  /** Upper edges of `Tick.latency`, whose last bucket is open. */
  readonly latency_edges_ms: readonly number[]
  readonly now: Now
  readonly provenance: Provenance
  /** Oldest first; those after the one that was asked for. */
  readonly ticks: readonly Tick[]
}

/** What happened within one second. */
export interface Tick {
  /** Counts from 0 since the start of the process. */
  readonly tick: number
  /** How long it really was. */
  readonly span_ms: number
  readonly answered: number
  /** Answered windows per bucket, from a request's first byte until its answer was made. */
  readonly latency: readonly number[]
  /** Windows in flight when the tick ended. */
  readonly depth: number
  /** The longest that an answered window waited to be taken, ms. */
  readonly wait_ms: number
  /** Errors by their code. `overloaded` is what was shed. */
  readonly failed: Readonly<Record<string, number>>
  /** Those that had answers. */
  readonly lanes: readonly LaneTick[]
  /** Answered windows of clients that no lane was free for. */
  readonly hidden: number
}

/** What one client got within one tick. */
export interface LaneTick {
  /** Number of the client of `/stream`; 0 for everything that was posted over HTTP. */
  readonly stream: number
  readonly answered: number
  /** A character per cell: the top motif of its first answer, as a letter of MOTIF_LETTERS, or `.` for none. */
  readonly marks: string
}

/** One for each motif that a model can have, in the order of its scores. */
export const MOTIF_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr'

export interface Now {
  readonly ready: boolean
  /** Why not. */
  readonly reasons: readonly string[]
  /** What answers. */
  readonly answering: readonly BackendKind[]
  /** Why it is not what was configured, in words. */
  readonly fallback: string | null
  readonly level: Level
  readonly capacity: number
  readonly workers: readonly Worker[]
  readonly device: Device | null
}

interface Worker {
  /** Null while it serves nothing. */
  readonly backend: BackendKind | null
  readonly in_flight: number
  readonly slots: number
  /** Null before it first came round. */
  readonly heartbeat_age_s: number | null
  /** Share of the last tick that it ran the model for, by the measured time per window. */
  readonly busy: number
}

interface Device {
  readonly id: string
  readonly name: string
  readonly temperature_celsius: number | null
  readonly throttled: boolean
  readonly utilization_percent: number
  readonly generation: number
}

interface Provenance {
  /** Of this software. */
  readonly version: string
  readonly uptime_s: number
  readonly mode: BackendKind
  readonly device: string
  readonly model: string
  readonly model_version: string
  /** Of each backend that answers; of the configured one where none does. */
  readonly model_sha256: Readonly<Partial<Record<BackendKind, string>>>
  /** Whether the model is the one that was expected, where one was. */
  readonly config_ok: boolean
  readonly config_version: string
  /** Whether it answers as the trained model does. */
  readonly golden: 'passed' | 'failed' | 'pending' | 'not checked'
  readonly deadline_ms: number
  readonly motif_labels: readonly string[]
}
