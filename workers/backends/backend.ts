import type { BackendFailure, BackendFault } from '../../src/core/backend.ts'
import type { Outcome } from '../../src/core/outcome.ts'

/** One inference stream, owned by one worker thread. Windows finish in the order they were submitted. */
export interface Backend {
  /** Windows that may be in flight at once, ≥ 1: submitted and not yet collected. */
  readonly depth: number
  /** @param input float32[100][9], raw sensor units. Copied before return. */
  submit(input: Float32Array): void
  /**
   * Ends the oldest submitted window. May run everything submitted so far as one batch, whose
   * other results later calls then return at once.
   * @param output float32[64 + motifs]: latent, then motif scores in [0, 1]. Untouched unless 'ok'.
   * @returns anything but 'ok' leaves the stream unusable, and `failure` says why: close and reopen it.
   */
  collect(output: Float32Array): Outcome | Promise<Outcome>
  /**
   * Why the stream is of no use any more. Null while it is: never after collect() has returned
   * something else than 'ok', but a stream may be lost without a window too. Must not block.
   */
  readonly failure: BackendFault | null
  /** Results that the next calls of collect() give at once, without running or waiting for anything. */
  readonly ready: number
  /** Windows in the batch that the last collect() ran, 0 when it ran none. */
  readonly batchSize: number
  /**
   * Tells how the device is, to whom the backend was given when it was opened. Asked once a second,
   * with or without windows. Must not block: it tells what is known, it does not ask the device.
   */
  reportDevice?(): void
  /** Gives everything back, also when the stream is lost; what is in flight gets no result. */
  close(): void | Promise<void>
}

/** A backend cannot be opened. Expected, and met by trying again or by the fallback; any other error is a bug. */
export class BackendError extends Error implements BackendFault {
  override readonly cause: BackendFailure
  /** Trying again will not help before somebody has changed something. */
  readonly permanent: boolean

  constructor(cause: BackendFailure, detail: string, { permanent = false } = {}) {
    super(detail)
    this.name = 'BackendError'
    this.cause = cause
    this.permanent = permanent
  }

  get detail(): string {
    return this.message
  }
}
