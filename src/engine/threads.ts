import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import type { BackendKind } from '../core/backend.ts'

/** Worker threads, one for each stream. */
export type Threads = Piscina

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
    maxThreads: count,
    idleTimeout: Number.POSITIVE_INFINITY,
    atomics: 'disabled', // the ring does the waiting
    recordTiming: false,
  })
}
