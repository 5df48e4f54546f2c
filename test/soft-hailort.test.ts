import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { build, SOFT } from '../native/build.ts'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { COMPILER, SOFT_LIBRARY } from './native.ts'

const SOFT_HEF = join(SHIPPED_MODEL_FOLDER, 'tcn_encoder.soft.hef')
const SOURCE = 'native/test/soft_test.cc'
const BUILD_TIMEOUT_MS = 300_000

/** The cases by name, read from the source: they must be known before anything is compiled. */
const CASES = [...readFileSync(SOURCE, 'utf8').matchAll(/^ {4}\{"([^"]+)",\s+\w+,\s+\{/gm)].map(
  ([, name]) => name!,
)

describe.skipIf(COMPILER === null)('the software HailoRT', () => {
  const folder = mkdtempSync(join(tmpdir(), 'soft-hailort-'))
  const program = join(folder, 'soft_test')
  let outcomes = new Map<string, string>()

  // The program runs each case in a process of its own: what one breaks is broken for no other, and
  // the library, which reads its environment once, can be asked to pass for many releases.
  beforeAll(async () => {
    await build(SOFT)
    await build({ output: program, sources: [SOURCE], flags: ['-O0'], linkFlags: ['-ldl'] })
    outcomes = outcomesOf(run(program, [SOFT_LIBRARY, existsSync(SOFT_HEF) ? SOFT_HEF : '-']))
  }, BUILD_TIMEOUT_MS)

  afterAll(() => rmSync(folder, { recursive: true }))

  test('has a program for its tests whose cases are all known here', () => {
    expect(run(program, ['--list']).trim().split('\n')).toEqual(CASES)
  })

  for (const name of CASES) {
    test(name, () => expect(outcomes.get(name)).toBe('ok'))
  }
})

/** 'ok' or the line that says what failed, by case. */
function outcomesOf(output: string): Map<string, string> {
  const outcomes = new Map<string, string>()
  for (const line of output.split('\n')) {
    const name = CASES.find(name => line === `ok ${name}` || line.startsWith(`FAIL ${name} `))
    // A failed case says why first, and then once more that it failed.
    if (name !== undefined && !outcomes.has(name)) outcomes.set(name, line.startsWith('ok') ? 'ok' : line)
  }
  return outcomes
}

function run(command: string, args: readonly string[]): string {
  return spawnSync(command, args, { encoding: 'utf8' }).stdout
}
