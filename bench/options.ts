import { parseArgs } from 'node:util'
import { SUITES, type SuiteName } from './suites/menu.ts'
import type { Context } from './suites/suite.ts'

const NAMES = Object.keys(SUITES) as SuiteName[]

export const HELP = `Measures the engine against others in the same run: npm run bench -- <suite> … [options]

${NAMES.map(name => `  ${name.padEnd(12)}${SUITES[name].about} (${SUITES[name].minutes} min)`).join('\n')}
  ${'all'.padEnd(12)}all of these

  --runs N            how often each contender is measured (5)
  --duration N        seconds of each measurement (2)
  --connections N     of HTTP (64)
  --quick             one short run of each: for a look, not for figures
  --help              this text

Exit code: 0 measured, whatever came of it, 1 a contender answered wrongly, 2 bad option.`

export interface Options {
  readonly suites: readonly SuiteName[]
  readonly help: boolean
  readonly quick: boolean
  readonly runs: number
  readonly durationMs: number
  readonly connections: number
}

/** @throws TypeError when an option is unknown or its value makes no sense */
export function parseOptions(args: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      runs: { type: 'string' },
      duration: { type: 'string' },
      connections: { type: 'string' },
      quick: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const { quick, help } = values
  const number = (name: 'runs' | 'duration' | 'connections', otherwise: number) => {
    const value = Number(values[name] ?? otherwise)
    if (!(value > 0 && value < 1e9))
      throw new TypeError(`Cannot parse --${name} ${values[name]}: expected a number above 0`)
    return value
  }
  return {
    suites: positionals.includes('all') ? NAMES : positionals.map(suiteName),
    help,
    quick,
    runs: Math.ceil(number('runs', quick ? 1 : 5)),
    durationMs: number('duration', quick ? 0.5 : 2) * 1000,
    connections: Math.ceil(number('connections', 64)),
  }
}

export function contextOf(
  { quick, runs, durationMs, connections }: Options,
  progress: Context['progress'],
): Context {
  return { runs, durationMs, connections, warmUpMs: quick ? 200 : 700, progress }
}

function suiteName(word: string): SuiteName {
  const name = NAMES.find(name => name === word)
  if (name === undefined)
    throw new TypeError(`There is no suite ${word}: expected ${NAMES.join(', ')} or all`)
  return name
}
