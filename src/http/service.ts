import type { Config } from '../config.ts'
import type { Engine } from '../engine/engine.ts'
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Model } from '../model.ts'

/** Everything the front door tells about: put together in main.ts, changed only by what it holds. */
export interface Service {
  readonly config: Config
  readonly model: Model
  readonly engine: Engine
  readonly metrics: Metrics
  readonly readiness: Readiness
  readonly log: Logger
  /** The package's version. */
  readonly version: string
  /** What runs the model, in words. */
  readonly device: string
  /** Monotonic ms of the start. */
  readonly startedMs: number
}

/** How far the start has come. */
export interface Readiness {
  phase: 'starting' | 'warming' | 'ready' | 'golden_check_failed'
}
