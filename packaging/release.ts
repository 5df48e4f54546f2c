/** Makes a release: version, changelog, packages, SBOM and checksums. */
import { execFileSync, spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { PROJECT_FOLDER } from '../src/project.ts'
import { requireNpmForSbom } from './sbom.ts'
import { editsOf, RefusedError } from './version.ts'

const HELP = `Makes a release: npm run release -- X.Y.Z [options]

Sets the version wherever it is named, dates the changelog, builds, and writes what is published into release/. Refuses
changes that are not committed, a version that is not above the last, and a changelog with nothing unreleased.

  --commit    commit it, and tag it vX.Y.Z; nothing is pushed
  --dry-run   say what would be changed, and change nothing
  --help      this text

Exit code: 0 done; 1 refused or failed, what git knows is as before; 64 wrong usage.`

const EXIT_REFUSED = 1
/** EX_USAGE of sysexits.h */
const EXIT_USAGE = 64

interface Options {
  readonly version: string
  readonly commit: boolean
  readonly dryRun: boolean
}

function main(args: string[]): number {
  let options: Options | 'help'
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
  try {
    release(options)
    return 0
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error
    process.stderr.write(`Cannot release: ${error.message}\n`)
    return EXIT_REFUSED
  }
}

function release({ version, commit, dryRun }: Options): void {
  if (git('status', '--porcelain') !== '') throw new RefusedError('there are changes that are not committed')
  const tag = `v${version}`
  if (git('tag', '--list', tag) !== '') throw new RefusedError(`there is a tag ${tag}`)
  if (commit && !knowsCommitter())
    throw new RefusedError('git has no user.name and user.email to commit with')
  const edits = editsOf(PROJECT_FOLDER, version, new Date().toISOString().slice(0, 10))
  requireNpmForSbom()
  process.stdout.write([`${version} in`, ...edits.keys()].join('\n  ').concat('\n'))
  if (dryRun) return
  const head = git('rev-parse', 'HEAD')
  // Ctrl+C ends the command that runs, and then it fails as any other does.
  process.once('SIGINT', () => {})
  try {
    for (const [path, text] of edits) writeFileSync(join(PROJECT_FOLDER, path), text)
    // What is left of sources that have gone would be packed.
    rmSync(join(PROJECT_FOLDER, 'dist'), { recursive: true, force: true })
    npm('exec', '--', 'tsc')
    npm('run', 'build:page')
    npm('run', 'package')
    if (!commit) return
    git('add', ...edits.keys())
    git('commit', '--quiet', '--message', `Release ${version}`)
    git('tag', '--annotate', '--message', `hailo-inference ${version}`, tag)
  } catch (error) {
    git('reset', '--quiet', '--soft', head)
    git('checkout', '--quiet', head, '--', ...edits.keys())
    throw new RefusedError(`${(error as Error).message.split('\n')[0]}; what names the version is as before`)
  }
}

function knowsCommitter(): boolean {
  return spawnSync('git', ['var', 'GIT_COMMITTER_IDENT'], { cwd: PROJECT_FOLDER }).status === 0
}

function npm(...args: string[]): void {
  execFileSync('npm', args, { cwd: PROJECT_FOLDER, stdio: 'inherit' })
}

function git(...args: string[]): string {
  return execFileSync('git', args, { cwd: PROJECT_FOLDER, encoding: 'utf8' }).trim()
}

function parseOptions(args: string[]): Options | 'help' {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      commit: { type: 'boolean', default: false },
      'dry-run': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  const [version, ...more] = positionals
  if (version === undefined || more.length > 0) throw new Error('Expected one version, as 1.2.3')
  return { version, commit: values.commit, dryRun: values['dry-run'] }
}

process.exitCode = main(process.argv.slice(2))
