import { monotonicMs } from './clock.ts'
import type { Origin, Witness } from './engine/observer.ts'
import type { ErrorCode } from './http/reply.ts'
import type { Logger } from './log.ts'

/** Of each code, so long only the first failure has a line of its own. */
const EPISODE_MS = 10_000

/** What is ours to mend. All else is the client's, or asks it to come back: info. */
const LEVELS: Partial<Record<ErrorCode, 'error' | 'warn'>> = {
  internal_error: 'error',
  model_unavailable: 'warn',
  deadline_exceeded: 'warn',
}

/** Failures of one code since the first of them was told. */
interface Episode {
  /** Without the first. */
  moreCount: number
  readonly startedMs: number
  readonly end: NodeJS.Timeout
}

/**
 * Tells what clients were refused or failed: of each code the first, and 10 s later how many followed. A flood has as
 * many lines as there are codes, whatever it sends.
 */
export class FailureLog implements Witness {
  readonly #log: Logger
  readonly #episodes = new Map<string, Episode>()

  constructor(log: Logger) {
    this.#log = log
  }

  windowAnswered(): void {}

  windowFailed(code: string, origin: Origin): void {
    const episode = this.#episodes.get(code)
    if (episode !== undefined) episode.moreCount++
    else this.#begin(code, origin)
  }

  /** Tells what is counted so far. */
  close(): void {
    for (const code of this.#episodes.keys()) this.#end(code)
  }

  #begin(code: string, { endpoint, requestId, trace, stream, sequence }: Origin): void {
    const end = setTimeout(() => this.#end(code), EPISODE_MS).unref()
    this.#episodes.set(code, { moreCount: 0, startedMs: monotonicMs(), end })
    const failure = {
      code,
      endpoint,
      request_id: requestId,
      ...(trace !== null && { trace_id: trace.id }),
      ...(stream > 0 && { stream, sequence }),
    }
    this.#log[levelOf(code)](failure, 'a window or request failed')
  }

  #end(code: string): void {
    const { moreCount, startedMs, end } = this.#episodes.get(code)!
    clearTimeout(end)
    this.#episodes.delete(code)
    if (moreCount === 0) return
    const seconds = Math.round((monotonicMs() - startedMs) / 100) / 10
    this.#log[levelOf(code)]({ code, count: moreCount, seconds }, 'more windows or requests failed alike')
  }
}

function levelOf(code: string): 'error' | 'warn' | 'info' {
  return LEVELS[code as ErrorCode] ?? 'info'
}
