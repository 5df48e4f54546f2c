import { monotonicMs } from '../clock.ts'
import type { BackendFault, BackendKind } from '../core/backend.ts'
import type { StreamReport } from '../core/stream-task.ts'
import type { BackendStatus, Fallback } from './backend-status.ts'
import type { Observer } from './observer.ts'
import type { Stream } from './stream.ts'

/** Puts together what the workers tell of their backends, and tells the observer what has changed. */
export class BackendWatch {
  readonly #streams: readonly Stream[]
  readonly #primary: BackendKind
  readonly #observer: Observer
  /** The last of each worker. */
  readonly #reports: (StreamReport | null)[]
  readonly #fallbacks: (Fallback | null)[]

  constructor(streams: readonly Stream[], primary: BackendKind, observer: Observer) {
    this.#streams = streams
    this.#primary = primary
    this.#observer = observer
    this.#reports = streams.map(() => null)
    this.#fallbacks = streams.map(() => null)
  }

  get status(): BackendStatus {
    const fallbacks = this.#fallbacks.filter(fallback => fallback !== null)
    const faults = this.#reports.flatMap(report => report?.fault ?? [])
    return {
      // Read where the workers write it: a report may still be on its way.
      answering: [...new Set(this.#streams.map(({ ring }) => ring.serving))].filter(kind => kind !== null),
      fallback: fallbacks.toSorted((a, b) => a.sinceMs - b.sinceMs)[0] ?? null,
      fault: faults.find(({ cause }) => cause === 'wrong_answers') ?? faults[0] ?? null,
      device: this.#reports.findLast(report => report?.device)?.device ?? null,
    }
  }

  /** A worker told how it stands. */
  reported(report: StreamReport): void {
    const { worker, epoch, serving, fault } = report
    if (epoch !== this.#streams[worker]!.ring.epoch) return
    const before = this.#reports[worker]
    this.#change(worker, report)
    const fallback = this.#fallbacks[worker]!
    if (fault !== null && serving !== null && serving !== this.#primary) {
      if (fallback === null) this.#startFallback(worker, { to: serving, ...fault })
    } else if (fallback !== null && serving === this.#primary) this.#endFallback(worker, fallback)
    if (serving !== null && serving !== before?.serving) this.#observer.workerServing(worker, serving)
  }

  /** A worker is gone. @param fault what its backend failed with, null when it was not the backend */
  lost(worker: number, fault: BackendFault | null): void {
    const { epoch } = this.#streams[worker]!.ring
    this.#change(worker, { worker, epoch, serving: null, fault, device: null })
    const fallback = this.#fallbacks[worker]!
    if (fallback !== null) this.#endFallback(worker, fallback)
  }

  #change(worker: number, report: StreamReport): void {
    const before = this.status.device
    // While it is tried again, nothing else is known than why it does not serve.
    const fault = report.fault ?? (report.serving === null ? (this.#reports[worker]?.fault ?? null) : null)
    this.#reports[worker] = { ...report, fault }
    const after = this.status.device
    if (before === null && after !== null) this.#observer.deviceChanged('found', after)
    if (before !== null && after === null) this.#observer.deviceChanged('lost', before)
    if (after !== null && after.throttled !== (before?.throttled ?? false)) {
      this.#observer.deviceChanged(after.throttled ? 'throttled' : 'no longer throttled', after)
    }
  }

  #startFallback(worker: number, { to, cause, detail }: { to: BackendKind } & BackendFault): void {
    const fallback = { from: this.#primary, to, cause, detail, sinceMs: monotonicMs() }
    this.#fallbacks[worker] = fallback
    this.#observer.fallbackStarted(worker, fallback)
  }

  #endFallback(worker: number, fallback: Fallback): void {
    this.#fallbacks[worker] = null
    this.#observer.fallbackEnded(worker, fallback)
  }
}
