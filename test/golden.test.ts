import { expect, test } from 'vitest'
import type { BackendKind } from '../src/core/backend.ts'
import { firstOf, type GoldenVectors, goldenWindow, Parity } from '../src/core/golden.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { GOLDEN, MOTIF_COUNT, windowOf } from './windows.ts'

/** Two windows: the first with a clear best motif, the second a close call. */
const TWO: GoldenVectors = {
  count: 2,
  windows: GOLDEN.windows.slice(0, 2 * 900),
  latents: Float32Array.from({ length: 2 * LATENT_DIMS }, (_, n) => (n % LATENT_DIMS === 0 ? 1 : 0)),
  motifScores: Float32Array.of(0.8, 0.2, 0.52, 0.48),
}

test('the trained model holds by the limits of every backend', () => {
  for (const backend of ['hailo', 'onnx'] as const) {
    const parity = Parity.of(backend, GOLDEN)!
    for (let n = 0; n < GOLDEN.count; n++) parity.add(answerOf(GOLDEN, n), n)
    expect(parity).toMatchObject({ holds: true, topMotifMisses: 0 })
    expect(parity.cosine).toBeCloseTo(1, 6)
  }
  expect(Parity.of('stub', GOLDEN)).toBeNull()
})

test.each([
  ['onnx', 0.99991, 0.99991, true],
  ['onnx', 0.99989, 1, false],
  ['hailo', 0.9951, 1, false], // the mean is not enough
  ['hailo', 0.9981, 0.99995, true],
  ['hailo', 0.9951, 0.9951, false],
  ['hailo', 0.9949, 1, false],
  ['hailo', Number.NaN, 1, false],
] as const)('%s with the cosines %d and %d: it holds is %s', (backend, first, second, holds) => {
  expect(parityOf(backend, [first, second], [0, 0]).holds).toBe(holds)
})

test.each([
  ['hailo', [0, 0], 0],
  ['hailo', [0, 1], 0],
  ['hailo', [1, 0], 1],
  ['onnx', [0, 1], 1],
  ['onnx', [1, 1], 2],
] as const)('%s with the best motifs %j has %d of them wrong', (backend, best, misses) => {
  const parity = parityOf(backend, [1, 1], best)
  expect(parity.topMotifMisses).toBe(misses)
  expect(parity.holds).toBe(misses === 0)
})

test('firstOf() takes the first golden windows with their answers, in memory of their own', () => {
  const part = firstOf(GOLDEN, 3)
  expect(part.count).toBe(3)
  expect(goldenWindow(part, 2)).toEqual(windowOf(2))
  expect(part.windows.buffer.byteLength).toBe(3 * 3600)
  expect(part.latents.buffer.byteLength).toBe(3 * LATENT_DIMS * 4)
  expect(part.motifScores.buffer.byteLength).toBe(3 * MOTIF_COUNT * 4)
})

function answerOf({ latents, motifScores, count }: GoldenVectors, n: number): Float32Array {
  const motifs = motifScores.length / count
  return Float32Array.of(
    ...latents.subarray(n * LATENT_DIMS, (n + 1) * LATENT_DIMS),
    ...motifScores.subarray(n * motifs, (n + 1) * motifs),
  )
}

/** Of answers to TWO with these cosines and these best motifs. */
function parityOf(backend: BackendKind, cosines: readonly number[], best: readonly number[]): Parity {
  const parity = Parity.of(backend, TWO)!
  cosines.forEach((cosine, n) => {
    const output = new Float32Array(LATENT_DIMS + 2)
    output[0] = cosine
    output[1] = Math.sqrt(1 - cosine ** 2)
    output[LATENT_DIMS + best[n]!] = 1
    parity.add(output, n)
  })
  return parity
}
