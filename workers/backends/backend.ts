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
   * @returns anything but 'ok' leaves the stream unusable: close and reopen it.
   */
  collect(output: Float32Array): Outcome | Promise<Outcome>
  /** Windows in the batch that the last collect() ran, 0 when it ran none. */
  readonly batchSize: number
  close(): void | Promise<void>
}
