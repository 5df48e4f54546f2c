import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type { Config } from '../config.ts'
import type { OnnxModel } from '../core/stream-task.ts'
import type { Served } from '../served-models.ts'

const THREAD_URL = new URL('./load-thread.js', import.meta.url)
/** Of reading and verifying: a disk that hangs keeps the thread for longer. */
const LOAD_TIMEOUT_MS = 60_000
/** A thread that has nothing more to read is kept for so long: to start one takes longer than most models. */
const LINGER_MS = 5000
/** A thread that has not ended so long after it was told to sits in the disk. */
const LEAVE_TIMEOUT_MS = 1000

/** What is asked of the thread. */
export interface LoadTask {
  readonly config: Config
  /** Whether the float model is wanted that answers of a device are compared with. */
  readonly wantsReference: boolean
}

/** What the configuration names now, verified. */
export interface Loaded extends Served {
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
  /** Null while there was nothing to read for a while. */
  #thread: Worker | null = null
  /** Those that were told to end. */
  readonly #leaving = new Set<Promise<unknown>>()
  /** Ends what is under way. */
  #giveUp: (why: Error) => void = () => {}
  #lingering: NodeJS.Timeout | undefined

  constructor(task: LoadTask) {
    this.#task = task
  }

  /** One at a time. @throws LoadError */
  async load(): Promise<Loaded> {
    clearTimeout(this.#lingering)
    this.#thread ??= new Worker(THREAD_URL, { workerData: this.#task })
    const answer = await this.#ask(this.#thread)
    if (answer instanceof Error) {
      this.#leave()
      throw answer
    }
    this.#lingering = setTimeout(() => this.#leave(), LINGER_MS).unref()
    if ('refused' in answer) throw new LoadError(answer.refused)
    return answer
  }

  /** @returns false when a thread hangs in the disk, and process.exit() would wait for it for ever */
  async close(): Promise<boolean> {
    this.#giveUp(new LoadError('The server is shutting down'))
    this.#leave()
    const left = Promise.all(this.#leaving).then(() => true)
    return Promise.race([left, sleep(LEAVE_TIMEOUT_MS, false)])
  }

  /** Resolves with an error when the thread is of no use any more. */
  async #ask(thread: Worker): Promise<LoadAnswer | Error> {
    const over = new AbortController()
    const { signal } = over
    const asked = new Promise<Error>(resolve => {
      this.#giveUp = resolve
    })
    const late = sleep(
      LOAD_TIMEOUT_MS,
      new LoadError('The model was not read in a minute: does the disk hang?'),
      {
        signal,
        ref: false,
      },
    )
    const answered = once(thread, 'message', { signal }).then(([answer]) => answer as LoadAnswer)
    const ended = once(thread, 'exit', { signal }).then(
      () => new LoadError('The thread that read the model has ended'),
    )
    const outcomes = [answered, ended, late].map(outcome => outcome.catch((error: Error) => error))
    thread.postMessage(null)
    const outcome = await Promise.race([...outcomes, asked])
    over.abort()
    return outcome
  }

  #leave(): void {
    clearTimeout(this.#lingering)
    if (this.#thread === null) return
    const leaving = this.#thread.terminate()
    this.#thread = null
    this.#leaving.add(leaving)
    void leaving.then(() => this.#leaving.delete(leaving))
  }
}
