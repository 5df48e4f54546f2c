#!/usr/bin/env node
/** Says what is in a HEF, or why it cannot be used. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { HefError, quoted } from '../hef/error.ts'
import { type Hef, type HefStream, type Quantisation, readHef, type Shape } from '../hef/hef.ts'

const HELP = `Reads a HEF and says what is in it: npm run hef -- FILE [options]

  --json    for machines, one JSON object
  --help    this text

Exit code: 0 it is a good HEF, 1 it is not or cannot be read, 64 wrong usage.`

/** EX_USAGE of sysexits.h */
const EXIT_USAGE = 64

function main(args: string[]): number {
  let options: { path: string; json: boolean } | 'help'
  try {
    options = parseOptions(args)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}\n`)
    return EXIT_USAGE
  }
  if (options === 'help') {
    process.stdout.write(`${HELP}\n`)
    return 0
  }

  const { path, json } = options
  try {
    const bytes = readFileSync(path)
    const hef = readHef(bytes)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    process.stdout.write(
      json ? `${JSON.stringify({ path, sha256, ...hef }, null, 2)}\n` : inWords({ path, sha256, hef }),
    )
    return 0
  } catch (error) {
    const unreadable = (error as NodeJS.ErrnoException).syscall !== undefined
    if (!unreadable && !(error instanceof HefError)) throw error
    process.stderr.write(`${path}: ${(error as Error).message}\n`)
    return 1
  }
}

function inWords({ path, sha256, hef }: { path: string; sha256: string; hef: Hef }): string {
  const { headerVersion, checksum, bytes, architecture, compilerVersion, compiledAt, software } = hef
  const facts = [
    ['file', `${path}, ${bytes} bytes`],
    ['sha256', sha256],
    ['header', `version ${headerVersion}, ${checksum} is right`],
    ['architecture', architecture],
    ['compiler', compilerVersion === '' ? 'not said' : printable(compilerVersion)],
    ['compiled at', compiledAt?.toISOString() ?? 'not said'],
    ['soft HEF', software ? 'yes: only the software HailoRT runs it' : 'no'],
  ]
  const groups = hef.networkGroups.map(({ name, bottleneckFps, latencyMs, inputs, outputs }) => {
    const streams = [
      ...inputs.map(stream => ['in', ...cellsOf(stream)]),
      ...outputs.map(stream => ['out', ...cellsOf(stream)]),
    ]
    const speed = `${short(bottleneckFps)} frames/s at the bottleneck, latency ${short(latencyMs)} ms`
    return `\nnetwork group ${printable(name)}: ${speed}\n${table([COLUMNS, ...streams])}`
  })
  return `${table(facts)}${groups.join('')}`
}

const COLUMNS = ['', 'stream', 'was', 'shape', 'on the device', 'quantisation']

function cellsOf(stream: HefStream): string[] {
  const { kind, name, originalNames, shape, hardwareShape, hardwareBytes, order, dataBytes } = stream
  const values = dataBytes === 0 ? '' : ` of ${dataBytes * 8} bit`
  return [
    printable(name) + (kind === 'plain' ? '' : ` (${kind})`),
    originalNames.map(printable).join(' '),
    inSteps(shape),
    `${order} ${inSteps(hardwareShape)}${values}, ${hardwareBytes} bytes`,
    quantisationInWords(stream.quantisation),
  ]
}

function quantisationInWords(quantisation: readonly Quantisation[]): string {
  const [first] = quantisation
  if (first === undefined) return 'in its layers'
  const limits = `${short(first.limitMin)} to ${short(first.limitMax)}`
  if (quantisation.length === 1) {
    return `zero point ${short(first.zeroPoint)}, scale ${short(first.scale)}, ${limits}`
  }
  const scales = quantisation.map(({ scale }) => scale).sort((a, b) => a - b)
  return `${scales.length} scales from ${short(scales[0]!)} to ${short(scales.at(-1)!)}, ${limits}`
}

function inSteps({ height, width, features }: Shape): string {
  return `${height}x${width}x${features}`
}

function short(value: number): string {
  return String(Number(value.toPrecision(6)))
}

/** Names come from a file: control characters in them must not reach the terminal. */
function printable(name: string): string {
  const escaped = quoted(name)
  return escaped === `"${name}"` ? name : escaped
}

/** Rows of cells in columns as wide as their widest cell, two spaces between. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) =>
    rows.reduce((widest, row) => Math.max(widest, row[column]!.length), 0),
  )
  const lines = rows.map(row => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  '))
  return lines.map(line => `${line.trimEnd()}\n`).join('')
}

/** @throws TypeError when an option is unknown or FILE is not one path. */
function parseOptions(args: string[]): { path: string; json: boolean } | 'help' {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  })
  if (values.help) return 'help'
  const [path] = positionals
  if (path === undefined || positionals.length > 1) {
    throw new TypeError(`Cannot read ${positionals.length} files: expected one FILE`)
  }
  return { path, json: values.json }
}

process.exitCode = main(process.argv.slice(2))
