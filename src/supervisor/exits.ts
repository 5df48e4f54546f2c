/** Every way the process ends by itself, with its exit code; docs/exit-codes.md says what to do about each. */
export const EXITS = {
  drained: 0,
  start_failed: 1,
  /** EX_UNAVAILABLE of sysexits.h. Of the supervisor: it has given up starting the engine again. */
  restarts_exhausted: 69,
  /** EX_SOFTWARE: a bug. */
  internal_error: 70,
  /** EX_IOERR: asked to end, and some of what was admitted had no answer yet when the time for that was up. */
  drain_cut_short: 74,
  /** EX_TEMPFAIL: only a new process is rid of the thread. */
  thread_stuck: 75,
  /** EX_CONFIG: starting again will not help before somebody has changed something. */
  config: 78,
} as const

export type ExitCause = keyof typeof EXITS

/** Null: the code is none of ours. */
export function causeOf(code: number | null): ExitCause | null {
  const causes = Object.keys(EXITS) as ExitCause[]
  return causes.find(cause => EXITS[cause] === code) ?? null
}
