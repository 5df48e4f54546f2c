import type { CanaryObserver, GoldenCheck } from '../engine/observer.ts'
import { GOLDEN_RESULTS } from '../engine/observer.ts'
import type { Logger } from '../log.ts'
import type { WatchedEngine } from './engine.ts'
import type { MetricRegistry } from './registry.ts'

/** What golden windows found, at the start and between those of clients. */
export class GoldenMetrics implements CanaryObserver {
  readonly #registry: MetricRegistry
  readonly #log: Logger
  readonly #checks
  readonly #windows
  readonly #seconds
  /** The smallest of the last check of each worker; before the first, of all together. */
  readonly #cosines: number[]
  #heldAtStart = true
  #watching = false
  /** Workers whose last check failed. */
  readonly #failed = new Set<number>()

  constructor(registry: MetricRegistry, workers: number, log: Logger) {
    this.#registry = registry
    this.#log = log
    this.#cosines = new Array(workers).fill(0) // not known yet
    this.#checks = registry.counter(
      'hailo_golden_checks_total',
      'Golden checks of a stream that serves; skipped while clients need it',
      ['result'],
    )
    this.#windows = registry.counter(
      'hailo_golden_windows_total',
      'Golden windows inferred between those of clients; hailo_samples_processed_total and hailo_batch_size have them too',
    )
    this.#seconds = registry.counter(
      'hailo_golden_check_seconds_total',
      'Time that golden windows took between those of clients, from sent to answered',
    )
    for (const result of GOLDEN_RESULTS) this.#checks.inc({ result }, 0)
  }

  /** For a model that brings golden windows, the first time; without them there is nothing to tell. */
  watch(engine: WatchedEngine): void {
    if (this.#watching) return
    this.#watching = true
    this.#registry.gauge(
      'hailo_golden_cosine',
      'Smallest cosine between the latents of this backend and those of the trained model, in the last check',
      [],
      gauge => gauge.set(Math.min(...this.#cosines)),
    )
    this.#registry.gauge(
      'hailo_golden_ok',
      '0 when a backend was found not to answer like the trained model, until it does',
      [],
      gauge => {
        const isWrong = !this.#heldAtStart || engine.backends.fault?.cause === 'wrong_answers'
        gauge.set(isWrong ? 0 : 1)
      },
    )
  }

  /** All golden windows went through every stream, before any client's. @param cosine the smallest */
  checkedAtStart(cosine: number, holds: boolean): void {
    this.#cosines.fill(cosine)
    this.#heldAtStart = holds
  }

  goldenChecked(worker: number, { result, windows, tookMs, backend, parity }: GoldenCheck): void {
    this.#checks.inc({ result })
    this.#windows.inc(windows)
    this.#seconds.inc(tookMs / 1000)
    if (result === 'skipped') return
    this.#cosines[worker] = parity!.cosine
    const failedBefore = this.#failed.delete(worker)
    if (result === 'failed') {
      this.#failed.add(worker)
      this.#log.error({ worker, backend }, `golden check failed, this backend is given up: ${parity}`)
    } else if (failedBefore) this.#log.info({ worker, backend }, `golden check passed again: ${parity}`)
  }
}
