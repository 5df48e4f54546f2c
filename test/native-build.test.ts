import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { build, CODEC, EXIT, SHIM } from '../native/build.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { COMPILER } from './native.ts'

test.skipIf(COMPILER === null)('build() keeps an object of each compiler and of each header', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'native-build-'))
  const objects = join(PROJECT_FOLDER, 'native/build/objects')
  const name = `kept-${process.pid}.cc`
  const made = () => readdirSync(objects).filter(file => file.startsWith(name))
  onTestFinished(() => {
    rmSync(folder, { recursive: true })
    for (const file of made()) rmSync(join(objects, file))
  })
  const target = { output: join(folder, 'kept'), sources: [join(folder, name)] }
  writeFileSync(target.sources[0]!, '#include "number.h"\nint main() { return NUMBER; }\n')
  writeFileSync(join(folder, 'number.h'), '#define NUMBER 1\n')
  expect(await build(target)).toBe(true)
  expect(await build(target)).toBe(false)

  const other = join(folder, 'other-compiler')
  writeFileSync(other, `#!/bin/sh\n[ "$1" = --version ] && echo another || exec ${COMPILER} "$@"\n`)
  chmodSync(other, 0o700)
  expect(await build(target, other)).toBe(true)
  expect(made().length).toBe(2)
  writeFileSync(join(folder, 'number.h'), '#define NUMBER 2\n')
  expect(await build(target)).toBe(true)
  expect(made().length).toBe(3)
})

test.skipIf(COMPILER === null)('what is shipped does not tell in which folder it was compiled', () => {
  for (const { output } of [SHIM, CODEC, EXIT]) {
    expect(readFileSync(output).includes(`${PROJECT_FOLDER}/`), output).toBe(false)
  }
})
