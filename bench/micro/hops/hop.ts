import { WINDOW_VALUES } from '../../../src/core/window.ts'

/** What is sent, each time anew: float32[100][9]. */
export const WINDOW = Float32Array.from({ length: WINDOW_VALUES }, (_, index) => Math.sin(index))

/** One way from a thread to another and back. */
export interface Hop {
  /** Keeps `depth` windows under way for so long; resolves when all are back. */
  run(ms: number): Promise<void>
  close(): Promise<void>
}

export interface HopTask {
  /** Windows under way at once, a power of two. */
  readonly depth: number
  /** Told each result, float32[64 + 12], valid during the call only. */
  onResult(result: Float32Array): void
}
