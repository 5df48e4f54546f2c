import { parseArgs } from 'node:util'
import { accelerated, DAY_WINDOWS, realTime, type Schedule } from './schedule.ts'

export const HELP = `Soaks a server of its own, with bursts, pauses and faults: npm run soak -- [options]

  --windows N     how many windows at least, as fast as they are answered (${DAY_WINDOWS}: 24 h at 20 a second)
  --real-time     20 windows a second instead
  --hours N       for so long (24)
  --all-faults    a fault in every round, and so many rounds that each has its turn
  --seed N        of the order of the faults (by the clock)
  --json FILE     keep the figures there too
  --program FILE  another server, from the project's folder; its workers are not made to fail
  --help          this text

The server reads its configuration from the environment, as npm start does. docs/soak.md tells how to read the result.
Exit code: 0 no promise was broken, and in a whole day each was shown; 1 not so; 2 bad option.`

export interface Options {
  readonly schedule: Schedule
  /** A day or more: every promise must be shown. */
  readonly isWhole: boolean
  /** Each has its turn, and no round is calm. */
  readonly allFaults: boolean
  readonly seed: number
  readonly json: string | null
  readonly program: string | null
}

/** @throws TypeError when an option is unknown or its value makes no sense */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      windows: { type: 'string' },
      'real-time': { type: 'boolean', default: false },
      hours: { type: 'string' },
      'all-faults': { type: 'boolean', default: false },
      seed: { type: 'string' },
      json: { type: 'string' },
      program: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const { windows, hours, seed, json = null, program = null, help } = values
  const { 'real-time': isRealTime, 'all-faults': allFaults } = values
  if (help) return 'help'
  if (isRealTime && windows !== undefined)
    throw new TypeError('Cannot take --windows with --real-time: give --hours')
  if (!isRealTime && hours !== undefined) throw new TypeError('Cannot take --hours without --real-time')
  const schedule = isRealTime
    ? realTime(numberOf('hours', hours ?? '24'))
    : accelerated(wholeNumberOf('windows', windows ?? String(DAY_WINDOWS)))
  return {
    schedule,
    isWhole: schedule.windows >= DAY_WINDOWS,
    allFaults,
    seed: seed === undefined ? Date.now() % 2 ** 31 : wholeNumberOf('seed', seed),
    json,
    program,
  }
}

function numberOf(name: string, text: string): number {
  const value = Number(text)
  if (value > 0 && value < 1e9) return value
  throw new TypeError(`Cannot parse --${name} ${text}: expected a number above 0`)
}

function wholeNumberOf(name: string, text: string): number {
  if (/^\d{1,9}$/.test(text)) return numberOf(name, text)
  throw new TypeError(`Cannot parse --${name} ${text}: expected a whole number from 1`)
}
