/** Writes what is published of the version in package.json, for machines of this architecture, into one folder. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { PROJECT_FOLDER, VERSION } from '../src/project.ts'
import { packForNpm } from './npm-package.ts'
import { releaseDate } from './version.ts'

const HELP = `Writes what is published of this version: npm run package -- [options]

  npm tarball, Debian package (where dpkg-deb is, for this architecture), SBOM (CycloneDX), SHA256SUMS. Of one source and
  one Node.js they come out the same, byte by byte. Takes what npm run build has made.

  --out FOLDER   where to (release); what is in it goes
  --help         this text

Exit code: 0 written, 64 wrong usage.`

const SUMS = 'SHA256SUMS'
const DEB = join(PROJECT_FOLDER, 'dist', 'packaging', 'deb.js')

function writeArtifacts(folder: string): void {
  const changelog = readFileSync(join(PROJECT_FOLDER, 'CHANGELOG.md'), 'utf8')
  const made = releaseDate(changelog, VERSION) ?? new Date(0)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  packForNpm(folder)
  if (hasDpkg() && existsSync(DEB)) packForDebian(folder, made)
  writeFileSync(join(folder, `hailo-inference-${VERSION}.sbom.cdx.json`), sbom(made))
  const sums = readdirSync(folder)
    .sort()
    .map(name => `${sha256(join(folder, name))}  ${name}\n`)
  writeFileSync(join(folder, SUMS), sums.join(''))
  process.stdout.write(`${folder}\n${sums.join('')}`)
}

function packForDebian(folder: string, made: Date): void {
  const date = `SOURCE_DATE_EPOCH=${made.getTime() / 1000}`
  execFileSync('env', [date, process.execPath, DEB, folder], { cwd: PROJECT_FOLDER, stdio: 'inherit' })
}

/** Without the number and the time that npm gives each one. */
function sbom(made: Date): string {
  const told = execFileSync('npm', ['run', '--silent', 'sbom:print'], {
    cwd: PROJECT_FOLDER,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 64 * 1024 * 1024,
  })
  const { serialNumber: _, ...rest } = JSON.parse(told)
  const metadata = { ...rest.metadata, timestamp: made.toISOString() }
  return `${JSON.stringify({ ...rest, metadata }, null, 2)}\n`
}

function hasDpkg(): boolean {
  return existsSync('/usr/bin/dpkg-deb')
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    const { values } = parseArgs({
      options: { out: { type: 'string', default: 'release' }, help: { type: 'boolean', default: false } },
    })
    if (values.help) process.stdout.write(`${HELP}\n`)
    else writeArtifacts(values.out)
  } catch (error) {
    if (!(error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS')) throw error
    process.stderr.write(`${(error as Error).message}\n\n${HELP}\n`)
    process.exitCode = 64
  }
}
