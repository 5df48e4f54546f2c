import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'

/** Worker threads, one for each stream. */
export type Threads = Piscina

/**
 * They start on their own, while this thread goes on: before it has read a model or made an engine.
 * @param workerUrl the module whose default export serves a stream, see workers/serve.ts
 */
export function startThreads(workerUrl: URL, count: number): Threads {
  return new Piscina({
    filename: fileURLToPath(workerUrl),
    minThreads: count,
    maxThreads: count,
    idleTimeout: Number.POSITIVE_INFINITY,
    atomics: 'disabled', // the ring does the waiting
    recordTiming: false,
  })
}
