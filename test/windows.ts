import { loadConfig } from '../src/config.ts'
import type { GoldenVectors } from '../src/core/golden.ts'
import { Ring } from '../src/core/ring.ts'
import { WINDOW_VALUES } from '../src/core/window.ts'
import { loadModel } from '../src/model.ts'

export const MOTIF_COUNT = 12

/** 64 windows of held-out recordings with the trained model's own results, see golden.json beside the model. */
export const GOLDEN: GoldenVectors = (await loadModel(loadConfig({}))).golden!

/** A recorded window, float32[100][9], another for each n below 64: do not write. */
export function windowOf(n: number): Float32Array {
  return GOLDEN.windows.subarray(n * WINDOW_VALUES, (n + 1) * WINDOW_VALUES)
}

export function ringOf(capacity: number, firstSequence = 0): Ring {
  return Ring.create({ capacity, motifCount: MOTIF_COUNT, firstSequence })
}

/** Publishes a window as the front door does, at 0 ms and with all the time in the world unless told otherwise. */
export function publish(ring: Ring, window: Float32Array, { nowMs = 0, deadlineMs = Infinity } = {}): number {
  const slot = ring.nextSlot!
  slot.input.set(window)
  slot.prepare(nowMs, deadlineMs)
  return ring.publish()
}
