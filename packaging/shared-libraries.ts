import { readFileSync } from 'node:fs'
import { BuildError } from '../native/build.ts'

/** Of GCC, for the symbol versions that came with it. libstdc++ is versioned like the GCC that it is a part of. */
const GCC_OF_GLIBCXX: Readonly<Record<number, string>> = {
  29: '11',
  30: '12',
  31: '13.1',
  32: '13.2',
  33: '14',
}
/** Any system that has a Node.js we run on. */
const OLDEST_GCC = '10'

/**
 * Of the packages that native code loads, the oldest that have each symbol it asks for, in Debian's words.
 * @throws BuildError
 */
export function neededLibraries(binaries: readonly string[]): string[] {
  const asked = binaries.map(path => readFileSync(path, 'latin1'))
  const newest = (versions: RegExp) =>
    Math.max(0, ...asked.flatMap(bytes => [...bytes.matchAll(versions)].map(([, minor]) => Number(minor))))
  const glibc = newest(/\0GLIBC_2\.(\d+)(?:\.\d+)?(?=\0)/g)
  const glibcxx = newest(/\0GLIBCXX_3\.4\.(\d+)(?=\0)/g)
  const gcc = glibcxx < 29 ? OLDEST_GCC : GCC_OF_GLIBCXX[glibcxx]
  if (gcc === undefined) {
    throw new BuildError(
      `Cannot tell which GCC brought GLIBCXX_3.4.${glibcxx}: add it to packaging/shared-libraries.ts`,
    )
  }
  return [`libc6 (>= 2.${glibc})`, `libstdc++6 (>= ${gcc})`]
}
