import { monotonicMs } from '../clock.ts'
import type { Logger } from '../log.ts'

/** A collector may be gone for days, or come and go: of each line one in so long, ms, tells of all that was meanwhile. */
const QUIET_MS = 60_000
const MAX_CHARACTERS = 300

/** The log of what goes wrong with traces: summaries, not lines. */
export class Complaints {
  readonly #log: Logger
  /** When a line of that text was last written, monotonic ms. */
  readonly #toldMs = new Map<string, number>()
  /** Failures since the last line that counts them. */
  #count = 0
  #failing = false

  constructor(log: Logger) {
    this.#log = log
  }

  tell(error: Error): void {
    this.#count++
    this.#failing = true
    const { message, code } = error as NodeJS.ErrnoException
    const fields = { reason: (message || String(code)).slice(0, MAX_CHARACTERS), times: this.#count }
    if (this.#tellOnce('traces are not exported', text => this.#log.warn(fields, text))) this.#count = 0
  }

  /** It works. Where it comes and goes, that is told a minute later. */
  over(): void {
    if (!this.#failing) return
    const fields = { times: this.#count }
    if (!this.#tellOnce('traces are exported again', text => this.#log.info(fields, text))) return
    this.#failing = false
    this.#count = 0
  }

  /** What OpenTelemetry says of its own accord: exports may work all the same. */
  warn(reason: string): void {
    const fields = { reason: reason.slice(0, MAX_CHARACTERS) }
    this.#tellOnce('OpenTelemetry warns', text => this.#log.warn(fields, text))
  }

  /** Writes the line unless its like was written within the minute. */
  #tellOnce(text: string, write: (text: string) => void): boolean {
    const nowMs = monotonicMs()
    if (nowMs - (this.#toldMs.get(text) ?? Number.NEGATIVE_INFINITY) < QUIET_MS) return false
    this.#toldMs.set(text, nowMs)
    write(text)
    return true
  }
}
