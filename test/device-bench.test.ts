import { expect, test } from 'vitest'
import { runInt8Network } from '../bench/device/network.ts'
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
