import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../clock.ts'
import { LONGEST_BACKOFF_MS, longerBackoffMs } from '../core/backend.ts'
import { createLogger, type Logger } from '../log.ts'
import { causeOf, EXITS } from './exits.ts'
import type { Told } from './under-supervisor.ts'

/** So many times in a row an engine is started again that does not stay: with pauses of 21 s in all. */
const MAX_RESTARTS = 10
/** One that lived for so long has stayed: its end begins a new row. */
const STAYED_AFTER_MS = 60_000
/** An engine that has just begun to listen has the processors for itself for so long: it is not ready yet. */
const SPARE_DELAY_MS = 1000
/** Each spare that dies in its turn is replaced after twice the time, and after this at the latest. */
const LONGEST_SPARE_DELAY_MS = 60_000
/** A drain takes 20 s at most. Who has not ended by then is killed. */
const STOP_TIMEOUT_MS = 25_000
const STOP_SIGNALS = ['SIGTERM', 'SIGINT'] as const
const FORWARDED_SIGNALS = [...STOP_SIGNALS, 'SIGHUP'] as const

/** It was asked to end, or starting again will not help. */
const FINAL_CODES: readonly (number | null)[] = [EXITS.drained, EXITS.drain_cut_short, EXITS.config]

/** How an engine ended. */
interface End {
  /** Null: by the signal. Both null: there was no process to be had. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly livedMs: number
}

/**
 * Runs the engine as a process of its own. When it crashes, a spare takes over that has loaded all code by then, but holds
 * neither port nor device: the first time at once, then with growing delay.
 */
export class Supervisor {
  readonly #program: string
  readonly #args: readonly string[]
  readonly #env: NodeJS.ProcessEnv
  readonly #longestPauseMs: number
  readonly #log: Logger = createLogger('info').child({ process: 'supervisor' })
  readonly #stop = new AbortController()
  #engine: ChildProcess | null = null
  #spare: ChildProcess | null = null
  #spareTimer: NodeJS.Timeout | undefined
  /** The first engine's: where the system chose it, the next ones get the one that clients know. */
  #port: number | null = null

  /**
   * @param program the engine, which serves when it gets a message, and gets the signals of this process
   * @param longestPauseMs before another is started
   */
  constructor(
    program: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv,
    longestPauseMs = LONGEST_BACKOFF_MS,
  ) {
    this.#program = program
    this.#args = args
    this.#env = env
    this.#longestPauseMs = longestPauseMs
    for (const signal of FORWARDED_SIGNALS) process.on(signal, () => this.#engine?.kill(signal))
    for (const signal of STOP_SIGNALS) process.on(signal, () => this.#stopWithin(STOP_TIMEOUT_MS))
  }

  /** Resolves with the code to exit with: when an engine ends for good, or has been started too often. */
  async run(): Promise<number> {
    let backoffMs = 0
    for (let restarts = 0; ; restarts++) {
      const end = await this.#runEngine()
      if (FINAL_CODES.includes(end.code)) return end.code!
      if (this.#stop.signal.aborted) return codeOf(end)
      if (end.livedMs > STAYED_AFTER_MS) restarts = backoffMs = 0
      const ended = { ...end, cause: causeOf(end.code), restarts, backoffMs }
      if (restarts === MAX_RESTARTS) {
        this.#log.fatal(ended, 'the engine does not stay, giving up')
        return EXITS.restarts_exhausted
      }
      this.#log.error(ended, 'the engine has ended, starting another')
      await sleep(backoffMs, undefined, { signal: this.#stop.signal }).catch(() => {})
      if (this.#stop.signal.aborted) return EXITS.drained
      backoffMs = Math.min(longerBackoffMs(backoffMs), this.#longestPauseMs)
    }
  }

  async #runEngine(): Promise<End> {
    const startedMs = monotonicMs()
    const engine = this.#spare ?? this.#fork()
    this.#engine = engine
    this.#spare = null
    const ended = once(engine, 'exit')
    engine.on('message', (told: Told) => {
      if (!('port' in told)) return
      this.#port = told.port
      this.#loadSpareAfter(SPARE_DELAY_MS)
    })
    engine.send('serve', () => {}) // one that is gone by now has an exit to tell
    const [code, signal] = await ended.catch(() => [null, null])
    clearTimeout(this.#spareTimer)
    this.#engine = null
    return { code, signal, livedMs: monotonicMs() - startedMs }
  }

  #loadSpareAfter(delayMs: number): void {
    clearTimeout(this.#spareTimer)
    this.#spareTimer = setTimeout(() => void this.#keepSpare(delayMs), delayMs)
  }

  /** Loads one, and another when it dies before it is needed. */
  async #keepSpare(delayMs: number): Promise<void> {
    if (this.#stop.signal.aborted) return
    const spare = this.#fork()
    this.#spare = spare
    spare.on('message', (told: Told) => {
      if ('loaded' in told) this.#log.info('a spare engine is loaded')
    })
    const loadedMs = monotonicMs()
    const [code, signal] = await once(spare, 'exit').catch(() => [null, null])
    if (this.#spare !== spare) return // it has become the engine
    this.#spare = null // an engine that is needed now starts from nothing
    if (this.#stop.signal.aborted) return
    const stayed = monotonicMs() - loadedMs > STAYED_AFTER_MS
    const nextDelayMs = stayed ? SPARE_DELAY_MS : Math.min(2 * delayMs, LONGEST_SPARE_DELAY_MS)
    this.#log.warn({ code, signal, nextDelayMs }, 'the spare engine has ended, loading another')
    this.#loadSpareAfter(nextDelayMs)
  }

  #fork(): ChildProcess {
    const env = this.#port === null ? this.#env : { ...this.#env, SIDECAR_PORT: String(this.#port) }
    const engine = fork(this.#program, this.#args, { env })
    engine.on('error', error => this.#log.error({ err: error }, 'no process for an engine'))
    return engine
  }

  #stopWithin(timeoutMs: number): void {
    if (this.#stop.signal.aborted) return
    this.#stop.abort()
    this.#spare?.kill()
    setTimeout(() => this.#engine?.kill('SIGKILL'), timeoutMs).unref()
  }
}

/** As a shell tells it. */
function codeOf({ code, signal }: End): number {
  return code ?? (signal === null ? EXITS.internal_error : 128 + constants.signals[signal])
}
