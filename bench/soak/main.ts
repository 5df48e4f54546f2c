import { writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { argv, stderr } from 'node:process'
import { environmentLine, readEnvironment } from '../report/environment.ts'
import { HELP, type Options, parseOptions } from './options.ts'
import { asJson, printed } from './report.ts'
import type { Round } from './round.ts'
import { soak } from './run.ts'
import { judge } from './verdict.ts'

process.exitCode = await main(argv.slice(2))

async function main(args: readonly string[]): Promise<number> {
  let options: Options | 'help'
  try {
    options = parseOptions(args)
  } catch (error) {
    console.error(`${(error as Error).message}\nAll options: npm run soak -- --help`)
    return 2
  }
  if (options === 'help') {
    console.log(HELP)
    return 0
  }
  // What is left behind goes when the process comes to its end.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => process.exit(128 + constants.signals[signal]))
  }
  const environment = readEnvironment()
  console.log(`${environmentLine(environment)}\nseed ${options.seed}\n`)
  const startMs = performance.now()
  const ended = await soak(options, progressOf())
  if (stderr.isTTY) stderr.write('\r\x1b[K')
  const promises = judge(ended)
  const minutes = (performance.now() - startMs) / 60_000
  console.log(`${printed(ended.rounds, promises)}\n${minutes.toFixed(1)} min`)
  const { seed, json, isWhole } = options
  if (json !== null) {
    writeFileSync(json, JSON.stringify({ environment, seed, ...asJson(ended.rounds, promises) }, null, 2))
  }
  const failing = promises.filter(
    ({ verdict }) => verdict === 'broken' || (isWhole && verdict === 'not shown'),
  )
  return failing.length === 0 ? 0 : 1
}

/** On one line for who looks, and for a log a line each tenth. */
function progressOf(): (text: string, round: Round) => void {
  if (stderr.isTTY) return text => stderr.write(`\r\x1b[K${text}`)
  let last = -1
  return (text, { tenth }) => {
    if (tenth > last) stderr.write(`${text}\n`)
    last = tenth
  }
}
