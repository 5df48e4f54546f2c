import { argv, stderr, stdout } from 'node:process'
import { contextOf, HELP, type Options, parseOptions } from './options.ts'
import { environmentLine, IDLE_LOAD_AVERAGE, readEnvironment } from './report/environment.ts'
import type { Section } from './report/section.ts'
import { printed } from './report/terminal.ts'
import { SUITES } from './suites/menu.ts'

async function main(args: string[]): Promise<number> {
  let options: Options
  try {
    options = parseOptions(args)
  } catch (error) {
    console.error(`${(error as Error).message}\nAll options: npm run bench -- --help`)
    return 2
  }
  if (options.help || options.suites.length === 0) {
    console.log(HELP)
    return 0
  }

  const environment = readEnvironment()
  console.log(`${environmentLine(environment)}\n`)
  if (environment.loadAverage > IDLE_LOAD_AVERAGE)
    console.warn('! The machine is not idle: figures are noisy.\n')
  let isValid = true
  for (const name of options.suites) {
    const section = await SUITES[name].run(contextOf(options, progress))
    progress('')
    console.log(printed(section))
    isValid &&= isSound(section)
  }
  return isValid ? 0 : 1
}

function isSound({ rows }: Section): boolean {
  return rows.every(({ wrong }) => wrong === 0)
}

/** One line, on a terminal only: elsewhere it would be noise. */
function progress(text: string): void {
  if (stderr.isTTY) stderr.write(`\r\x1b[K${text}`)
}

stdout.on('error', () => process.exit(1)) // whoever read it is gone, as after `| head`
process.exitCode = await main(argv.slice(2))
