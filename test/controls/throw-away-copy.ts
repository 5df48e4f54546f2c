import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { type Control, patternOf } from './control.ts'

/** A test that takes longer has not failed in a way that tells anything. */
const LONGEST_TEST_MS = 60_000
const NOT_COPIED = ['node_modules', '.git', 'docs/performance']
const CONFIG = 'vitest.control.config.ts'
const COMPILED = 'tsconfig.control.json'
const REPORT = 'control-report.json'
/** What Vitest makes of a time-out in its report. */
const TIMED_OUT = 'Error: STACK_TRACE_ERROR'
/** What a test says that has missed something, in the words of our own helpers too. A program that is broken says other things. */
const MISSED =
  /^AssertionError|^Error: (STACK_TRACE_ERROR|Test timed out|promise re(ject|solv)ed |(no [\w /]+ in|silence for) \d+ ms|\w+\(\) took |\w+, (without|in the middle of) an answer)/

/** What came of a control: `red` is what is wanted. */
export interface Outcome {
  readonly result: 'red' | 'green' | 'broken'
  /** The first line of what the test said, or why it said nothing. */
  readonly detail: string
  readonly timedOut?: boolean
}

/** A copy of the project, in which one protection after the other is switched off. It goes with `remove()`. */
export class ThrowAwayCopy {
  readonly #folder = mkdtempSync(join(tmpdir(), 'controls-'))
  /** Compiled without its protection the last time. */
  #stale: string | null = null

  constructor() {
    cpSync(PROJECT_FOLDER, this.#folder, {
      recursive: true,
      verbatimSymlinks: true,
      filter: path => !NOT_COPIED.includes(relative(PROJECT_FOLDER, path)),
    })
    symlinkSync(realpathSync(join(PROJECT_FOLDER, 'node_modules')), this.#pathOf('node_modules'))
    // Without a global setup: what is compiled of C++ was copied.
    const test = { testTimeout: 20_000, hookTimeout: 20_000 }
    writeFileSync(this.#pathOf(CONFIG), `export default ${JSON.stringify({ test })}\n`)
  }

  /** Switches the protection off, runs its test, and puts the protection back. */
  async run(control: Control): Promise<Outcome> {
    const outcome = await this.#runWithout(control)
    if (!outcome.timedOut) return outcome
    // A test that times out may be one that does so whatever is switched off.
    const { result, detail } = this.#compile(control.file) ?? (await this.#test(control))
    return result === 'green' ? outcome : broken(`not green with its protection: ${detail}`)
  }

  async #runWithout(control: Control): Promise<Outcome> {
    const path = this.#pathOf(control.file)
    const source = readFileSync(path, 'utf8')
    if (source.split(control.find).length !== 2) return broken('its text does not occur once')
    try {
      writeFileSync(
        path,
        source.replace(control.find, () => control.replace),
      )
      return this.#compile(control.file) ?? (await this.#test(control))
    } finally {
      writeFileSync(path, source)
    }
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true })
  }

  /** This file, and the last one as it was: that takes some tenths of a second. Returns null when it compiles. */
  #compile(file: string): Outcome | null {
    const compilerOptions = { noCheck: true, noResolve: true, declaration: false, sourceMap: false }
    const files = this.#stale === null ? [file] : [this.#stale, file]
    this.#stale = file
    writeFileSync(
      this.#pathOf(COMPILED),
      JSON.stringify({ extends: './tsconfig.json', compilerOptions, include: [], files }),
    )
    const tsc = spawnSync(this.#pathOf('node_modules/.bin/tsc'), ['-p', COMPILED], { cwd: this.#folder })
    return tsc.status === 0 ? null : broken(`it does not compile: ${tsc.stdout}`)
  }

  async #test({ test: { file, title } }: Control): Promise<Outcome> {
    rmSync(this.#pathOf(REPORT), { force: true })
    const vitest = spawn(
      this.#pathOf('node_modules/.bin/vitest'),
      [
        'run',
        file,
        '--testNamePattern',
        patternOf(title),
        '--retry=0',
        '--config',
        CONFIG,
        '--reporter=json',
        '--outputFile',
        REPORT,
      ],
      // A group of its own, so that it ends with the servers that it has started.
      { cwd: this.#folder, env: environment(), stdio: 'ignore', detached: true },
    )
    const ended = once(vitest, 'exit')
    const timer = setTimeout(() => killGroup(vitest.pid!), LONGEST_TEST_MS)
    await ended
    clearTimeout(timer)
    killGroup(vitest.pid!)
    return this.#outcome()
  }

  #outcome(): Outcome {
    if (!existsSync(this.#pathOf(REPORT))) return broken(`no end after ${LONGEST_TEST_MS / 1000} s`)
    const report: Report = JSON.parse(readFileSync(this.#pathOf(REPORT), 'utf8'))
    const tests = report.testResults.flatMap(({ assertionResults }) => assertionResults)
    const failed = tests.filter(({ status }) => status === 'failed')
    const passed = tests.filter(({ status }) => status === 'passed')
    const said = failed.map(({ failureMessages }) => failureMessages[0]!.split('\n')[0]!)
    const missed = said.find(words => MISSED.test(words))
    if (missed !== undefined) {
      const detail = missed.replace(TIMED_OUT, 'the test timed out')
      return { result: 'red', detail, timedOut: /timed out/.test(detail) }
    }
    if (said.length > 0) return broken(said[0]!)
    if (passed.length > 0) return { result: 'green', detail: 'the test passes' }
    const [file] = report.testResults
    return broken(file?.message.split('\n')[0] || 'no test ran')
  }

  #pathOf(name: string): string {
    return join(this.#folder, name)
  }
}

/** Of Vitest's report in JSON. */
interface Report {
  readonly testResults: readonly {
    readonly message: string
    readonly assertionResults: readonly {
      readonly status: string
      readonly failureMessages: readonly string[]
    }[]
  }[]
}

function broken(detail: string): Outcome {
  return { result: 'broken', detail: detail.trim() }
}

/** Without what a test runner around this one has set. */
function environment(): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR, CXX } = process.env
  return { PATH, HOME, ...(TMPDIR && { TMPDIR }), ...(CXX && { CXX }) }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It is empty.
  }
}
