import { LATENT_DIMS } from '../../src/core/window.ts'

export const MOTIFS = 12

/**
 * float32[64 + 12]: what backends that do nothing answer, with as many digits as real results have; the first value is
 * that of the window, which tells answers apart. V8 remembers the texts of numbers that it has seen, so JSON made in
 * JavaScript costs less here than with a model: for all alike.
 */
export const NOOP_RESULT = Float32Array.from(
  { length: LATENT_DIMS + MOTIFS },
  (_, index) => (index < LATENT_DIMS ? Math.sin(index + 1) : (index - LATENT_DIMS + 1) / 78), // 78 = 1 + 2 + … + 12
)

/** What answers this window. */
export function noopResult(window: Float32Array): Float32Array {
  const result = NOOP_RESULT.slice()
  result[0] = window[0]!
  return result
}
