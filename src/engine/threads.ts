import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import type { BackendKind } from '../core/backend.ts'

/**
 * Of each worker's JavaScript heap. A thread that grows beyond it is ended alone. A single allocation that does not fit
 * ends the process all the same, with 134: V8 asks nobody in the middle of one. Models, rings and what ONNX Runtime
 * allocates lie outside of it.
 */
const WORKER_HEAP_MIB = 128

/** Worker threads: `minThreads` of them, one for each stream, and as many again while a model takes over from another. */
export type Threads = Piscina

/** A thread beyond one for each stream is kept for so long after its task, ms: another model may follow. */
const SPARE_THREAD_MS = 10_000

/**
 * They start on their own, while this thread goes on: before it has read a model or made an engine.
 * @param workerUrl the module whose default export serves a stream, see workers/serve.ts
 * @param mode what they will run, so that they can load it
 */
export function startThreads(workerUrl: URL, count: number, mode: BackendKind): Threads {
  return new Piscina({
    filename: fileURLToPath(workerUrl),
    workerData: mode,
    minThreads: count,
    maxThreads: count * 2,
    idleTimeout: SPARE_THREAD_MS,
    atomics: 'disabled', // the ring does the waiting
    recordTiming: false,
    resourceLimits: { maxOldGenerationSizeMb: WORKER_HEAP_MIB },
  })
}
