import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { loadConfig } from '../src/config.ts'
import { cosineOf, topOf } from '../src/core/golden.ts'
import type { OnnxModel } from '../src/core/stream-task.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { loadModel } from '../src/model.ts'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import type { Backend } from '../workers/backends/backend.ts'
import { openOnnx } from '../workers/backends/onnx.ts'
import { openStub } from '../workers/backends/stub.ts'
import { GOLDEN, MOTIF_COUNT, windowOf } from './windows.ts'

const DYNAMIC = join(SHIPPED_MODEL_FOLDER, 'model_dynamic.onnx')
const FIXED = join(SHIPPED_MODEL_FOLDER, 'model.onnx')

describe('openOnnx()', () => {
  test.each([
    [DYNAMIC, 16],
    [FIXED, 1],
  ])('with %s takes %d windows at once', async (path, depth) => {
    expect((await open(path)).depth).toBe(depth)
  })

  test.each([
    [DYNAMIC, 1],
    [DYNAMIC, 5],
    [DYNAMIC, 16],
    [FIXED, 1],
  ])('with %s answers like the trained model in batches of %d', async (path, batch) => {
    const results = await inferGolden(await open(path), batch)
    results.forEach((result, n) => {
      const latent = GOLDEN.latents.subarray(n * LATENT_DIMS, (n + 1) * LATENT_DIMS)
      const motifScores = GOLDEN.motifScores.subarray(n * MOTIF_COUNT, (n + 1) * MOTIF_COUNT)
      expect(cosineOf(result.subarray(0, LATENT_DIMS), latent)).toBeGreaterThanOrEqual(0.9999)
      expect(topOf(result.subarray(LATENT_DIMS))).toBe(topOf(motifScores))
      expect(largestDifference(result.subarray(LATENT_DIMS), motifScores)).toBeLessThan(1e-4)
    })
  })

  test('answers the same in every batch size, and in the fixed model', async () => {
    const alone = await inferGolden(await open(DYNAMIC), 1)
    const others = [
      await inferGolden(await open(DYNAMIC), 5),
      await inferGolden(await open(DYNAMIC), 16),
      await inferGolden(await open(FIXED), 1),
    ]
    for (const results of others) {
      results.forEach((result, n) => {
        expect(largestDifference(result, alone[n]!)).toBeLessThan(1e-5)
      })
    }
  })

  test('keeps what is submitted while a batch is being given out for the next batch', async () => {
    const backend = await open(DYNAMIC)
    const expected = await inferGolden(await open(DYNAMIC), 1)
    const outputs: Float32Array[] = []
    const batchSizes: number[] = []
    let submitted = 0
    for (; submitted < 3; submitted++) backend.submit(windowOf(submitted))
    while (outputs.length < submitted) {
      outputs.push(await collect(backend))
      batchSizes.push(backend.batchSize)
      // Two more for each of the first results, as when windows arrive faster than they are answered.
      for (let more = 0; more < 2 && submitted < 9; more++) backend.submit(windowOf(submitted++))
    }
    expect(batchSizes).toEqual([3, 0, 0, 6, 0, 0, 0, 0, 0])
    outputs.forEach((output, n) => {
      expect(largestDifference(output, expected[n]!)).toBeLessThan(1e-5)
    })
  })

  test('copies a window before submit() returns', async () => {
    const backend = await open(DYNAMIC)
    const window = windowOf(0).slice()
    backend.submit(window)
    const result = collect(backend)
    window.fill(0)
    const [expected] = await inferGolden(await open(DYNAMIC), 1)
    expect(await result).toEqual(expected)
  })

  test('gives out motif scores from 0 to 1 that sum to 1', async () => {
    for (const result of await inferGolden(await open(DYNAMIC), 16)) {
      expect(sumOf(result.subarray(LATENT_DIMS))).toBeCloseTo(1, 5)
      for (const score of result.subarray(LATENT_DIMS)) {
        expect(score).toBeGreaterThanOrEqual(0)
        expect(score).toBeLessThanOrEqual(1)
      }
    }
  })

  test('gives out the logits as they are for a model whose head needs no softmax', async () => {
    const [scores] = await inferGolden(await open(DYNAMIC), 1)
    const [logits] = await inferGolden(await open(DYNAMIC, { motifActivation: 'none' }), 1)
    expect(logits!.subarray(0, LATENT_DIMS)).toEqual(scores!.subarray(0, LATENT_DIMS))
    expect(sumOf(logits!.subarray(LATENT_DIMS))).not.toBeCloseTo(1, 1)
    expect(topOf(logits!.subarray(LATENT_DIMS))).toBe(topOf(scores!.subarray(LATENT_DIMS)))
  })

  test('refuses a model without the input that its manifest names', async () => {
    await expect(open(DYNAMIC, { inputName: 'imu' })).rejects.toThrow(
      'Cannot run model: its input imu is [], expected [batch,100,9] with a dynamic batch or 1',
    )
  })
})

describe('openStub()', () => {
  test('answers the same window with the same numbers, whatever came before it', async () => {
    const first = await inferGolden(openStub(MOTIF_COUNT), 1)
    const again = await inferGolden(openStub(MOTIF_COUNT), 16)
    expect(again).toEqual(first)
  })

  test('answers every window with other numbers, also when one bit differs', async () => {
    const oneBitOff = windowOf(0).slice()
    new Uint8Array(oneBitOff.buffer)[3599]! ^= 1
    const stub = openStub(MOTIF_COUNT)
    stub.submit(oneBitOff)
    const results = [await collect(stub), ...(await inferGolden(stub, 16))]
    expect(new Set(results.map(result => result.join())).size).toBe(65)
  })

  test('answers with a latent from -1 to 1 and motif scores that sum to 1, however many there are', async () => {
    for (const motifCount of [1, 12, 44]) {
      for (const result of await inferGolden(openStub(motifCount), 1, motifCount)) {
        for (const value of result.subarray(0, LATENT_DIMS)) expect(Math.abs(value)).toBeLessThanOrEqual(1)
        expect(sumOf(result.subarray(LATENT_DIMS))).toBeCloseTo(1, 5)
      }
    }
  })
})

/** A backend over one of the shipped models, closed when the test ends. */
async function open(onnxPath: string, changed: Partial<OnnxModel> = {}): Promise<Backend> {
  const { plan } = await loadModel(loadConfig({ ONNX_PATH: onnxPath }))
  assert(plan.kind === 'onnx')
  const backend = await openOnnx({ ...plan.model, ...changed }, 12)
  onTestFinished(() => backend.close())
  return backend
}

/** The results of the 64 golden windows, `batch` submitted at a time. */
async function inferGolden(backend: Backend, batch: number, motifCount?: number): Promise<Float32Array[]> {
  const results: Float32Array[] = []
  for (let submitted = 0; submitted < GOLDEN.count; ) {
    for (; submitted < Math.min(results.length + batch, GOLDEN.count); submitted++) {
      backend.submit(windowOf(submitted))
    }
    while (results.length < submitted) results.push(await collect(backend, motifCount))
  }
  return results
}

async function collect(backend: Backend, motifCount = MOTIF_COUNT): Promise<Float32Array> {
  const output = new Float32Array(LATENT_DIMS + motifCount)
  expect(await backend.collect(output)).toBe('ok')
  return output
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  return Math.max(...a.map((value, index) => Math.abs(value - b[index]!)))
}

function sumOf(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value, 0)
}
