import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { argv, stderr, stdout } from 'node:process'
import { BuildError, build, findCompiler } from '../native/build.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { NATIVE_PARTS } from './native-parts.ts'
import { contextOf, HELP, type Options, parseOptions, quoted } from './options.ts'
import { drawingsOf, writeDrawings } from './report/charts.ts'
import {
  type Environment,
  environmentLine,
  IDLE_LOAD_AVERAGE,
  readEnvironment,
} from './report/environment.ts'
import { CHARTS_FOLDER, page, sectionsOf } from './report/page.ts'
import { keepResult, readResults } from './report/results.ts'
import { printed } from './report/terminal.ts'
import { MENU, type SuiteName } from './suites/menu.ts'
import { CannotMeasure } from './suites/suite.ts'

const DOCS = join(PROJECT_FOLDER, 'docs')
const RESULTS = join(DOCS, CHARTS_FOLDER, 'results.json')
const NOTES = join(DOCS, CHARTS_FOLDER, 'notes.md')

async function main(args: string[]): Promise<number> {
  let options: Options
  try {
    options = parseOptions(args)
  } catch (error) {
    console.error(`${(error as Error).message}\nAll options: npm run bench -- --help`)
    return 2
  }
  const { help, suites, report } = options
  if (help || (suites.length === 0 && !report)) {
    console.log(HELP)
    return 0
  }

  const environment = readEnvironment()
  if (suites.length > 0) console.log(`${environmentLine(environment)}\n`)
  if (suites.length > 0 && environment.loadAverage > IDLE_LOAD_AVERAGE)
    console.warn('! The machine is not idle: figures are noisy.\n')
  if (suites.length > 0 && !(await buildParts())) return 1
  let isSound = true
  for (const suite of suites) isSound = (await measure(suite, options, environment)) && isSound
  if (report) writeReport()
  return isSound ? 0 : 1
}

/**
 * Now, so that no measurement waits for a compiler, and none is of what an older source made. Without a compiler the
 * suites that need one say so.
 */
async function buildParts(): Promise<boolean> {
  if (findCompiler() === null) return true
  try {
    for (const target of NATIVE_PARTS) await build(target)
    return true
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    console.error(error.message)
    return false
  }
}

/** Returns whether every answer was right. */
async function measure(suite: SuiteName, options: Options, environment: Environment): Promise<boolean> {
  try {
    const section = await MENU[suite].run(contextOf(options, suite, progress))
    progress('')
    console.log(printed(section))
    const { json, svg, words, quick } = options
    const pythons = suite === 'peers' ? options.pythons.map(python => ` --python ${quoted(python)}`) : []
    const command = `npm run bench -- ${suite}${pythons.join('')}${words}`
    if (json !== null) keepResult(json, suite, { environment, command, isQuick: quick, section })
    if (svg !== null) writeDrawings(svg, drawingsOf(suite, section))
    return section.rows.every(({ wrong }) => wrong === 0)
  } catch (error) {
    // What other suites find is not lost for it.
    const { message, code, stack } = error as NodeJS.ErrnoException
    const isExpected = error instanceof CannotMeasure || code !== undefined
    progress('')
    console.error(`! ${suite} was not measured: ${isExpected ? message : stack}\n`)
    return false
  }
}

function writeReport(): void {
  const results = readResults(RESULTS)
  const notes = existsSync(NOTES) ? sectionsOf(readFileSync(NOTES, 'utf8')) : ''
  writeFileSync(join(DOCS, 'performance.md'), page(results, Object.keys(MENU), notes))
  for (const [suite, { section }] of Object.entries(results.suites))
    writeDrawings(join(DOCS, CHARTS_FOLDER), drawingsOf(suite, section))
}

/** One line, on a terminal only: elsewhere it would be noise. */
function progress(text: string): void {
  if (stderr.isTTY) stderr.write(`\r\x1b[K${text}`)
}

stdout.on('error', () => process.exit(1)) // whoever read it is gone, as after `| head`
process.exitCode = await main(argv.slice(2))
