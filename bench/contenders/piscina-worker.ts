import { workerData } from 'piscina'
import type { ContenderBackend } from './contender.ts'
import { openInfer } from './infer.ts'

const infer = await openInfer(workerData as ContenderBackend)

/** One window, in memory that came over with it. */
export default function inferWindow(window: Float32Array): Promise<Float32Array> {
  return infer(window)
}
