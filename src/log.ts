import { type Logger, pino } from 'pino'

export type { Logger }

/** One JSON object per line, on stderr: stdout is for people. */
export function createLogger(level: string): Logger {
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  )
}
