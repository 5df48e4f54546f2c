/** Writes what tells people of the configuration keys, from their table. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { documentOfKeys } from '../src/config/document.ts'
import { exampleOfKeys } from '../src/config/example.ts'
import { factsOf } from '../src/config/keys.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { composeVariables } from './compose-variables.ts'

const HELP = `Writes docs/env.md and compose/.env.example: npm run docs:env -- [options]

Both are made from src/config/keys.ts, the latter also from the variables in compose/*.yaml.

  --check   write nothing; is what lies there what would be written?
  --help    this text

Exit code: 0 written, or all is as it would be written; 1 not so.`

const COMPOSE_FOLDER = join(PROJECT_FOLDER, 'compose')

function main(): number {
  const { values } = parseArgs({
    options: { check: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  })
  if (values.help) {
    process.stdout.write(`${HELP}\n`)
    return 0
  }
  const files = { 'docs/env.md': documentOfKeys(), 'compose/.env.example': exampleOfKeys(ofCompose()) }
  let stale = 0
  for (const [name, text] of Object.entries(files)) {
    const path = join(PROJECT_FOLDER, name)
    if (!values.check) {
      writeFileSync(path, text)
      process.stdout.write(`wrote ${name}\n`)
    } else if (readFileSync(path, 'utf8') !== text) {
      process.stderr.write(`${name} is not what \`npm run docs:env\` writes: run it\n`)
      stale++
    }
  }
  return stale === 0 ? 0 : 1
}

/** What the Compose files take from `.env` for themselves. */
function ofCompose() {
  const names = readdirSync(COMPOSE_FOLDER).filter(name => name.endsWith('.yaml'))
  // compose.yaml before its overrides, whatever these are called.
  names.sort((a, b) => Number(b === 'compose.yaml') - Number(a === 'compose.yaml') || (a < b ? -1 : 1))
  const files = names.map(name => [name, readFileSync(join(COMPOSE_FOLDER, name), 'utf8')])
  return composeVariables(Object.fromEntries(files), name => factsOf(name) !== undefined)
}

process.exitCode = main()
