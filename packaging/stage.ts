/** Puts what a machine of this platform needs to run the engine, but for Node.js, into one folder. */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { BuildError, build, CODEC, EXIT, SHIM } from '../native/build.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../src/project.ts'

const USAGE = 'node dist/packaging/stage.js FOLDER [--without-onnx]'
/** EX_USAGE of sysexits.h */
const EXIT_USAGE = 64

/** A file of the project, and its path there and in what is staged. */
type Files = Iterable<readonly [source: string, path: string]>

/**
 * Fills `folder`, which is empty or not there yet: with the files of the npm package, the packages that those import as
 * they lie in node_modules, and the native parts, which are compiled where they are not. Takes no network.
 * @param onnx false: without ONNX Runtime, for a machine that has a device
 * @throws BuildError
 */
export async function stage(folder: string, { onnx }: { onnx: boolean }): Promise<void> {
  for (const files of [ownFiles(), packageFiles(onnx), await nativeFiles()]) {
    for (const [source, path] of files) copy(source, join(folder, path))
  }
  forgetHefs(join(folder, relative(PROJECT_FOLDER, SHIPPED_MODEL_FOLDER), 'model.json'))
  linkCommands(folder)
}

/** What `npm pack` takes. */
function* ownFiles(): Files {
  const [packed] = JSON.parse(
    execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
      cwd: PROJECT_FOLDER,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  )
  for (const { path } of packed.files) {
    if (!path.startsWith('node_modules/') && !isOfNoUse(path)) yield [join(PROJECT_FOLDER, path), path]
  }
}

/**
 * A link to a folder of the project becomes a copy.
 * @param archs of the processors whose binaries are wanted
 */
export function* packageFiles(onnx: boolean, archs: readonly string[] = [process.arch]): Files {
  const { packages } = JSON.parse(readFileSync(join(PROJECT_FOLDER, 'package-lock.json'), 'utf8'))
  for (const [path, { dev = false }] of Object.entries<{ dev?: boolean }>(packages)) {
    if (!path.startsWith('node_modules/') || dev || !existsSync(join(PROJECT_FOLDER, path))) continue
    if (!onnx && basename(path).startsWith('onnxruntime-')) continue
    for (const file of filesIn(join(PROJECT_FOLDER, path))) {
      if (!isOfNoUse(file, archs)) yield [join(PROJECT_FOLDER, path, file), join(path, file)]
    }
  }
}

async function nativeFiles(): Promise<Files> {
  const targets = [SHIM, CODEC, EXIT]
  for (const target of targets) await build(target)
  return targets.map(({ output }) => [output, relative(PROJECT_FOLDER, output)])
}

/** A version is broken that lacks a file which its manifest lists. */
function forgetHefs(manifestPath: string): void {
  const manifest = JSON.parse(readFileSync(manifestPath, 'utf8'))
  const files = Object.entries(manifest.files).filter(([name]) => !name.endsWith('.hef'))
  writeFileSync(manifestPath, JSON.stringify({ ...manifest, files: Object.fromEntries(files) }, null, 1))
}

/** A folder for the PATH: `bin`, with the commands that package.json names. */
function linkCommands(folder: string): void {
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  mkdirSync(join(folder, 'bin'), { mode: 0o755 })
  for (const [command, program] of Object.entries<string>(bin)) {
    chmodSync(join(folder, program), 0o755)
    symlinkSync(join('..', program), join(folder, 'bin', command))
  }
}

/** Paths from `folder`, without the packages in it, which the lock file names on their own. */
function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    if (entry.name === 'node_modules') return []
    if (!entry.isDirectory()) return [entry.name]
    return filesIn(join(folder, entry.name)).map(name => join(entry.name, name))
  })
}

/**
 * What takes a compiler, the model of the software device among it; source maps; binaries for other platforms, and for
 * other releases of Node.js, as `uws_linux_x64_108.node`.
 */
function isOfNoUse(path: string, archs: readonly string[] = [process.arch]): boolean {
  if (/\.(map|[cm]?ts|cc|hef)$/.test(path)) return true
  const [, platform, arch, abi] =
    /[/_](darwin|linux|win32)[/_]([a-z0-9]+)(?:\/|_(\d+)\.node$)/.exec(path) ?? []
  if (platform === undefined) return false
  return (
    platform !== process.platform || !archs.includes(arch!) || (abi !== undefined && !NODE_ABIS.includes(abi))
  )
}

/** Of Node.js 20 and 22. That of 24 has a package of its own. */
const NODE_ABIS = ['115', '127']

/** For everybody to read, whatever the umask was when it was checked out. */
export function copy(source: string, target: string): void {
  mkdirSync(dirname(target), { recursive: true, mode: 0o755 })
  copyFileSync(source, target)
  chmodSync(target, statSync(source).mode & 0o100 ? 0o755 : 0o644)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await main(process.argv.slice(2))
}

async function main(args: string[]): Promise<void> {
  let options: { folder: string; onnx: boolean }
  try {
    options = parseOptions(args)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${USAGE}\n`)
    process.exitCode = EXIT_USAGE
    return
  }
  try {
    await stage(options.folder, options)
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  }
}

function parseOptions(args: string[]): { folder: string; onnx: boolean } {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { 'without-onnx': { type: 'boolean', default: false } },
  })
  const [folder] = positionals
  if (folder === undefined || positionals.length > 1) throw new Error('Expected one folder')
  if (existsSync(folder) && readdirSync(folder).length > 0) throw new Error(`${folder} is not empty`)
  return { folder, onnx: !values['without-onnx'] }
}
