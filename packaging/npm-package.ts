/** Packs what `npm install` puts into another project. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { PROJECT_FOLDER } from '../src/project.ts'
import { copy, packageFiles } from './stage.ts'

interface Manifest {
  version: string
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
  scripts?: Record<string, string>
  [field: string]: unknown
}

const ARCHS = ['x64', 'arm64']

/** For who works on the project. `private` keeps its folder from being published as it is. */
const OWN_FIELDS = ['private', 'devDependencies', 'allowScripts', 'scarfSettings']
const KEPT_SCRIPTS = ['start', 'native']

/** Whatever becomes of it, the engine works without what it makes. */
const INSTALL = 'node dist/native/build.js codec exit --if-possible || exit 0'

/**
 * Writes a tarball that brings the packages that it needs, in the versions that are tested, for Linux on x64 and arm64.
 * Where this project is a dependency, npm follows neither its lock file nor its .npmrc: it would ask a git host for
 * uWebSockets.js, and the install script of ONNX Runtime would fetch what only a GPU needs.
 * @returns its name in `folder`
 */
export function packForNpm(folder: string): string {
  const work = mkdtempSync(join(tmpdir(), 'hailo-inference-npm-'))
  try {
    execFileSync('tar', ['-xzf', join(work, pack(PROJECT_FOLDER, work)), '-C', work])
    const staged = join(work, 'package') // as npm names it
    for (const [source, path] of packageFiles(true, ARCHS)) copy(source, join(staged, path))
    editManifests(staged)
    mkdirSync(folder, { recursive: true })
    return pack(staged, resolve(folder))
  } finally {
    rmSync(work, { recursive: true })
  }
}

function pack(from: string, to: string): string {
  const report = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', to], {
    cwd: from,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 64 * 1024 * 1024,
  })
  return JSON.parse(report)[0].filename
}

/** Leaves no script but ours, and no dependency that npm would have to look for. */
function editManifests(folder: string): void {
  const { packages } = JSON.parse(readFileSync(join(PROJECT_FOLDER, 'package-lock.json'), 'utf8'))
  const versions: Record<string, string> = {}
  for (const [path, { optional }] of Object.entries<{ optional?: boolean }>(packages)) {
    const packageFolder = join(folder, path)
    if (!path.startsWith('node_modules/') || !existsSync(packageFolder)) continue
    // Of one platform, that of this machine: what needs them looks whether they are there.
    if (optional) rmSync(packageFolder, { recursive: true })
    else versions[path] = manifestIn(packageFolder).version
  }
  /** Where Node.js would find them. */
  const versionsOf = ({ dependencies = {} }: Manifest, path: string) =>
    Object.fromEntries(
      Object.keys(dependencies).map(name => {
        const version = versions[join(path, 'node_modules', name)] ?? versions[join('node_modules', name)]
        if (version === undefined) throw new Error(`${path || 'The project'} needs ${name}: run npm ci`)
        return [name, version]
      }),
    )
  for (const path of Object.keys(versions)) {
    const { scripts: _, optionalDependencies: __, ...manifest } = manifestIn(join(folder, path))
    write(join(folder, path), { ...manifest, dependencies: versionsOf(manifest, path) })
  }
  const { scripts = {}, ...manifest } = manifestIn(folder)
  for (const field of OWN_FIELDS) delete manifest[field]
  write(folder, {
    ...manifest,
    scripts: { ...Object.fromEntries(KEPT_SCRIPTS.map(name => [name, scripts[name]])), install: INSTALL },
    dependencies: versionsOf(manifest, ''),
    bundleDependencies: true,
    // The binary for Node.js 24.
    optionalDependencies: manifestIn(join(PROJECT_FOLDER, 'vendor', 'uWebSockets.js')).optionalDependencies,
  })
}

function manifestIn(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
}

function write(folder: string, manifest: object): void {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const folder = join(PROJECT_FOLDER, 'release')
  process.stdout.write(`${join(folder, packForNpm(folder))}\n`)
}
