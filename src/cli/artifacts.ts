#!/usr/bin/env node
/** Lists the versions of a model, verifies them, and says which one is served. */
import '../no-telemetry.ts'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { ArtifactError, servedVersion, versionsIn } from '../artifacts/current.ts'
import { readHistory, versionBefore } from '../artifacts/history.ts'
import { type Promotion, promote, rollback } from '../artifacts/promote.ts'
import { type Verification, verify, verifyFiles } from '../artifacts/verify.ts'
import { SHIPPED_MODELS_FOLDER } from '../project.ts'

const HELP = `Says which version of a model is served: npm run artifacts -- COMMAND [options]

  list                 the versions, and whether their files are those of their manifests
  verify [VERSION]     the same for one version, the one that is served unless named, and what its ONNX models
                       answer to the golden windows
  promote VERSION      verifies it and serves it from now on. A server that runs changes over within seconds
  rollback             the same with the version that was served before

  --dir FOLDER         of versions (MODEL_DIR, else the one that ships)
  --json               for machines, one JSON object
  --help               this text

Exit code: 0 done, or it is good; 1 it is not, or cannot be read or written, and nothing has changed; 64 wrong usage.`

/** EX_USAGE of sysexits.h */
const EXIT_USAGE = 64

const COMMANDS = ['list', 'verify', 'promote', 'rollback'] as const

interface Options {
  readonly command: (typeof COMMANDS)[number]
  readonly version: string | null
  readonly folder: string
  /** The environment names the file of the model too. */
  readonly modelNamed: boolean
  readonly json: boolean
}

interface Result {
  readonly exitCode: 0 | 1
  readonly json: unknown
  readonly text: string
}

async function main(args: string[], env: NodeJS.ProcessEnv): Promise<number> {
  let options: Options | 'help'
  try {
    options = parseOptions(args, env)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}\n`)
    return EXIT_USAGE
  }
  if (options === 'help') {
    process.stdout.write(`${HELP}\n`)
    return 0
  }
  try {
    const { exitCode, json, text } = await run(options)
    process.stdout.write(options.json ? `${JSON.stringify(json, null, 2)}\n` : text)
    return exitCode
  } catch (error) {
    const ofTheDisk = (error as NodeJS.ErrnoException).syscall !== undefined
    if (!ofTheDisk && !(error instanceof ArtifactError)) throw error
    process.stderr.write(`${(error as Error).message}\n`)
    return 1
  }
}

async function run({ command, version, folder, modelNamed }: Options): Promise<Result> {
  switch (command) {
    case 'list':
      return list(folder)
    case 'verify':
      return judged(await verify(folder, version ?? servedIn(folder), modelNamed))
    case 'promote':
      return told(await promote(folder, version!, modelNamed))
    case 'rollback':
      return told(await rollback(folder, modelNamed))
  }
}

function list(folder: string): Result {
  const names = versionsIn(folder)
  const current = servedVersion(folder)
  const previous = versionBefore(current, readHistory(folder))
  const versions = names.map(name => {
    const { manifest, problems, warnings } = verifyFiles(folder, name)
    const state = name === current ? 'current' : name === previous ? 'previous' : 'other'
    return { version: name, state, model: manifest?.name ?? null, problems, warnings }
  })
  const lines = versions.flatMap(({ version, state, model, problems, warnings }) => [
    [version, state === 'other' ? '' : state, problems.length > 0 ? 'broken' : '', model ?? ''],
    ...[...problems, ...warnings].map(words => [`  ${words}`]),
  ])
  const missing =
    current === null
      ? ['None is served, as no link says which: promote one\n']
      : names.includes(current)
        ? []
        : [`${current} is to be served and is not there: promote another\n`]
  return {
    exitCode: 0,
    json: { folder, current, previous, versions },
    text: [folder, '\n', ...lines.map(inColumns), ...missing].join(''),
  }
}

function inColumns([version, ...cells]: readonly string[]): string {
  return `${[version!.padEnd(12), ...cells.map(cell => cell.padEnd(8))].join('  ').trimEnd()}\n`
}

function judged({ version, problems, warnings, findings, manifest }: Verification): Result {
  const lines = [
    `${version}  ${manifest?.name ?? ''}`.trimEnd(),
    ...findings.map(words => `  ok    ${words}`),
    ...warnings.map(words => `  warn  ${words}`),
    ...problems.map(words => `  FAIL  ${words}`),
  ]
  return {
    exitCode: problems.length > 0 ? 1 : 0,
    json: { version, model: manifest?.name ?? null, problems, warnings, findings },
    text: `${lines.join('\n')}\n`,
  }
}

function told({ from, to, warnings }: Promotion): Result {
  const before = from === null ? '' : `, before ${from}`
  const lines = [
    from === to
      ? `current leads to ${to} already. A server that refused it looks again on SIGHUP or POST load`
      : `${to} is served from now on${before}`,
    ...warnings.map(words => `  warn  ${words}`),
  ]
  return { exitCode: 0, json: { from, to, warnings }, text: `${lines.join('\n')}\n` }
}

function servedIn(folder: string): string {
  const version = servedVersion(folder)
  if (version !== null) return version
  throw new ArtifactError(`Cannot tell which version of ${folder} is served: name one`)
}

/** @throws TypeError when the command is unknown, or has more or less than it needs */
function parseOptions(
  args: string[],
  { MODEL_DIR, ONNX_PATH, HEF_PATH }: NodeJS.ProcessEnv,
): Options | 'help' {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      dir: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  const [name, version, ...others] = positionals
  const command = COMMANDS.find(each => each === name)
  if (command === undefined) {
    throw new TypeError(`Unknown command ${name ?? ''}: expected one of ${COMMANDS.join(', ')}`)
  }
  if (command === 'promote' && version === undefined) throw new TypeError('promote needs a VERSION')
  const takesVersion = command === 'promote' || command === 'verify'
  if (others.length > 0 || (version !== undefined && !takesVersion)) {
    throw new TypeError(`${command} takes ${takesVersion ? 'one VERSION' : 'no VERSION'} and nothing else`)
  }
  const folder = resolve(values.dir ?? (MODEL_DIR || SHIPPED_MODELS_FOLDER))
  const modelNamed = Boolean(ONNX_PATH || HEF_PATH)
  return { command, version: version ?? null, folder, modelNamed, json: values.json }
}

process.exitCode = await main(process.argv.slice(2), process.env)
