import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { parseEnv, promisify } from 'node:util'
import { beforeAll, describe, expect, test } from 'vitest'
import { composeVariables } from '../packaging/compose-variables.ts'
import { exampleOfKeys } from '../src/config/example.ts'
import { factsOf, KEYS } from '../src/config/keys.ts'
import { CONFIG_KEYS, loadConfig } from '../src/config.ts'
import { buildNative, COMPILER, SOFT_LIBRARY } from './native.ts'
import { startServer } from './server.ts'

const PAGE = readFileSync('docs/env.md', 'utf8')
const EXAMPLE = readFileSync('compose/.env.example', 'utf8')

/** Every key is heeded here. */
const HEEDED = {
  HEF_PATH: 'm.hef',
  TELEMETRY_DIR: 'told',
  OTEL_EXPORTER_OTLP_ENDPOINT: 'http://otel:4318',
  API_KEY: 'one',
  RATE_LIMIT_PER_ADDRESS: '20',
}

/** What the page tells of the keys, one for each name. */
const ROWS = [
  ...PAGE.split('## Values that')[0]!.matchAll(/^\| (`.+`) \| .+? \| (.+?) \| (.+?) \| .+ \|$/gm),
].flatMap(([, names, expected, unset]) =>
  [...names!.matchAll(/`(\w+)`/g)].map(([, name]) => ({ name: name!, expected: expected!, unset: unset! })),
)

test('docs/env.md and compose/.env.example are what `npm run docs:env` writes', async () => {
  await promisify(execFile)(process.execPath, ['dist/packaging/env-docs.js', '--check'])
})

test('docs/env.md has a row for every name', () => {
  expect(ROWS.map(({ name }) => name)).toEqual(CONFIG_KEYS)
})

test('every default in docs/env.md is what loadConfig() takes when nothing is set', () => {
  const nothingSet = loadConfig(HEEDED)
  const defaults = ROWS.flatMap(({ name, unset }) => {
    const value = /^`([^`]+)`$/.exec(unset)?.[1]
    return value === undefined ? [] : [{ name, value }]
  })
  expect(defaults.length).toBeGreaterThan(25)
  for (const { name, value } of defaults) {
    expect(loadConfig({ ...HEEDED, [name]: value }), name).toEqual(nothingSet)
  }
})

interface Examples {
  readonly taken: readonly (number | string)[]
  readonly refused: readonly (number | string)[]
}

/** Lowest, highest, and what lies beyond, by the words of the page. */
const RANGES: readonly (readonly [words: RegExp, examples: (...bounds: string[]) => Examples])[] = [
  [
    /^a whole number from (\d+) to (\d+)$/,
    (min, max) => ({ taken: [min!, max!], refused: [+min! - 1, +max! + 1, +max! - 0.5] }),
  ],
  [
    /^a power of two from (\d+) to (\d+)$/,
    (min, max) => ({ taken: [min!, max!], refused: [+min! / 2, +max! * 2, +max! - 1, +max! + 1] }),
  ],
  [
    /^a number above 0, at most (\d+)$/,
    max => ({ taken: ['0.001', max!], refused: [0, -1, +max! + 0.001, +max! + 1] }),
  ],
  [/^a number from 0 to 1$/, () => ({ taken: [0, 0.5, 1], refused: [-0.001, 1.001, 2] })],
  [
    /^0, or a number of seconds from ([\d.]+) to (\d+)$/,
    (min, max) => ({ taken: [0, min!, max!], refused: [-1, +min! - 0.001, +max! + 1] }),
  ],
  [
    /^windows per second, or with a burst as (\d+:\d+), each at most (\d+)$/,
    (example, max) => ({
      taken: [example!, '0.001', '1:1', max!, `${max}:${max}`],
      refused: [0, '1:0', +max! + 1, `1:${+max! + 1}`, '1:1.5'],
    }),
  ],
  [
    /^a path of at most (\d+) bytes, counted from \/$/,
    max => ({ taken: ['/'.padEnd(+max!, 'x')], refused: ['/'.padEnd(+max! + 1, 'x')] }),
  ],
  [
    /^1 to (\d+) characters of printable ASCII with no space at either end$/,
    max => ({ taken: ['x', 'x'.repeat(+max!), 'x y'], refused: ['x'.repeat(+max! + 1), ' x', 'x ', 'é'] }),
  ],
  [
    /^(\d+) hex digits$/,
    count => ({
      taken: ['a'.repeat(+count!)],
      refused: ['a'.repeat(+count! - 1), 'a'.repeat(+count! + 1), 'x'.repeat(+count!)],
    }),
  ],
  [/^true or false$/, () => ({ taken: ['true', 'false'], refused: ['yes'] })],
  [/^one of (.+)$/, words => ({ taken: words!.split(' '), refused: [`${words}`, 'other'] })],
]

describe('the ranges in docs/env.md are those of loadConfig()', () => {
  /** No deadline contradicts the other. */
  const base = { ...HEEDED, DEADLINE_MS: '0.001', MAX_DEADLINE_MS: '9000' }

  test.each(ROWS)('$name: $expected', ({ name, expected }) => {
    const range = RANGES.find(([words]) => words.test(expected))
    if (range === undefined) {
      expect(expected).toMatch(/^(text|a path|text separated by commas|a URL, .+|name=value, .+)$/)
      return
    }
    const [words, examples] = range
    const { taken, refused } = examples(...words.exec(expected)!.slice(1))
    for (const value of taken) {
      expect(() => loadConfig({ ...base, [name]: String(value) }), `${name}=${value}`).not.toThrow()
    }
    for (const value of refused) {
      const sentence = `${name}: ${value} is not valid, expected ${expected}`
      expect(() => loadConfig({ ...base, [name]: String(value) }), `${name}=${value}`).toThrow(sentence)
    }
  })
})

describe('what docs/env.md says of values that turn out wrong later is what a start does', () => {
  beforeAll(async () => {
    if (COMPILER !== null) await buildNative()
  })
  const mistakes = Object.entries(KEYS).flatMap(([key, { later }]) => (later ? [{ key, ...later }] : []))

  test.concurrent.for(mistakes)('$key: $mistake', async ({ key, value, beside, exit, words }, context) => {
    context.skip(COMPILER === null && key.startsWith('HAILO'), 'needs a C++ compiler')
    const env = { WORKERS: '1', HAILORT_LIB: SOFT_LIBRARY, ...beside, [key]: value }
    const told = words.replace('…', value)
    if (exit === null) {
      const server = await startServer(env, { ready: false })
      context.onTestFinished(() => void server.stop('SIGKILL'))
      await context.expect.poll(() => server.stderr, { timeout: 30_000 }).toContain(told)
    } else {
      const error = await startServer(env).then(
        server => {
          void server.stop('SIGKILL')
          return new Error('the server started')
        },
        error => error,
      )
      expect(error.message).toContain(`the server ended with ${exit} before it was ready`)
      expect(error.message).toContain(told)
    }
  })
})

describe('compose/.env.example', () => {
  test('sets nothing as it is', () => {
    expect(parseEnv(EXAMPLE)).toEqual({})
  })

  test('shows what holds when nothing is set, and names every key', () => {
    const lines = EXAMPLE.split('\n')
    const { unused, ...shown } = loadConfig(
      parseEnv(lines.map(line => line.replace(/^#(?=\w+=)/, '')).join('\n')),
    )
    expect({ unused: [], ...shown }).toEqual(loadConfig({}))
    for (const name of CONFIG_KEYS) expect(EXAMPLE).toMatch(new RegExp(`\\b${name}\\b`))
  })

  test('marks secrets, and nothing else', () => {
    const marked = [...EXAMPLE.matchAll(/^# .*\bSECRET$\n#(\w+)=/gm)].map(([, key]) => key)
    expect(marked).toEqual(Object.keys(KEYS).filter(key => factsOf(key)!.secret))
  })

  test('quotes what Compose and systemd would read differently, or refuses it', () => {
    const variable = { name: 'GREETING', what: 'What is said.' }
    const example = exampleOfKeys([{ ...variable, default: 'a "b" $c #d' }])
    expect(example).toContain(`\n## Compose\n\n# What is said.\n#GREETING='a "b" $c #d'\n`)
    expect(exampleOfKeys([{ ...variable, default: 'on-failure:10' }])).toContain(
      '\n#GREETING=on-failure:10\n',
    )
    expect(() => exampleOfKeys([{ ...variable, default: "it's" }])).toThrow("Cannot write GREETING=it's")
  })
})

test('composeVariables() takes each variable at its first use, with its comment and its default', () => {
  const files = {
    'compose.yaml': `
# \${COMMENTED:-out} is none.
services:
  engine:
    # Long words about why
    # that go over two lines.
    # The image's registry and owner.
    # The image's version.
    image: \${REGISTRY:-}engine:\${VERSION:-0.1.0}
    ports: ["\${SIDECAR_PORT:-9000}:9000"]
    devices: ["\${DEVICE-/dev/hailo0}:/dev/hailo0"] # The device on this machine.
    # The folder with models.
    # The folder above it.
    volumes: ["\${MODELS:-\${HOME_FOLDER:-.}/models}:/models", "\${VERSION}", "$\${TEXT}"]
`,
    'override.yaml': `
    # Another version.
    image: other:\${VERSION:-2}
    # What must be told.
    command: \${COMMAND:?is needed}
`,
  }
  expect(composeVariables(files, name => factsOf(name) !== undefined)).toEqual([
    { name: 'REGISTRY', what: "The image's registry and owner.", default: '' },
    { name: 'VERSION', what: "The image's version.", default: '0.1.0' },
    { name: 'DEVICE', what: 'The device on this machine.', default: '/dev/hailo0' },
    { name: 'MODELS', what: 'The folder with models.', default: '' },
    { name: 'HOME_FOLDER', what: 'The folder above it.', default: '.' },
    { name: 'COMMAND', what: 'What must be told.', default: '' },
  ])
})

test('composeVariables() refuses a variable of which nothing is said', () => {
  const files = { 'compose.yaml': `# Of the first.\nimage: \${REGISTRY:-}engine:\${VERSION:-1}\n` }
  expect(() => composeVariables(files, () => false)).toThrow(
    `compose.yaml, line 2: no comment says what \${REGISTRY} is`,
  )
})

test('what Compose files take for a key that is not set is its default', () => {
  const files = readdirSync('compose').filter(name => name.endsWith('.yaml'))
  for (const text of files.map(name => readFileSync(`compose/${name}`, 'utf8'))) {
    for (const [use, name, value] of text.matchAll(/\$\{(\w+):?-([^}]*)\}/g)) {
      expect(value, use).toBe(factsOf(name!)?.default ?? value)
    }
  }
})
