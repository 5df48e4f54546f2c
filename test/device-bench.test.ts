import { expect, test } from 'vitest'
import { runInt8Network } from '../bench/device/network.ts'
import { MODELLED, runEngine } from '../bench/device/pipeline.ts'
import { COMPILER } from './native.ts'

test.skipIf(COMPILER === null)(
  'SOFTHAILORT_SIMD chooses the loops of the int8 network, and all give the same bytes',
  { timeout: 120_000 },
  async () => {
    const best = await runInt8Network({ milliseconds: 20 })
    const plain = await runInt8Network({ simd: 'off', milliseconds: 20 })
    expect(plain.kernels).toBe('portable')
    expect(best.digest).toBe(plain.digest)
    expect(await runInt8Network({ simd: best.kernels, milliseconds: 20 })).toMatchObject({
      kernels: best.kernels,
      digest: best.digest,
    })
  },
)

test.skipIf(COMPILER === null)(
  'the engine answers every window on the modelled device, and is never faster than the model',
  { timeout: 120_000 },
  async () => {
    const oneDeep = await runEngine({ workers: 1, depth: 1, atOnce: 2, everyMs: null, milliseconds: 250 })
    expect(oneDeep).toMatchObject({ refused: 0, wrong: 0 })
    expect(1000 * oneDeep.p50Ms).toBeGreaterThanOrEqual(MODELLED.latencyUs)
    expect(oneDeep.windowsPerSecond).toBeLessThan(1e6 / MODELLED.latencyUs)
    expect(oneDeep.windowsPerSecond).toBeGreaterThan(0)
  },
)
