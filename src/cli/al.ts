/** Chooses the windows of a day that are most worth a label. */
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { KEPT_REASONS } from '../telemetry/counters.ts'
import { daysIn, FILE_MODE, FOLDER_MODE, fileSetsIn, isDay } from '../telemetry/folder.ts'
import { type DayOfKept, keptOn, samplesOf } from '../telemetry/kept-windows.ts'
import { type Selection, select } from '../telemetry/selection.ts'

const HELP = `Chooses windows for labelling among those that telemetry has kept: npm run al -- COMMAND [options]

  days                    what there is of each day
  select --day D          writes the windows of the day D, as 2026-11-21 (UTC), that are most worth a label
    --limit N             at most so many (50)
    --out FOLDER          where to (selected-D): selected.ndjson, a line each, and selected.f32, their samples in the
                          same order, float32[n][100][9], raw units. Files that are there are not overwritten

  --dir FOLDER            of telemetry (TELEMETRY_DIR)
  --help                  this text

Exit code: 0 done, 1 nothing to choose from or a file cannot be read or written, 64 wrong usage.`

/** EX_USAGE of sysexits.h */
const EXIT_USAGE = 64
const DEFAULT_LIMIT = 50

type Options =
  | { readonly command: 'help' }
  | { readonly command: 'days'; readonly folder: string }
  | {
      readonly command: 'select'
      readonly folder: string
      readonly day: string
      readonly limit: number
      readonly out: string
    }

/** What keeps us from it, in words for who asked. */
class Refusal extends Error {}

function main(args: string[], env: NodeJS.ProcessEnv): number {
  let options: Options
  try {
    options = parseOptions(args, env)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}\n`)
    return EXIT_USAGE
  }
  if (options.command === 'help') {
    process.stdout.write(`${HELP}\n`)
    return 0
  }
  try {
    assertFolder(options.folder)
    process.stdout.write(options.command === 'days' ? listDays(options.folder) : writeSelection(options))
    return 0
  } catch (error) {
    const ofTheDisk = (error as NodeJS.ErrnoException).syscall !== undefined
    if (!ofTheDisk && !(error instanceof Refusal)) throw error
    process.stderr.write(`${(error as Error).message}\n`)
    return 1
  }
}

function assertFolder(folder: string): void {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return
  throw new Refusal(`${folder} is not a folder, expected the TELEMETRY_DIR of a server`)
}

function listDays(folder: string): string {
  const days = daysIn(folder)
  if (days.length === 0) throw new Refusal(`${folder} holds no telemetry yet`)
  const rows = days.map(day => {
    const sets = fileSetsIn(folder, [day])
    const answers = sets.filter(({ kind }) => kind === 'answers')
    const lines = answers.reduce((sum, { paths }) => sum + linesIn(paths[0]!), 0)
    const megabytes = sets.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6
    const { windows } = keptOn(folder, day)
    return `${day}  ${String(lines).padStart(9)} lines  ${megabytes.toFixed(1).padStart(8)} MB  ${windows.length} windows kept${inBrackets(windows.map(({ line }) => line.reasons))}\n`
  })
  return rows.join('')
}

function linesIn(path: string): number {
  const bytes = readFileSync(path)
  let count = 0
  for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, at + 1)) count++
  return count
}

function writeSelection({ folder, day, limit, out }: Options & { command: 'select' }): string {
  const kept = keptOn(folder, day)
  if (kept.windows.length === 0) {
    const days = daysIn(folder)
    const others =
      days.length === 0 ? 'There is no telemetry at all' : `There is telemetry of ${days.join(', ')}`
    throw new Refusal(`${folder} has no window that was kept on ${day}. ${others}`)
  }
  const selection = select(kept.windows, limit)
  const lines = selection.chosen.map(({ window, reason }, row) =>
    JSON.stringify({ ...window.line, row, chosen_for: reason }),
  )
  mkdirSync(out, { recursive: true, mode: FOLDER_MODE })
  const samples = selection.chosen.map(({ window }) => samplesOf(window))
  writeAllOrNone(
    new Map([
      [join(out, 'selected.ndjson'), Buffer.from(`${lines.join('\n')}\n`)],
      [join(out, 'selected.f32'), Buffer.concat(samples)],
    ]),
  )
  return inWords(kept, selection, out)
}

/** New files by their paths. What is there already is not touched, and then none of them is made. */
function writeAllOrNone(files: ReadonlyMap<string, Buffer>): void {
  const made: string[] = []
  try {
    for (const path of files.keys()) {
      closeSync(openSync(path, 'wx', FILE_MODE))
      made.push(path)
    }
    for (const [path, bytes] of files) writeFileSync(path, bytes)
  } catch (error) {
    for (const path of made) rmSync(path)
    throw error
  }
}

function inWords(
  { windows, unreadable }: DayOfKept,
  { chosen, nearDuplicates }: Selection,
  out: string,
): string {
  const rows = KEPT_REASONS.map(reason => {
    const candidates = windows.filter(({ line }) => line.reasons.includes(reason)).length
    const count = chosen.filter(choice => choice.reason === reason).length
    return `  ${reason.padEnd(20)} ${String(count).padStart(5)} of ${candidates}\n`
  })
  const unread =
    unreadable === 0 ? '' : `${unreadable} lines are not whole, or have no samples: passed over\n`
  return (
    `chose ${chosen.length} of ${windows.length} windows, by what made them worth a label:\n${rows.join('')}` +
    `${nearDuplicates} others show the same as one that was chosen\n${unread}` +
    `wrote ${join(out, 'selected.ndjson')} and selected.f32\n`
  )
}

function inBrackets(reasons: readonly (readonly string[])[]): string {
  const counts = KEPT_REASONS.map(
    reason => [reason, reasons.filter(of => of.includes(reason)).length] as const,
  )
  const told = counts.filter(([, count]) => count > 0).map(([reason, count]) => `${reason} ${count}`)
  return told.length === 0 ? '' : ` (${told.join(', ')})`
}

/** @throws TypeError when the command, an option or a value is not one of those that HELP names */
function parseOptions(args: string[], { TELEMETRY_DIR = '' }: NodeJS.ProcessEnv): Options {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      dir: { type: 'string', default: TELEMETRY_DIR },
      day: { type: 'string' },
      limit: { type: 'string' },
      out: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return { command: 'help' }
  const [command, ...rest] = positionals
  if ((command !== 'days' && command !== 'select') || rest.length > 0) {
    throw new TypeError(`The command is ${positionals.join(' ') || 'missing'}, expected days or select`)
  }
  if (values.dir === '') throw new TypeError('--dir is missing, and TELEMETRY_DIR is not set')
  const folder = resolve(values.dir)
  if (command === 'days') {
    const stray = (['day', 'limit', 'out'] as const).find(name => values[name] !== undefined)
    if (stray !== undefined) throw new TypeError(`--${stray} is for select, not for days`)
    return { command, folder }
  }
  const { day, limit = String(DEFAULT_LIMIT) } = values
  if (day === undefined || !isDay(day)) {
    throw new TypeError(`--day is ${day ?? 'missing'}, expected a day as 2026-11-21`)
  }
  if (!/^[1-9]\d{0,5}$/.test(limit))
    throw new TypeError(`--limit is ${limit}, expected a whole number above 0`)
  return { command, folder, day, limit: Number(limit), out: resolve(values.out ?? `selected-${day}`) }
}

process.exitCode = main(process.argv.slice(2), process.env)
