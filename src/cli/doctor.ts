#!/usr/bin/env node
/** Tells whether this machine and this configuration can serve, and what to do where not. */
import { parseArgs } from 'node:util'
import type { Result } from '../doctor/examine.ts'

const HELP = `Tells whether this machine and this configuration can serve: npm run doctor -- [options]

Reads the same environment variables and YAML file as \`npm start\`. Starts no server, claims no device, changes nothing.

  --json    for machines: an array of {check, status, found, remedy}, status being ok, warn, fail or skip
  --help    this text

Exit code: 0 nothing fails, 1 a check fails, 64 wrong usage.`

/** EX_USAGE of sysexits.h */
const EXIT_USAGE = 64

async function main(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  let options: { json: boolean; help: boolean }
  try {
    options = parseOptions(args)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}\n`)
    return EXIT_USAGE
  }
  if (options.help) {
    process.stdout.write(`${HELP}\n`)
    return 0
  }
  const results = await resultsOf(env)
  process.stdout.write(options.json ? `${JSON.stringify(results, null, 2)}\n` : inWords(results))
  return results.some(({ status }) => status === 'fail') ? 1 : 0
}

async function resultsOf(env: NodeJS.ProcessEnv): Promise<Result[]> {
  try {
    // Imported here, so that packages which are not installed are told in words too.
    const { examine } = await import('../doctor/examine.ts')
    const { Facts } = await import('../doctor/facts.ts')
    const { thisSystem } = await import('../doctor/system.ts')
    return await examine(new Facts(thisSystem, env))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'ERR_MODULE_NOT_FOUND') throw error
    return [{ check: 'packages', status: 'fail', found: message, remedy: 'Run `npm ci`' }]
  }
}

const LABELS = { ok: 'ok', warn: 'warn', fail: 'FAIL', skip: 'skip' } as const

function inWords(results: readonly Result[]): string {
  const width = Math.max(...results.map(({ check }) => check.length))
  const indent = ' '.repeat(width + 8)
  const lines = results.map(({ check, status, found, remedy }) => {
    const text = printable(found).replaceAll('\n', `\n${indent}`)
    const advice = remedy === null ? '' : `\n${' '.repeat(6)}-> ${printable(remedy)}`
    return `${LABELS[status].padEnd(4)}  ${check.padEnd(width)}  ${text}${advice}\n`
  })
  return `${lines.join('')}\n${summaryOf(results)}\n`
}

function summaryOf(results: readonly Result[]): string {
  const countOf = (status: Result['status']) => results.filter(result => result.status === status).length
  const counts = `${countOf('ok')} ok, ${countOf('warn')} warned of, ${countOf('fail')} failed, ${countOf('skip')} skipped`
  return `${counts}: ${countOf('fail') === 0 ? 'ready for `npm start`' : 'cannot serve this configuration as it is'}`
}

/** Names of processes and files may hold anything: control characters in them must not reach the terminal. */
function printable(text: string): string {
  return text.replace(/(?!\n)\p{Cc}/gu, '?')
}

/** @throws TypeError when an option is unknown */
function parseOptions(args: string[]): { json: boolean; help: boolean } {
  const { values } = parseArgs({
    args,
    options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  })
  return values
}

// A probe that cannot even be killed must not keep us.
process.exit(await main(process.argv.slice(2), process.env))
