import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { neededLibraries } from '../packaging/shared-libraries.ts'
import { PROJECT_FOLDER } from '../src/project.ts'

// What it builds where it can is looked at in debian/deb.test.ts.
test.each([
  [{}, /^Cannot run dpkg, .*ENOENT\n$/],
  [{ SOURCE_DATE_EPOCH: '' }, /^Cannot run dpkg, .*ENOENT\n$/],
  [{ SOURCE_DATE_EPOCH: 'yesterday' }, /^SOURCE_DATE_EPOCH is "yesterday", expected seconds since 1970\n$/],
])('a Debian package that cannot be built is told in words: %j', (env, words) => {
  const program = join(PROJECT_FOLDER, 'dist/packaging/deb.js')
  const { status, stderr } = spawnSync(process.execPath, [program, '/nowhere'], {
    env: { PATH: '/nowhere', ...env },
    encoding: 'utf8',
  })
  expect(stderr).toMatch(words)
  expect(status).toBe(1)
})

test('neededLibraries() takes the newest symbols of all, and says which of them it does not know', () => {
  const folder = mkdtempSync(join(tmpdir(), 'deb-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const binary = (name: string, ...symbols: string[]) => {
    const path = join(folder, name)
    writeFileSync(path, symbols.map(symbol => `\0${symbol}\0`).join(''))
    return path
  }
  const known = binary('known', 'GLIBC_2.17', 'GLIBC_2.34', 'GLIBCXX_3.4.29')
  expect(neededLibraries([known, binary('old', 'GLIBC_2.2.5')])).toEqual([
    'libc6 (>= 2.34)',
    'libstdc++6 (>= 11)',
  ])
  expect(() => neededLibraries([known, binary('new', 'GLIBCXX_3.4.99')])).toThrow(
    expect.objectContaining({ code: 'ERR_BUILD', message: expect.stringContaining('GLIBCXX_3.4.99') }),
  )
})
