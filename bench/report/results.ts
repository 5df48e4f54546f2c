import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Environment } from './environment.ts'
import type { Section } from './section.ts'

/** The file that `--json` names. What changes its meaning counts the version up. */
export interface Results {
  readonly version: typeof RESULTS_VERSION
  /** By suite. */
  readonly suites: Readonly<Record<string, Result>>
}

/** What one suite has found, where and when. */
export interface Result {
  readonly environment: Environment
  /** What prints it again. */
  readonly command: string
  /** Too short to be figures. */
  readonly isQuick: boolean
  readonly section: Section
}

const RESULTS_VERSION = 1

/** @throws when the file is of another version; one that is not there has nothing in it */
export function readResults(file: string): Results {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { version: RESULTS_VERSION, suites: {} }
    throw error
  }
  const results: Results = JSON.parse(text)
  if (results.version !== RESULTS_VERSION)
    throw new Error(`Cannot read ${file}: it has version ${results.version}, expected ${RESULTS_VERSION}`)
  return results
}

/** Puts it in the place of what the suite has found before. Those of other suites stay. */
export function keepResult(file: string, suite: string, result: Result): void {
  const { version, suites } = readResults(file)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify({ version, suites: { ...suites, [suite]: result } }, null, 2)}\n`)
}
