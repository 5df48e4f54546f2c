/** Builds a Debian package for machines of this architecture, of what was built here. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { gzipSync } from 'node:zlib'
import { BuildError } from '../native/build.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { neededLibraries } from './shared-libraries.ts'
import { stage } from './stage.ts'

const USAGE = 'npm run package:deb [-- FOLDER]'

const NAME = 'hailo-inference'
const MAINTAINER = 'hailo-inference <packages@hailo-inference.invalid>'
/** Of the package of one version of the engine. */
const REVISION = 1
const LIBRARY = `usr/lib/${NAME}`
const DOC = `usr/share/doc/${NAME}`
const CONFIGURATION = `etc/${NAME}/${NAME}.env`

/** Where each file that is written for packages goes. */
const FILES = {
  'debian/copyright': `${DOC}/copyright`,
  'debian/hailo-inference.env': CONFIGURATION,
  'systemd/hailo-inference.service': `usr/lib/systemd/system/${NAME}.service`,
  'systemd/back-off.conf': `usr/share/${NAME}/back-off.conf`,
  'systemd/sysusers.conf': `usr/lib/sysusers.d/${NAME}.conf`,
  'systemd/udev.rules': `usr/lib/udev/rules.d/50-${NAME}.rules`,
}
const NATIVE = /\.(node|so(\.\d+)*)$/
/** Asks for a newer libc than others do; what chooses it says so. */
const FOR_NODE_24 = /\/@uwsjs\//
/** There is no binary of uWebSockets.js for a later one. */
const NEWEST_NODEJS = 'nodejs (<< 25)'
const SCRIPTS = ['postinst', 'prerm', 'postrm']

interface Package {
  readonly version: string
  readonly description: string
  readonly engines: { readonly node: string }
}

/**
 * @param folder where it is written to, made where it is missing
 * @param made what the files in it are dated, at the latest: the same for the same bytes
 * @returns its path
 * @throws BuildError
 */
export async function buildPackage(folder: string, made: Date): Promise<string> {
  const { version, description, engines }: Package = JSON.parse(
    readFileSync(join(PROJECT_FOLDER, 'package.json'), 'utf8'),
  )
  const architecture = debianArchitecture()
  // In Debian's order 1.0~rc.1 comes before 1.0, as 1.0-rc.1 does in npm's.
  const debianVersion = `${version.replace('-', '~')}-${REVISION}`
  process.umask(0o022) // folders in it are for everybody too
  const root = mkdtempSync(join(tmpdir(), `${NAME}-deb-`))
  try {
    chmodSync(root, 0o755)
    await stage(join(root, LIBRARY), { onnx: true })
    mkdirSync(join(root, 'usr/bin'))
    for (const command of readdirSync(join(root, LIBRARY, 'bin'))) {
      symlinkSync(join('../lib', NAME, 'bin', command), join(root, 'usr/bin', command))
    }
    for (const [file, path] of Object.entries(FILES)) {
      write(root, path, readFileSync(join(PROJECT_FOLDER, 'packaging', file)))
    }
    chmodSync(join(root, CONFIGURATION), 0o640) // may hold keys; systemd reads it as root
    const entry = `${NAME} (${debianVersion}) stable; urgency=medium\n\n  * See /${LIBRARY}/CHANGELOG.md\n\n -- ${MAINTAINER}  ${made.toUTCString().replace('GMT', '+0000')}\n`
    write(root, `${DOC}/changelog.Debian.gz`, gzipSync(entry, { level: 9 }))

    const files = filesIn(root)
    const sums = files
      .filter(path => path !== CONFIGURATION)
      .map(path => `${md5(join(root, path))}  ${path}\n`)
    const binaries = files.filter(path => NATIVE.test(path) && !FOR_NODE_24.test(path))
    const bytes = files.reduce((sum, path) => sum + statSync(join(root, path)).size, 0)
    const control = {
      Package: NAME,
      Version: debianVersion,
      Architecture: architecture,
      Maintainer: MAINTAINER,
      'Installed-Size': Math.ceil(bytes / 1024),
      Depends: [
        `nodejs (${engines.node.replace(/^>=(.*)\.0$/, '>= $1')})`,
        NEWEST_NODEJS,
        ...neededLibraries(binaries.map(path => join(root, path))),
        'systemd',
      ].join(', '),
      Suggests: 'hailort',
      Section: 'science',
      Priority: 'optional',
      Description: `inference engine for IMU windows\n ${description}.`,
    }
    const lines = Object.entries(control).map(([field, value]) => `${field}: ${value}\n`)
    write(root, 'DEBIAN/control', lines.join(''))
    write(root, 'DEBIAN/md5sums', sums.join(''))
    write(root, 'DEBIAN/conffiles', `/${CONFIGURATION}\n`)
    for (const script of SCRIPTS) {
      write(root, `DEBIAN/${script}`, readFileSync(join(PROJECT_FOLDER, 'packaging/debian', script)))
      chmodSync(join(root, 'DEBIAN', script), 0o755)
    }

    const target = join(folder, `${NAME}_${debianVersion}_${architecture}.deb`)
    mkdirSync(folder, { recursive: true })
    execFileSync('dpkg-deb', ['--root-owner-group', '-Zzstd', '-z9', '--build', root, target], {
      env: { ...process.env, SOURCE_DATE_EPOCH: String(Math.floor(made.getTime() / 1000)) },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    return target
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

function debianArchitecture(): string {
  try {
    return execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim()
  } catch (error) {
    throw new BuildError(
      `Cannot run dpkg, which Debian and what descends from it have: ${(error as Error).message}`,
    )
  }
}

/** What reproducible builds are dated. @throws BuildError */
function dateOf({ SOURCE_DATE_EPOCH }: NodeJS.ProcessEnv): Date {
  if (!SOURCE_DATE_EPOCH) return new Date()
  if (/^\d{1,12}$/.test(SOURCE_DATE_EPOCH)) return new Date(Number(SOURCE_DATE_EPOCH) * 1000)
  throw new BuildError(`SOURCE_DATE_EPOCH is "${SOURCE_DATE_EPOCH}", expected seconds since 1970`)
}

/** Paths from `root`, in one order on every machine. */
function filesIn(root: string, folder = ''): string[] {
  const entries = readdirSync(join(root, folder), { withFileTypes: true }).filter(
    entry => !entry.isSymbolicLink(),
  )
  return entries
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(entry => {
      const path = join(folder, entry.name)
      return entry.isDirectory() ? filesIn(root, path) : [path]
    })
}

function write(root: string, path: string, content: string | Buffer): void {
  const target = join(root, path)
  mkdirSync(dirname(target), { recursive: true })
  writeFileSync(target, content)
}

function md5(path: string): string {
  return createHash('md5').update(readFileSync(path)).digest('hex')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { positionals } = parseArgs({ allowPositionals: true })
  if (positionals.length > 1) {
    process.stderr.write(`${USAGE}\n`)
    process.exit(64)
  }
  try {
    const made = dateOf(process.env)
    const path = await buildPackage(positionals[0] ?? join(PROJECT_FOLDER, 'release'), made)
    process.stdout.write(`${path}\n`)
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  }
}
