import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { PROJECT_FOLDER } from '../src/project.ts'

/** What is compiled from C++. One compiler is all it takes: no CMake, no Python, no download. */
export interface Target {
  /** Absolute, as is every path here. */
  readonly output: string
  readonly sources: readonly string[]
  /** Folders whose headers are others' work: no warnings from there. */
  readonly systemIncludes?: readonly string[]
  /** For compiling and linking. */
  readonly flags?: readonly string[]
  /** For linking only. */
  readonly linkFlags?: readonly string[]
}

const NATIVE_FOLDER = join(PROJECT_FOLDER, 'native')
const BUILD_FOLDER = join(NATIVE_FOLDER, 'build')
const OBJECTS_FOLDER = join(BUILD_FOLDER, 'objects')
const require = createRequire(import.meta.url)

const NODE_API = join(dirname(require.resolve('node-api-headers/package.json')), 'include')

const FLAGS = [
  '-std=c++17',
  '-O2',
  '-g1',
  `-ffile-prefix-map=${PROJECT_FOLDER}=.`, // the same bytes, wherever it is compiled
  '-fPIC',
  '-fvisibility=hidden',
  '-ffp-contract=off', // a fused multiply-add rounds once where HailoRT rounds twice
  '-pthread',
  '-Wall',
  '-Wextra',
  '-Werror',
]

/** The N-API addon that talks to libhailort. */
export const SHIM: Target = {
  output: join(BUILD_FOLDER, 'hailort.node'),
  sources: sourcesIn(join(NATIVE_FOLDER, 'shim')),
  systemIncludes: [dirname(require.resolve('node-addon-api/napi.h')), NODE_API],
  flags: ['-DNAPI_VERSION=8'],
  // Never unloaded: its threads may outlive the last worker that loaded it.
  linkFlags: ['-shared', '-Wl,-z,nodelete', '-ldl'],
}

/** The N-API addon for what happens to every window: its copies and conversions. */
export const CODEC: Target = {
  output: join(BUILD_FOLDER, 'codec.node'),
  sources: sourcesIn(join(NATIVE_FOLDER, 'codec')),
  systemIncludes: [NODE_API],
  flags: ['-DNAPI_VERSION=8', '-O3'],
  linkFlags: ['-shared'],
}

/** The N-API addon that ends a process which a thread would keep from ending. */
export const EXIT: Target = {
  output: join(BUILD_FOLDER, 'exit.node'),
  sources: sourcesIn(join(NATIVE_FOLDER, 'exit')),
  systemIncludes: [NODE_API],
  flags: ['-DNAPI_VERSION=8'],
  linkFlags: ['-shared'],
}

/** The software HailoRT: a libhailort that needs no hardware. */
export const SOFT: Target = {
  output: join(BUILD_FOLDER, 'libhailort.so'),
  sources: sourcesIn(join(NATIVE_FOLDER, 'soft')),
  // For its portable loops. What comparing a NaN would raise is nobody's concern, and keeps compilers from vectors.
  flags: ['-O3', '-fno-trapping-math'],
  linkFlags: ['-shared', '-Wl,-soname,libhailort.so.4.23.0'],
}

/** There is no compiler, or it does not compile this. */
export class BuildError extends Error {
  readonly code = 'ERR_BUILD'
}

/** The C++ compiler of this machine, the one in CXX if it is set. Null when there is none. */
export function findCompiler({ CXX } = process.env): string | null {
  const candidates = CXX ? [CXX] : ['c++', 'g++', 'clang++']
  return candidates.find(compiler => spawnSync(compiler, ['--version']).status === 0) ?? null
}

/**
 * Compiles and links, unless the output is there and was made by the same compiler from the same
 * sources; a source only if no target has compiled it so. A process that has loaded the old one keeps it.
 * @returns whether it had to
 * @throws BuildError
 */
export async function build(target: Target, compiler = findCompiler()): Promise<boolean> {
  if (compiler === null) {
    throw new BuildError(
      'No C++ compiler found. Install one (on Debian, Ubuntu and Raspberry Pi OS: apt install g++), or set CXX to one',
    )
  }
  const stamp = stampOf(compiler, target, target.sources)
  if (isMade(target.output, stamp)) return false

  mkdirSync(dirname(target.output), { recursive: true })
  mkdirSync(OBJECTS_FOLDER, { recursive: true })
  const folder = mkdtempSync(`${target.output}.`)
  try {
    const includes = (target.systemIncludes ?? []).flatMap(path => ['-isystem', path])
    const flags = [...FLAGS, ...(target.flags ?? []), ...includes]
    const steps = target.sources.map(source => ({ source, object: objectOf(compiler, flags, source) }))
    const objects = steps.map(({ object }) => object)
    const compileInTurn = async () => {
      for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
        const { source, object } = step
        if (existsSync(object)) continue
        const compiled = join(folder, basename(object))
        await run(compiler, [...flags, '-c', source, '-o', compiled])
        renameSync(compiled, object)
      }
    }
    await Promise.all(Array.from({ length: availableParallelism() }, compileInTurn))
    const linked = join(folder, 'linked')
    const linkFlags = ['-pthread', ...(target.flags ?? []), ...(target.linkFlags ?? [])]
    await run(compiler, [...objects, '-o', linked, ...linkFlags])
    renameSync(linked, target.output)
    writeFileSync(`${target.output}.stamp`, stamp)
  } finally {
    rmSync(folder, { recursive: true })
  }
  return true
}

/** Where a source lies compiled, for all targets that compile it so: whoever finds one there can link it. */
function objectOf(compiler: string, flags: readonly string[], source: string): string {
  const stamp = stampOf(compiler, [source, flags], [source])
  return join(OBJECTS_FOLDER, `${basename(source)}.${stamp.slice(0, 16)}.o`)
}

function isMade(output: string, stamp: string): boolean {
  const stampPath = `${output}.stamp`
  return existsSync(output) && existsSync(stampPath) && readFileSync(stampPath, 'utf8') === stamp
}

/** Changes with everything that what is made depends on, but for the headers of the system. */
function stampOf(compiler: string, recipe: object, sources: readonly string[]): string {
  const hash = createHash('sha256')
  hash.update(spawnSync(compiler, ['--version']).stdout)
  hash.update(JSON.stringify([FLAGS, recipe]))
  // The npm package has no tests.
  const ours = ['.', 'codec', 'shim', 'soft', 'test']
    .map(folder => join(NATIVE_FOLDER, folder))
    .filter(existsSync)
  const folders = new Set([...ours, ...sources.map(source => dirname(source))])
  const headers = [...folders].flatMap(folder => filesIn(folder, '.h'))
  for (const file of [...sources, ...headers]) hash.update(readFileSync(file))
  return hash.digest('hex')
}

function sourcesIn(folder: string): string[] {
  return filesIn(folder, '.cc')
}

function filesIn(folder: string, extension: string): string[] {
  const names = readdirSync(folder).filter(name => name.endsWith(extension))
  return names.sort().map(name => join(folder, name))
}

async function run(compiler: string, args: readonly string[]): Promise<void> {
  try {
    await promisify(execFile)(compiler, [...args], { cwd: PROJECT_FOLDER, maxBuffer: 64 * 1024 * 1024 })
  } catch (error) {
    const { stderr = '', message } = error as { stderr?: string; message: string }
    throw new BuildError(`${compiler} cannot compile the native part:\n${stderr || message}`)
  }
}

const TARGETS: Readonly<Record<string, Target>> = { shim: SHIM, soft: SOFT, codec: CODEC, exit: EXIT }

// Arguments name targets; without any it is all of them.
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { 'if-possible': { type: 'boolean', default: false } },
  })
  try {
    for (const [name, target] of Object.entries(TARGETS)) {
      if (positionals.length > 0 && !positionals.includes(name)) continue
      const startedMs = Date.now()
      const built = await build(target)
      const seconds = ((Date.now() - startedMs) / 1000).toFixed(1)
      process.stdout.write(`${target.output}: ${built ? `built in ${seconds} s` : 'up to date'}\n`)
    }
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    if (values['if-possible']) {
      const [what, ...output] = error.message.split('\n')
      const why = output.find(line => line.includes('error:')) ?? ''
      process.stdout.write(`TypeScript does what native code would do faster: ${what} ${why}\n`)
    } else {
      process.stderr.write(`${error.message}\n`)
      process.exitCode = 1
    }
  }
}
