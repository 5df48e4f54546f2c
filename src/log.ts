import { type Logger, pino } from 'pino'

export type { Logger }

/** One JSON object per line, on stderr: stdout is for people. What cannot be written, as where a disk is full, is lost. */
export function createLogger(level: string): Logger {
  const destination = pino.destination({ fd: 2, sync: true })
  destination.on('error', () => {})
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination)
}
