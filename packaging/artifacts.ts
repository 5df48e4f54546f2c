/** Writes what is published of the version in package.json, for machines of this architecture, into one folder. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { PROJECT_FOLDER, VERSION } from '../src/project.ts'
import { packForNpm } from './npm-package.ts'
import { requireNpmForSbom, sbom } from './sbom.ts'
import { RefusedError, releaseDate } from './version.ts'

const HELP = `Writes what is published of this version: npm run package -- [options]

  npm tarball, Debian package (where dpkg-deb is, for this architecture), SBOM (CycloneDX), SHA256SUMS. Of one source and
  one Node.js they come out the same, byte by byte. Takes what npm run build has made.

  --out FOLDER   where to (release); what is in it goes
  --help         this text

Exit code: 0 written; 1 refused, nothing is written; 64 wrong usage.`

const SUMS = 'SHA256SUMS'
const DEB = join(PROJECT_FOLDER, 'dist', 'packaging', 'deb.js')

function writeArtifacts(folder: string): void {
  requireNpmForSbom()
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
    if (error instanceof RefusedError) {
      process.stderr.write(`Cannot package: ${error.message}\n`)
      process.exitCode = 1
    } else {
      if (!(error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS')) throw error
      process.stderr.write(`${(error as Error).message}\n\n${HELP}\n`)
      process.exitCode = 64
    }
  }
}
