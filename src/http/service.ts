import type { Config } from '../config.ts'
import type { Engine } from '../engine/engine.ts'
import type { BeginTrace, RefusalCode, RefusalReason, TurnedAway, Witness } from '../engine/observer.ts'
import type { LiveFeed } from '../live/feed.ts'
import type { Logger } from '../log.ts'
import type { Reloads } from '../reload/outcome.ts'
import type { ServedModels } from '../served-models.ts'
import type { FrameName } from './frame.ts'

/** Everything the front door tells about: put together in assemble.ts, changed only by what it holds. */
export interface Service {
  readonly config: Config
  readonly models: ServedModels
  readonly reloads: Reloads
  readonly engine: Engine
  readonly metrics: FrontDoorMetrics
  readonly witness: Witness
  readonly live: LiveFeed
  /** Null: nobody traces, and traceparent is not even read. */
  readonly beginTrace: BeginTrace | null
  readonly readiness: Readiness
  readonly log: Logger
  /** The package's version. */
  readonly version: string
  /** Whether the model is the one that EXPECTED_SHA256 names, where it names one. */
  readonly configOk: boolean
  /** Monotonic ms of the start. */
  readonly startedMs: number
}

/** What the front door counts, and what it tells of the counts. */
export interface FrontDoorMetrics {
  /** Mean time of the last answers, ms; null before the first. */
  readonly recentLatencyMs: number | null
  /** Unix time, ms; 0 before the first. */
  readonly lastInferenceMs: number
  answered(method: string, endpoint: string, status: number, seconds: number): void
  /** A window was not let through to the engine. */
  refused(code: RefusalCode | 'rate_limited', reason: RefusalReason): void
  /** One frame of `/stream` was read or written. */
  framed(direction: 'in' | 'out', type: FrameName | 'unknown'): void
  /** What framed() adds to, for those who do it for every window. */
  frames(direction: 'in' | 'out', type: FrameName): { count: number }
  /** So many clients of `/stream` are connected now. */
  streaming(connections: number): void
  /** A connection was closed as it came. */
  turnedAway(reason: TurnedAway): void
  /** A window of `/stream` was left out, as its client has agreed to. */
  thinned(): void
  healthChecked(healthy: boolean): void
  scrape(accept: string): Promise<{ contentType: string; text: string }>
}

/** How far the start has come. */
export interface Readiness {
  phase: 'starting' | 'warming' | 'ready' | 'golden_check_failed'
}
