import { accessSync, constants, mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { ConfigError, type TelemetryConfig } from '../config.ts'
import type { BackendKind } from '../core/backend.ts'
import type { Normalisation } from '../core/normalise.ts'
import type { OnnxModel } from '../core/stream-task.ts'
import type { Logger } from '../log.ts'
import type { TelemetryCounters } from './counters.ts'
import { FOLDER_MODE } from './folder.ts'
import { RecordRing } from './record-ring.ts'
import { Recorder } from './recorder.ts'

const THREAD_URL = new URL('../../workers/telemetry/main.js', import.meta.url)

/** What is still in the ring at a drain is written in this time, or not at all. */
const CLOSE_TIMEOUT_MS = 1000
/** A thread that failed is started again, with what it had not come to. */
const RESTART_DELAY_MS = 5000

/** A model that serves, the one before it, and the next. */
const MODELS_KNOWN = 3

/** What a line says that is the same for all answers of one model, and what windows are judged by. Crosses to the thread. */
export interface TelemetryFacts {
  /** Of the model, see Engine.generation. */
  readonly generation: number
  readonly motifLabels: readonly string[]
  readonly configVersion: string
  /** Of the model that each backend runs. */
  readonly sha256: Readonly<Record<BackendKind, string>>
  /** Null: nobody knows windows in other units. */
  readonly normalisation: Normalisation | null
  /** The float model that answers of the device are compared with. Null: they are not. */
  readonly reference: OnnxModel | null
}

/** What the thread is given. */
export interface TelemetryTask {
  /** Oldest first. More come as messages, each before the first answer of its model. */
  readonly models: readonly TelemetryFacts[]
  readonly folder: string
  readonly budgetBytes: number
  /** See RecordRing and TelemetryCounters. */
  readonly ring: SharedArrayBuffer
  readonly counters: SharedArrayBuffer
}

/** What the thread tells of its own accord, for the log. */
export interface TelemetryNote {
  readonly level: 'info' | 'warn'
  readonly fields: Readonly<Record<string, unknown>>
  readonly text: string
}

/** A line per answer, and windows worth labelling: taken down on the main thread, written by one of their own. */
export class Telemetry {
  readonly recorder: Recorder
  readonly #ring = new RecordRing()
  readonly #task: Omit<TelemetryTask, 'models'>
  #models: readonly TelemetryFacts[]
  readonly #counters: TelemetryCounters
  readonly #log: Logger
  #thread: Worker | null = null
  #closing = false

  /** @throws ConfigError when the folder cannot be written */
  constructor(
    { folder, sample, budgetBytes }: TelemetryConfig,
    options: { facts: TelemetryFacts; counters: TelemetryCounters; log: Logger },
  ) {
    const { facts, counters, log } = options
    assertWritable(folder)
    counters.budgetBytes = budgetBytes
    this.recorder = new Recorder(this.#ring, counters, sample)
    this.#models = [facts]
    this.#task = { folder, budgetBytes, ring: this.#ring.buffer, counters: counters.buffer }
    this.#counters = counters
    this.#log = log
  }

  /** Another model is about to give answers. Call before it does. */
  expect(facts: TelemetryFacts): void {
    const others = this.#models.filter(({ generation }) => generation !== facts.generation)
    this.#models = [...others, facts].slice(-MODELS_KNOWN)
    this.#thread?.postMessage(facts)
  }

  /** Begins to write. What was taken down before is not lost. */
  start(): void {
    const thread = new Worker(THREAD_URL, {
      workerData: { ...this.#task, models: this.#models } satisfies TelemetryTask,
    })
    this.#thread = thread
    thread.on('message', ({ level, fields, text }: TelemetryNote) => this.#log[level](fields, text))
    thread.on('error', error => {
      this.#log.error({ err: error }, 'telemetry failed, starting it again')
      setTimeout(() => {
        if (!this.#closing) this.start()
      }, RESTART_DELAY_MS).unref()
    })
    thread.on('exit', () => {
      this.#thread = null
    })
  }

  /**
   * Writes what was taken down.
   * @returns false when the thread has not come to it in time: it hangs in the disk, and process.exit() would
   * wait for it for ever
   */
  async close(): Promise<boolean> {
    this.#closing = true
    this.#ring.stop()
    const thread = this.#thread
    if (thread !== null) {
      const ended = new Promise<boolean>(resolve => thread.once('exit', () => resolve(true)))
      if (!(await Promise.race([ended, sleep(CLOSE_TIMEOUT_MS, false)]))) return false
    }
    // Nothing, unless the thread has failed and was not started again.
    this.#counters.countDropped('thread_failed', this.#ring.waiting)
    return true
  }
}

/** A full disk may have room again, but nothing else mends itself. */
function assertWritable(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: FOLDER_MODE })
    accessSync(folder, constants.W_OK | constants.X_OK)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOSPC') return
    throw new ConfigError([
      `TELEMETRY_DIR: ${folder} cannot be written (${code}), expected a folder that this user may write, or one that can be made`,
    ])
  }
}
