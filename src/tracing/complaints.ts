import { monotonicMs } from '../clock.ts'
import type { Logger } from '../log.ts'

/** A collector may be gone for days: one line in so long, ms, tells of all that failed meanwhile. */
const QUIET_MS = 60_000
const MAX_CHARACTERS = 300

/** The log of what goes wrong with traces: summaries, not lines. */
export class Complaints {
  readonly #log: Logger
  /** Failures since the last line. */
  #count = 0
  #toldMs = Number.NEGATIVE_INFINITY
  #failing = false

  constructor(log: Logger) {
    this.#log = log
  }

  tell(error: Error): void {
    this.#count++
    this.#failing = true
    const nowMs = monotonicMs()
    if (nowMs - this.#toldMs < QUIET_MS) return
    const { message, code } = error as NodeJS.ErrnoException
    const reason = (message || String(code)).slice(0, MAX_CHARACTERS)
    this.#log.warn({ reason, times: this.#count }, 'traces are not exported')
    this.#count = 0
    this.#toldMs = nowMs
  }

  /** It works. */
  over(): void {
    if (!this.#failing) return
    this.#failing = false
    this.#log.info({ times: this.#count }, 'traces are exported again')
    this.#count = 0
    this.#toldMs = Number.NEGATIVE_INFINITY
  }
}
