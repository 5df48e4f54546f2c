import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type { Config } from '../config.ts'
import type { OnnxModel } from '../core/stream-task.ts'
import type { Model } from '../model.ts'

const THREAD_URL = new URL('./load-thread.js', import.meta.url)
/** Of reading and verifying: a disk that hangs keeps the thread for longer. */
const LOAD_TIMEOUT_MS = 60_000
/** A thread that has not ended so long after it was told to sits in the disk. */
const LEAVE_TIMEOUT_MS = 1000

/** What is asked of the thread. */
export interface LoadTask {
  readonly config: Config
  /** Whether the float model is wanted that answers of a device are compared with. */
  readonly wantsReference: boolean
}

/** What the configuration names now, verified. */
export interface Loaded {
  readonly model: Model
  /** See loadReference(). Null also where it is not wanted. */
  readonly reference: OnnxModel | string | null
}

/** What the thread says. */
export type LoadAnswer = Loaded | { readonly refused: string }

/** The model cannot be used, in words for the operator. */
export class LoadError extends Error {}

/**
 * Reads and verifies what the configuration names, in a thread of its own: to parse and hash a HEF of ten megabytes
 * would make windows late.
 */
export class ModelLoader {
  readonly #task: LoadTask
  readonly #closing = new AbortController()
  readonly #threads = new Set<Worker>()

  constructor(task: LoadTask) {
    this.#task = task
  }

  /** @throws LoadError; AbortError when it was closed meanwhile */
  async load(): Promise<Loaded> {
    this.#closing.signal.throwIfAborted()
    const thread = new Worker(THREAD_URL, { workerData: this.#task })
    this.#threads.add(thread)
    thread.once('exit', () => this.#threads.delete(thread))
    const timeout = AbortSignal.timeout(LOAD_TIMEOUT_MS)
    const signal = AbortSignal.any([this.#closing.signal, timeout])
    try {
      const answer = await new Promise<LoadAnswer>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
        thread.once('message', resolve)
        thread.once('error', reject)
        thread.once('exit', code =>
          reject(new LoadError(`The thread that read the model ended with ${code}`)),
        )
      })
      if ('refused' in answer) throw new LoadError(answer.refused)
      return answer
    } catch (error) {
      if (!timeout.aborted) throw error
      throw new LoadError(`The model was not read within ${LOAD_TIMEOUT_MS / 1000} s: does the disk hang?`)
    } finally {
      void thread.terminate()
    }
  }

  /** @returns false when a thread hangs in the disk, and process.exit() would wait for it for ever */
  async close(): Promise<boolean> {
    this.#closing.abort()
    const ended = Promise.all([...this.#threads].map(thread => once(thread, 'exit')))
    return Promise.race([ended.then(() => true), sleep(LEAVE_TIMEOUT_MS, false)])
  }
}
