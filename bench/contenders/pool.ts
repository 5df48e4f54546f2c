import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import type { ContenderBackend } from './contender.ts'
import type { Infer } from './infer.ts'

const WORKER = fileURLToPath(new URL('./piscina-worker.js', import.meta.url))
/** Tasks are sent ahead of the worker: with one at a time it would wait for the main thread after each. */
const TASKS_PER_WORKER = 64

/** Piscina as it is meant to be used, a task per window. `infer` gives its window's memory away. */
export function openPool(
  backend: ContenderBackend,
  threads: number,
): { infer: Infer; close: () => Promise<void> } {
  const pool = new Piscina<Float32Array, Float32Array>({
    filename: WORKER,
    workerData: backend,
    minThreads: threads,
    maxThreads: threads,
    concurrentTasksPerWorker: TASKS_PER_WORKER,
    idleTimeout: Number.POSITIVE_INFINITY,
    recordTiming: false,
  })
  return {
    infer: window => pool.run(window, { transferList: [window.buffer as ArrayBuffer] }),
    close: () => pool.destroy(),
  }
}
