import { monotonicMs } from '../clock.ts'
import type { Logger } from '../log.ts'

/** A collector may be gone for days, or come and go: one line of each kind in so long, ms, tells of all meanwhile. */
const QUIET_MS = 60_000
const MAX_CHARACTERS = 300

type Topic = 'failing' | 'over' | 'warning'

/** The log of what goes wrong with traces: summaries, not lines. */
export class Complaints {
  readonly #log: Logger
  /** When there was last a line of it, monotonic ms. */
  readonly #toldMs = new Map<Topic, number>()
  /** Failures since the last line that counts them. */
  #count = 0
  #failing = false

  constructor(log: Logger) {
    this.#log = log
  }

  tell(error: Error): void {
    this.#count++
    this.#failing = true
    if (!this.#isDue('failing')) return
    const { message, code } = error as NodeJS.ErrnoException
    const reason = (message || String(code)).slice(0, MAX_CHARACTERS)
    this.#log.warn({ reason, times: this.#count }, 'traces are not exported')
    this.#count = 0
  }

  /** It works. Of a collector that comes and goes that may be told up to a minute later. */
  over(): void {
    if (!this.#failing || !this.#isDue('over')) return
    this.#failing = false
    this.#log.info({ times: this.#count }, 'traces are exported again')
    this.#count = 0
  }

  /** What OpenTelemetry says of its own accord: exports may work all the same. */
  warn(reason: string): void {
    if (this.#isDue('warning')) {
      this.#log.warn({ reason: reason.slice(0, MAX_CHARACTERS) }, 'OpenTelemetry warns')
    }
  }

  /** Once a minute at most. */
  #isDue(topic: Topic): boolean {
    const nowMs = monotonicMs()
    if (nowMs - (this.#toldMs.get(topic) ?? Number.NEGATIVE_INFINITY) < QUIET_MS) return false
    this.#toldMs.set(topic, nowMs)
    return true
  }
}
