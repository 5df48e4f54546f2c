import { parseArgs } from 'node:util'
import type { Address } from './load/load.ts'
import { MENU, type SuiteName } from './suites/menu.ts'
import type { Context, Mode } from './suites/suite.ts'
import { type Mix, TRAFFIC, type TrafficName } from './suites/traffic.ts'

const NAMES = Object.keys(MENU) as SuiteName[]
const IN_ALL = NAMES.filter(name => !MENU[name].isApart)
const MODES = ['onnx', 'noop', 'stub', 'hailo'] as const satisfies Mode[]
const TRAFFIC_NAMES = Object.keys(TRAFFIC) as TrafficName[]

const menu = NAMES.map(name => {
  const { about, minutes } = MENU[name]
  return `  ${name.padEnd(17)}${`${minutes} min`.padEnd(9)}${about}`
})
const allMinutes = IN_ALL.reduce((sum, name) => sum + MENU[name].minutes, 0)

export const HELP = `Measures the engine against others in the same run: npm run bench -- <suite>… [options]

${menu.join('\n')}
  ${'all'.padEnd(17)}${`${allMinutes} min`.padEnd(9)}all of these but tenfold, memory and server
  ${'report'.padEnd(26)}docs/performance.md from the results in docs/performance/results.json

  --json FILE         keep the results there too, each suite in the place of its last ones
  --svg FOLDER        draw the charts there
  --runs N            how often each contender is measured, in fresh processes (as each suite needs)
  --duration S        seconds of each measurement (2); start keeps its own
  --connections N     HTTP connections (64; where windows are due at a rate 256)
  --mode MODE         what capacity, overload, sweep, memory and server run: ${MODES.join(', ')}
  --mix NAME=N,…      what they send, in requests: ${TRAFFIC_NAMES.join(', ')} (binary=1)
  --rate N            server: so many requests per second are due; without it as many as it takes
  --port N            server: one that listens there on this machine already
  --socket PATH       server: one that listens on this Unix-domain socket
  --minutes N         memory: how long each (10)
  --python COMMAND    peers: what runs Python, once or more (Debian’s); see bench/peers/README.md
  --quick             one short run of everything: for a look, not for figures
  --help              this text

Exit code: 0 measured, whether goals were met or not; 1 something was answered wrongly, or could not be measured;
2 bad option.`

export interface Options extends Omit<Context, 'runs' | 'connections' | 'progress'> {
  readonly suites: readonly SuiteName[]
  readonly help: boolean
  readonly report: boolean
  readonly quick: boolean
  readonly runs: number | null
  readonly connections: number | null
  readonly json: string | null
  readonly svg: string | null
  /** Those of them that decide how every suite is measured, as they were written. */
  readonly words: string
}

/** @throws TypeError when an option is unknown or its value makes no sense */
export function parseOptions(args: readonly string[]): Options {
  const { values, positionals, tokens } = parseArgs({
    args: [...args],
    tokens: true,
    allowPositionals: true,
    options: {
      json: { type: 'string' },
      svg: { type: 'string' },
      runs: { type: 'string' },
      duration: { type: 'string' },
      connections: { type: 'string' },
      mode: { type: 'string' },
      mix: { type: 'string', default: 'binary=1' },
      rate: { type: 'string' },
      port: { type: 'string' },
      socket: { type: 'string' },
      minutes: { type: 'string' },
      python: { type: 'string', multiple: true },
      quick: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const { quick, help, json = null, svg = null, python, mix } = values
  const words = tokens.flatMap(token =>
    token.kind === 'option' && !['json', 'svg', 'python'].includes(token.name)
      ? [` --${token.name}${token.value === undefined ? '' : ` ${quoted(token.value)}`}`]
      : [],
  )
  const report = positionals.includes('report')
  const suites = positionals.filter(word => word !== 'report')
  return {
    suites: suites.includes('all') ? IN_ALL : suites.map(word => oneOf('suite', NAMES, word)),
    help,
    report,
    quick,
    json,
    svg,
    words: words.join(''),
    runs: quick ? 1 : count('runs', values.runs),
    connections: count('connections', values.connections),
    warmUpMs: quick ? 200 : 700,
    durationMs: Math.ceil(1000 * (number('duration', values.duration) ?? (quick ? 0.5 : 2))),
    mode: values.mode === undefined ? null : oneOf('--mode', MODES, values.mode),
    mix: parseMix(mix),
    rate: number('rate', values.rate),
    address: parseAddress(values.port, values.socket),
    minutes: number('minutes', values.minutes) ?? (quick ? 0.05 : 10),
    pythons: python ?? [],
  }
}

/** What the options leave open is as the suite needs it. */
export function contextOf(options: Options, suite: SuiteName, progress: Context['progress']): Context {
  const { runs, connections = 64 } = MENU[suite]
  return {
    ...options,
    runs: options.runs ?? runs,
    connections: options.connections ?? connections,
    progress,
  }
}

function parseAddress(port: string | undefined, path: string | undefined): Address | null {
  if (path !== undefined) return { path }
  return port === undefined ? null : { port: count('port', port)! }
}

function parseMix(text: string): Mix {
  const parts = text.split(',').map(part => {
    const [name = '', weight = '1'] = part.split('=')
    return [oneOf('--mix', TRAFFIC_NAMES, name), count('mix', weight)!] as const
  })
  if (parts.length > 1 && parts.some(([name]) => name === 'websocket'))
    throw new TypeError('Cannot mix websocket with others: it is not HTTP')
  return Object.fromEntries(parts)
}

export function quoted(word: string): string {
  return /^[\w./=,-]+$/.test(word) ? word : `'${word}'`
}

function oneOf<Word extends string>(what: string, words: readonly Word[], word: string): Word {
  const found = words.find(candidate => candidate === word)
  if (found === undefined) throw new TypeError(`There is no ${what} ${word}: expected ${words.join(', ')}`)
  return found
}

function number(name: string, text: string | undefined): number | null {
  if (text === undefined) return null
  const value = Number(text)
  if (value > 0 && value < 1e9) return value
  throw new TypeError(`Cannot parse --${name} ${text}: expected a number above 0`)
}

function count(name: string, text: string | undefined): number | null {
  if (text === undefined || /^[1-9]\d{0,8}$/.test(text)) return number(name, text)
  throw new TypeError(`Cannot parse --${name} ${text}: expected a whole number from 1`)
}
