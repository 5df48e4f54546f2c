import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { Histogram } from '../bench/load/histogram.ts'
import type { LoadResult } from '../bench/load/load.ts'
import { NATIVE_PARTS } from '../bench/native-parts.ts'
import { parseOptions } from '../bench/options.ts'
import { drawingsOf } from '../bench/report/charts.ts'
import { page } from '../bench/report/page.ts'
import { keepResult, type Result, readResults } from '../bench/report/results.ts'
import type { Row, Section } from '../bench/report/section.ts'
import { ratioOf, spreadOf } from '../bench/report/spread.ts'
import { printed } from '../bench/report/terminal.ts'
import { SameResults } from '../bench/same-results.ts'
import { interleave } from '../bench/suites/interleave.ts'
import { overloadRows } from '../bench/suites/overload.ts'
import { isInTime } from '../bench/suites/search.ts'
import { DEADLINE_MS } from '../bench/suites/servers.ts'
import { compare, type Trial, trialOf } from '../bench/suites/under-load.ts'
import { build } from '../native/build.ts'
import { COMPILER } from './native.ts'

test('contenders take turns: each is measured once before any is measured again, and the last begins the next round', async () => {
  const order: string[] = []
  const measure = (name: string) => async () => order.push(name)
  const trials = await interleave(
    { runs: 3, progress: () => {} },
    { ours: measure('ours'), theirs: measure('theirs') },
  )
  expect(order).toEqual(['ours', 'theirs', 'theirs', 'ours', 'ours', 'theirs'])
  expect(trials).toEqual({ ours: [1, 4, 5], theirs: [2, 3, 6] })
})

test('a ratio is the median of those of the rounds', () => {
  expect(ratioOf([10, 30, 20], [10, 10, 40])).toEqual({ median: 1, min: 0.5, max: 3, runs: 3 })
  expect(spreadOf([4, 1, 2, 3])).toEqual({ median: 2.5, min: 1, max: 4, runs: 4 })
})

test('windows that were refused or never sent were not in time, however fast the others were', () => {
  const loadOf = (refused: number, unsent: number, slow = 0): LoadResult => {
    const right = 1000 - refused - unsent
    const buckets: [number, number][] = [[1000, right - slow]]
    if (slow > 0) buckets.push([20_000, slow]) // some 0.5 s
    const answered = new Histogram({ maxNs: 1e9, sumNs: 0, buckets })
    const due = { right, wrong: 0, refused, late: 0, failed: 0, lost: 0, unanswered: 0, unsent }
    return { due, answered } as Partial<LoadResult> as LoadResult
  }
  expect(isInTime(loadOf(0, 0), 40)).toBe(true)
  expect(isInTime(loadOf(5, 5), 40)).toBe(true)
  expect(isInTime(loadOf(5, 6), 40)).toBe(false)
  expect(isInTime(loadOf(5, 0, 5), 40)).toBe(true)
  expect(isInTime(loadOf(5, 0, 6), 40)).toBe(false)
})

test('a comparison goes round by round, and is wrong or in doubt with either contender', () => {
  const compared = (ours: Trial[], theirs: Trial[] | number[]) =>
    compare({ name: 'HTTP', against: 'echo', ours, theirs })
  const [half, full] = [madeUp({ right: 500 }), madeUp({ right: 1000 })]
  expect(compared([half, full], [full, full])).toMatchObject({
    value: { median: 0.75, min: 0.5, max: 1, runs: 2 },
    wrong: 0,
    doubts: [],
  })
  expect(compared([half], [250]).value.median).toBe(2)
  expect(compared([half], [madeUp({ wrong: 2, lost: 1 })]).wrong).toBe(3)
  expect(compared([half], [madeUp({ refused: 4 })]).doubts).toEqual(['echo: 4 requests were refused'])
  expect(compared([full], [madeUp({ generator: 0.9 })]).doubts).toEqual([
    'the generator had hardly any pauses',
  ])
  expect(compared([full], [madeUp({ lagMs: 0.2 })]).doubts).toEqual(['the generator was late itself'])
  expect(compared([full], [madeUp({ lagMs: 0.05 })]).doubts).toEqual([])
})

test('a result is wrong when the same window had another one before', () => {
  const results = new SameResults()
  const result = Float32Array.of(1, 2)
  results.add(0, result)
  result[1] = 3 // a slot is used again
  results.add(1, result)
  results.add(1, Float32Array.of(1, 3))
  expect(results.wrong).toBe(0)
  results.add(0, result)
  expect(results.wrong).toBe(1)
})

test('the limit is the thread without pauses, or else the machine without any', () => {
  const limitOf = (processor: { main?: number; server?: number; generator?: number }) =>
    madeUp(processor).cost!.limit
  expect(limitOf({ main: 0.9, server: 1, generator: 0.3 })).toBe('server')
  expect(limitOf({ main: 0.2, server: 1.1, generator: 0.3 })).toBe('server')
  expect(limitOf({ main: 0.5, server: 0.6, generator: 0.9 })).toBe('generator')
  expect(limitOf({ main: 0.5, server: 0.8, generator: availableParallelism() })).toBe('generator')
  expect(limitOf({ main: 0.5, server: 0.6, generator: 0.3 })).toBe('none')
  expect(madeUp({ right: 1000, main: 0.5, server: 0.8 }).cost).toMatchObject({ mainUs: 500, serverUs: 800 })
})

test('of an overload counts what was answered in time, and how long those waited who were given up', () => {
  const values = (trial: Trial) =>
    Object.fromEntries(
      overloadRows('2×', [trial], [madeUp({ right: 1000 })]).map(({ name, value }) => [name, value.median]),
    )
  expect(values(madeUp({ right: 900, refused: 1000 }))).toEqual({
    '2×, goodput': 0.9,
    '2×, admitted p99': 1,
    '2×, refusals p50': 0.05,
  })
  const late = values(madeUp({ right: 900, late: 100 }))
  expect(late['2×, admitted p99']).toBeCloseTo(45)
  expect(late['2×, refusals p50']).toBeUndefined()
  expect(values(madeUp({ answeredMs: DEADLINE_MS + 1 }))['2×, goodput']).toBe(0)
})

test('a row tells whether its goal is met, and one with a wrong answer tells nothing', () => {
  const row: Row = {
    name: 'HTTP',
    against: 'echo',
    value: spreadOf([0.8, 0.9]),
    unit: '×',
    wrong: 0,
    doubts: [],
  }
  const words = (row: Row) => printed(sectionOf([row]))
  expect(words({ ...row, goal: { atLeast: 0.8 } })).toMatch(
    /^met +HTTP +echo +0.85× \[0.8–0.9, 2 runs\] +≥ 0.8×$/m,
  )
  expect(words({ ...row, goal: { atLeast: 0.9 } })).toMatch(/^missed +HTTP/m)
  expect(words({ ...row, goal: { atMost: 0.8 } })).toMatch(/^missed +HTTP/m)
  const invalid = words({ ...row, goal: { atLeast: 0.8 }, wrong: 2 })
  expect(invalid).toMatch(/^INVALID +HTTP/m)
  expect(invalid).toContain('! HTTP: 2 WRONG ANSWERS')
  expect(invalid).not.toContain('0.85')
})

test('the results of a suite take the place of its last ones, and leave those of others', () => {
  const file = join(temporaryFolder(), 'new', 'results.json')
  keepResult(file, 'doors', resultOf('first'))
  keepResult(file, 'model', resultOf('other'))
  keepResult(file, 'doors', resultOf('second'))
  const { suites } = readResults(file)
  expect(Object.entries(suites).map(([name, { section }]) => [name, section.title])).toEqual([
    ['doors', 'second'],
    ['model', 'other'],
  ])
})

test('the page shows what was missed and where it was measured, and every chart that it shows is drawn', () => {
  const rows: Row[] = [
    { name: 'A & B', value: spreadOf([3]), unit: 'ms', goal: { atMost: 2 }, wrong: 0, doubts: ['a doubt'] },
    { name: 'C', value: spreadOf([1]), unit: 'ms', goal: { atMost: 2 }, wrong: 0, doubts: [] },
  ]
  const lines = [
    {
      name: 'p50',
      points: [
        [0, 1],
        [10, 100],
      ] as const,
    },
  ]
  const chart = { name: 'latency', title: 'Latency', x: 'rate', y: 'ms', isLogarithmic: true, lines }
  const result = { ...resultOf('Doors'), section: { ...sectionOf(rows), charts: [chart] } }
  const text = page({ version: 1, suites: { doors: result } }, ['model', 'doors'], '## By hand\n')
  expect(text).toContain('\nupdated: 2026-11-21\n')
  expect(text).toMatch(/\n\n## By hand\n\n## Change log\n\n- 2026-11-21: Measured `doors`\.\n$/)
  expect(text).toContain('1 of 2 are met')
  expect(text).toContain('| missed | A & B |  | 3 ms [1 run] | ≤ 2 ms |')
  expect(text).toContain('> - A & B: a doubt')
  expect(text).toContain('2026-11-21 · a processor ×2')
  expect(text).toContain('The machine was not idle')
  const shown = [...text.matchAll(/!\[[^\]]+\]\(performance\/([^)]+)\)/g)].map(([, name]) => name)
  const drawings = drawingsOf('doors', result.section)
  expect(shown).toEqual(['doors.svg', 'doors-latency.svg'])
  expect(drawings.map(({ name }) => name)).toEqual(shown)
  for (const { svg } of drawings) {
    expect(svg).not.toMatch(/NaN|undefined|& /)
    expect(svg.match(/<(text|svg)\b/g)).toHaveLength(svg.match(/<\/(text|svg)>/g)!.length)
  }
})

test('options that make no sense are refused in words', () => {
  expect(parseOptions(['doors', '--mix', 'json=3,bulk']).mix).toEqual({ json: 3, bulk: 1 })
  expect(() => parseOptions(['door'])).toThrow('There is no suite door: expected doors, model')
  expect(() => parseOptions(['doors', '--runs', '0'])).toThrow('Cannot parse --runs 0')
  expect(() => parseOptions(['server', '--mix', 'websocket,json'])).toThrow('Cannot mix websocket')
  expect(parseOptions(['all']).suites).not.toContain('memory')
})

test('npm run bench says what there is', async () => {
  const { code, stdout } = await bench()
  expect(code).toBe(0)
  expect(stdout).toMatch(/^ {2}doors +4 min +HTTP/m)
})

describe.skipIf(COMPILER === null)('under load (skipped without a C++ compiler)', () => {
  beforeAll(async () => {
    for (const target of NATIVE_PARTS) await build(target)
  }, 240_000)

  test('a suite prints its rows and keeps them', async () => {
    const json = join(temporaryFolder(), 'results.json')
    const { code, stdout } = await bench(
      'server',
      '--mode',
      'noop',
      '--quick',
      '--duration',
      '0.2',
      '--json',
      json,
    )
    expect(stdout).toMatch(/^windows answered +[\d,]+\/s \[1 run\] +main .* all /m)
    expect(stdout).toContain('WORKERS=1 RING_SLOTS=128 DEADLINE_MS=40')
    expect(code).toBe(0)
    const { server } = readResults(json).suites as { server: Result }
    expect(server.command).toBe('npm run bench -- server --mode noop --quick --duration 0.2')
    expect(server.section.rows[0]!.value.median).toBeGreaterThan(0)
  })

  test('a server that changes its answers makes its rows invalid and the exit code 1', async () => {
    let asked = 0
    const liar = createServer((request, response) => {
      request.resume()
      response.end(String(asked++ < 16)) // each window is asked for once before the load
    }).listen(0, '127.0.0.1')
    onTestFinished(() => void liar.closeAllConnections())
    onTestFinished(() => void liar.close())
    await once(liar, 'listening')
    const { port } = liar.address() as AddressInfo
    const { code, stdout } = await bench('server', '--port', String(port), '--quick', '--duration', '0.2')
    expect(stdout).toMatch(/^! .*windows answered.*WRONG ANSWERS/m)
    expect(code).toBe(1)
  })
})

/** A second under load. Cores are in use for all of it. */
function madeUp({
  right = 1000,
  wrong = 0,
  refused = 0,
  late = 0,
  lost = 0,
  main = 0.5,
  server = 0.6,
  generator = 0.2,
  lagMs = 0,
  answeredMs = 1,
} = {}): Trial {
  const of = (ms: number, count: number) => {
    const ns = ms * 1e6
    const shift = Math.max(0, Math.floor(Math.log2(ns)) - 10)
    const index = shift * 1024 + Math.floor(ns / 2 ** shift)
    return count === 0
      ? new Histogram()
      : new Histogram({ maxNs: ns, sumNs: ns * count, buckets: [[index, count]] })
  }
  const outcomes = { right, wrong, refused, late, failed: 0, lost }
  return trialOf({
    seconds: 1,
    due: { ...outcomes, unanswered: 0, unsent: 0 },
    ended: { ...outcomes, rightWindows: right },
    windowsPerSecond: right,
    answered: of(answeredMs, right),
    late: of(45, late),
    refused: of(0.05, refused),
    lag: of(lagMs, lagMs > 0 ? right : 0),
    processor: { generator, server, serverMainThread: main },
    brokenAnswers: 0,
  } as Partial<LoadResult> as LoadResult)
}

function sectionOf(rows: readonly Row[], title = 'Doors'): Section {
  return { title, about: 'About.', rows, figures: [] }
}

function resultOf(title: string): Result {
  const environment = {
    date: '2026-11-21T12:00:00.000Z',
    processor: 'a processor',
    cores: 2,
    kernel: '6.1',
    node: 'v20',
    commit: 'abc',
    loadAverage: 1,
  }
  return { environment, command: 'npm run bench -- doors', isQuick: false, section: sectionOf([], title) }
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return folder
}

async function bench(...args: string[]): Promise<{ code: number; stdout: string }> {
  const child = spawn(process.execPath, ['dist/bench/main.js', ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [stdout, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
  return { code, stdout }
}
