import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, normalize } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { editsOf, releaseDate } from '../packaging/version.ts'

const { version: VERSION, bin: BIN } = JSON.parse(readFileSync('package.json', 'utf8'))
const { PATH = '' } = process.env
const NEXT = '9.8.7'
/** The project's own has nothing to release when something was released just now. */
const CHANGELOG = '# Changelog\n\n## Unreleased\n\n- A thing.\n'

test('a release names its version wherever the last one is named', () => {
  const edits = editsOf(process.cwd(), NEXT, '2026-11-22', CHANGELOG)
  const naming = new RegExp(
    `(hailo-inference|VERSION|newTag)[^\\n]{0,20}\\b${VERSION.replaceAll('.', '\\.')}\\b`,
  )
  const tracked = execFileSync('git', [
    'ls-files',
    '-z',
    ...'README.md compose docs images kubernetes packaging'.split(' '),
  ])
  const left = `${tracked}`
    .split('\0')
    .filter(path => path !== '' && existsSync(path) && !path.startsWith('compose/prometheus/tests/'))
    .filter(path => naming.test(edits.get(path) ?? readFileSync(path, 'utf8')))
  expect(left).toEqual([])
  expect([...edits.keys()].filter(path => path.endsWith('.ts'))).toEqual([])
  expect(JSON.parse(edits.get('package.json')!).version).toBe(NEXT)
  const lock = JSON.parse(edits.get('package-lock.json')!)
  expect([lock.version, lock.packages[''].version]).toEqual([NEXT, NEXT])
})

test('a new version changes no other byte of package.json and its lock file', () => {
  const edits = editsOf(process.cwd(), NEXT, '2026-11-22', CHANGELOG)
  for (const path of ['package.json', 'package-lock.json']) {
    const [before, after] = [readFileSync(path, 'utf8'), edits.get(path)!].map(text => text.split('\n'))
    const changed = after!.filter((line, index) => line !== before![index])
    expect(new Set(changed.map(line => line.trim()))).toEqual(new Set([`"version": "${NEXT}",`]))
  }
})

describe('npm run release', () => {
  let folder: string
  const git = (...args: string[]) => execFileSync('git', args, { cwd: folder, encoding: 'utf8' })
  const run = (program: string, args: string[], env = {}) =>
    spawnSync(process.execPath, [`dist/packaging/${program}.js`, ...args], {
      cwd: folder,
      env: { ...process.env, ...env },
      encoding: 'utf8',
    })
  const release = (...args: string[]) => run('release', args)
  /** Fails in all but to tell its version. */
  const pathWithNpm = (version: string) => {
    put('.git/npm/npm', `#!/bin/sh\n[ "$1" = --version ] && echo ${version}\n`)
    chmodSync(join(folder, '.git/npm/npm'), 0o755)
    return { PATH: `${join(folder, '.git/npm')}:${PATH}` }
  }
  const put = (path: string, text: string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'release-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    for (const path of ['dist/packaging', 'dist/src/project.js']) {
      cpSync(path, join(folder, path), { recursive: true })
    }
    put('package.json', '{\n  "version": "1.9.0",\n  "type": "module"\n}\n')
    put('package-lock.json', '{\n  "version": "1.9.0",\n  "packages": {\n    "": {}\n  }\n}\n')
    put('CHANGELOG.md', '# Changelog\n\n## Unreleased\n\n- A thing.\n\n## 1.9.0 – 2026-11-21\n\n- Another.\n')
    put('compose/compose.yaml', '# ours is 1.9.0\nimage: hailo-inference:1.9.0\nother: v1.9.0\n')
    put('kubernetes/kustomization.yaml', 'newTag: 1.9.0-device\nVERSION=1.9.0\nother: 1.9.01\n')
    put('.gitignore', 'dist/\n')
    git('init', '--quiet', '--initial-branch', 'main')
    git('config', 'user.name', 'somebody')
    git('config', 'user.email', 'somebody@example.org')
    git('add', '.')
    git('commit', '--quiet', '--message', 'All')
  })

  test('says what it would change, and --dry-run changes nothing', () => {
    expect(release('1.10.0', '--dry-run')).toMatchObject({
      status: 0,
      stdout:
        '1.10.0 in\n  package.json\n  package-lock.json\n  CHANGELOG.md\n  compose/compose.yaml\n  kubernetes/kustomization.yaml\n',
    })
    expect(git('status', '--porcelain')).toBe('')
  })

  test('changes the engine’s version and no other, and dates the changelog', () => {
    const edits = editsOf(folder, '1.10.0', '2026-11-22')
    expect(edits.get('compose/compose.yaml')).toBe(
      '# ours is 1.9.0\nimage: hailo-inference:1.10.0\nother: v1.9.0\n',
    )
    expect(edits.get('kubernetes/kustomization.yaml')).toBe(
      'newTag: 1.10.0-device\nVERSION=1.10.0\nother: 1.9.01\n',
    )
    const changelog = edits.get('CHANGELOG.md')!
    expect(changelog).toContain('## Unreleased\n\n## 1.10.0 – 2026-11-22\n\n- A thing.\n\n## 1.9.0')
    expect(releaseDate(changelog, '1.10.0')).toEqual(new Date('2026-11-22'))
    expect(releaseDate(changelog, '1.10.1')).toBeNull()
  })

  test.each([
    ['1.9.0', '1.9.0 is not above 1.9.0, the last version'],
    ['1.8.99', '1.8.99 is not above 1.9.0, the last version'],
    ['v2', 'v2 is no version, as 1.2.3 is one'],
    ['2.0', '2.0 is no version, as 1.2.3 is one'],
  ])('refuses %s', (version, why) => {
    expect(release(version)).toMatchObject({ status: 1, stderr: `Cannot release: ${why}\n` })
    expect(git('status', '--porcelain')).toBe('')
  })

  test('refuses what is not committed, a tag that is there, and a changelog with nothing new', () => {
    put('new', '')
    expect(release('2.0.0').stderr).toBe('Cannot release: there are changes that are not committed\n')
    rmSync(join(folder, 'new'))
    git('tag', 'v2.0.0')
    expect(release('2.0.0').stderr).toBe('Cannot release: there is a tag v2.0.0\n')
    put('CHANGELOG.md', '# Changelog\n\n## Unreleased\n\n## 1.9.0 – 2026-11-21\n\n- Another.\n')
    git('commit', '--quiet', '--all', '--message', 'Empty')
    expect(release('2.0.1')).toMatchObject({
      status: 1,
      stderr: 'Cannot release: CHANGELOG.md has nothing under "## Unreleased"\n',
    })
  })

  test('leaves what git knows as it was when it fails on the way', () => {
    expect(run('release', ['2.0.0', '--commit'], pathWithNpm('11.0.0'))).toMatchObject({
      status: 1,
      stderr: 'Cannot release: Command failed: npm exec -- tsc; what names the version is as before\n',
    })
    expect(git('status', '--porcelain')).toBe('')
    expect(git('log', '--format=%s')).toBe('All\n')
  })

  test('refuses to begin what nobody could commit', () => {
    git('config', '--unset', 'user.name')
    git('config', 'user.useConfigOnly', 'true')
    const nobody = { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null', GIT_COMMITTER_NAME: '' }
    expect(run('release', ['2.0.0', '--commit'], nobody)).toMatchObject({
      status: 1,
      stderr: 'Cannot release: git has no user.name and user.email to commit with\n',
    })
  })

  test('says in a sentence that the SBOM takes a newer npm than Debian 13 has, before it changes anything', () => {
    const sentence = /^Cannot release: the SBOM takes npm 10 or newer, this is 9\.2\.0: .+\n$/
    const { status, stderr } = run('release', ['2.0.0'], pathWithNpm('9.2.0'))
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(sentence) })
    expect(git('status', '--porcelain')).toBe('')

    put('out/kept', '')
    const packaged = spawnSync(
      process.execPath,
      ['dist/packaging/artifacts.js', '--out', join(folder, 'out')],
      { env: { ...process.env, ...pathWithNpm('9.2.0') }, encoding: 'utf8' },
    )
    expect(packaged).toMatchObject({ status: 1, stderr: stderr.replace('release', 'package') })
    expect(existsSync(join(folder, 'out/kept'))).toBe(true)
  })

  test('tells how to use it', () => {
    expect(release('--help')).toMatchObject({ status: 0, stdout: expect.stringContaining('--dry-run') })
    expect(release()).toMatchObject({ status: 64, stderr: expect.stringContaining('Expected one version') })
  })
})

describe('the npm package', () => {
  const [packed] = JSON.parse(
    execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  )
  const paths = new Set<string>(packed.files.map(({ path }: { path: string }) => path))

  test('has every file that its programs and the client’s types import', () => {
    const missing = [...paths]
      .filter(path => /^dist\/.*\.js$|^dist\/client\/.*\.d\.ts$|^dist\/src\/.*\.d\.ts$/.test(path))
      .flatMap(path =>
        importsOf(path).map(target => (path.endsWith('.ts') ? target.replace(/\.[jt]s$/, '.d.ts') : target)),
      )
      .filter(path => !paths.has(path))
    expect(missing).toEqual([])
  })

  test('has commands that run, licences, the model, and nothing of tests and benchmarks', () => {
    expect(Object.keys(BIN)).toEqual([
      'hailo-inference',
      'hailo-inference-doctor',
      'hailo-inference-artifacts',
      'hailo-inference-hef',
    ])
    for (const program of Object.values<string>(BIN)) {
      expect(paths).toContain(program)
      expect(readFileSync(program, 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/)
    }
    for (const path of ['LICENSE', 'artifacts/LICENSE', 'artifacts/tcn_encoder/1.0.0/model.json']) {
      expect(paths).toContain(path)
    }
    expect(
      [...paths].filter(path =>
        /(^|\/)(test|bench)\/|\.map$|(^|\/)\.env|(^|\/)(history|current)$/.test(path),
      ),
    ).toEqual([])
  })
})

/** Files of the project, by their paths in it. */
function importsOf(path: string): string[] {
  const text = readFileSync(path, 'utf8')
  const found = text.matchAll(
    /(?:\bfrom|\bimport|\bimport\(|\bnew URL\()\s*['"](\.{1,2}\/[^'"]+\.[jt]s)['"]/g,
  )
  return [...found].map(([, target]) => normalize(join(dirname(path), target!)))
}
