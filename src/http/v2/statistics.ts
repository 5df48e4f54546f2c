import type { Service } from '../service.ts'
import type { ModelStatistics } from './schema.ts'

type Duration = { count: number; ns: number }
type InferenceStats = ModelStatistics['model_stats'][number]['inference_stats']

/** Where the time of one answered request went, ms. */
export interface Phases {
  readonly total: number
  readonly decode: number
  readonly queue: number
  readonly infer: number
  readonly encode: number
}

/** What the requests of this protocol took, growing only: perf_analyzer takes differences. */
export class Statistics {
  readonly #stats: InferenceStats = {
    success: never(),
    fail: never(),
    queue: never(),
    compute_input: never(),
    compute_infer: never(),
    compute_output: never(),
    cache_hit: never(),
    cache_miss: never(),
  }

  succeeded({ total, decode, queue, infer, encode }: Phases): void {
    add(this.#stats.success, total)
    add(this.#stats.compute_input, decode)
    add(this.#stats.queue, queue)
    add(this.#stats.compute_infer, infer)
    add(this.#stats.compute_output, encode)
  }

  failed(totalMs: number): void {
    add(this.#stats.fail, totalMs)
  }

  /** The counts of windows and of runs are those of the workers, whichever door the windows came by. */
  report({ models, engine, metrics }: Service): ModelStatistics {
    const { servedName, version } = models.current
    const counters = engine.streams.map(stream => stream.counters)
    return {
      model_stats: [
        {
          name: servedName,
          version,
          last_inference: metrics.lastInferenceMs,
          inference_count: counters.reduce((sum, { inferred }) => sum + inferred, 0),
          execution_count: counters
            .flatMap(({ batches }) => [...batches])
            .reduce((sum, count) => sum + count, 0),
          inference_stats: this.#stats,
          batch_stats: [],
        },
      ],
    }
  }
}

function never(): Duration {
  return { count: 0, ns: 0 }
}

/** Whole nanoseconds: clients parse them as uint64. */
function add(duration: Duration, milliseconds: number): void {
  duration.count++
  duration.ns += Math.max(0, Math.round(milliseconds * 1e6))
}
