import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { build, CODEC, findCompiler, SHIM, SOFT } from '../native/build.ts'
import { PROJECT_FOLDER } from '../src/project.ts'

/** Null on a machine without a compiler: what needs native code is skipped there. */
export const COMPILER = findCompiler()

const NATIVE_FOLDER = join(PROJECT_FOLDER, 'native')
const TEST_BUILD_FOLDER = join(NATIVE_FOLDER, 'build', 'test')

/** The shim and the software HailoRT as users build them, in place. */
export async function buildNative(): Promise<void> {
  await build(SHIM)
  await build(SOFT)
}

/** The software HailoRT, as users build it. */
export const SOFT_LIBRARY = SOFT.output

/** The shim without its JavaScript side. */
export const SHIM_SOURCES = readdirSync(join(NATIVE_FOLDER, 'shim'))
  .filter(name => name.endsWith('.cc') && name !== 'addon.cc')
  .map(name => join(NATIVE_FOLDER, 'shim', name))

/** The codec without its JavaScript side. */
export const CODEC_SOURCES = CODEC.sources.filter(path => !path.endsWith('addon.cc'))

/** Whether the compiler has the sanitizer, and this kernel lets it run. */
export function hasSanitizer(flags: readonly string[]): boolean {
  if (COMPILER === null) return false
  const folder = mkdtempSync(join(tmpdir(), 'sanitizer-'))
  const source = join(folder, 'empty.cc')
  const program = join(folder, 'empty')
  writeFileSync(source, 'int main() { return 0; }\n')
  return (
    spawnSync(COMPILER, [...flags, source, '-o', program]).status === 0 && spawnSync(program).status === 0
  )
}

/** Compiles a program of native/test/ and returns its path. Compiled once for the same sources and flags. */
export async function buildProgram(
  name: string,
  {
    sources = [],
    flags = [],
    variant = 'plain',
  }: { sources?: readonly string[]; flags?: readonly string[]; variant?: string } = {},
): Promise<string> {
  const output = join(TEST_BUILD_FOLDER, variant, name)
  const own = join(NATIVE_FOLDER, 'test', `${name}.cc`)
  // Flags and folders as the shim has them, so that the sources which they share are compiled once.
  const { systemIncludes = [] } = SHIM
  await build({
    output,
    sources: [own, ...sources],
    systemIncludes,
    flags: [...SHIM.flags!, ...flags],
    linkFlags: ['-ldl'],
  })
  return output
}

/** The software HailoRT compiled with further flags. */
export async function buildSoftLibrary(flags: string[], variant: string): Promise<string> {
  const output = join(TEST_BUILD_FOLDER, variant, 'libhailort.so')
  await build({ ...SOFT, output, flags })
  return output
}

/** The exit code and what was printed. */
export async function runProgram(
  program: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { PATH = '' } = process.env
  try {
    const done = await promisify(execFile)(program, args, {
      env: { PATH, ...env },
      timeout: 120_000,
      maxBuffer: 64 * 1024 * 1024,
    })
    return { code: 0, ...done }
  } catch (error) {
    const { code, signal, stdout, stderr } = error as {
      code: number | null
      signal: string | null
      stdout: string
      stderr: string
    }
    return { code: code ?? -1, stdout, stderr: `${stderr}${signal ? `\nkilled by ${signal}` : ''}` }
  }
}
