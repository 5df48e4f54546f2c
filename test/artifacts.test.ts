import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import { ArtifactError, currentVersion, servedPath, versionsIn } from '../src/artifacts/current.ts'
import { MAX_HISTORY_CHANGES, readHistory, remember } from '../src/artifacts/history.ts'
import { promote, rollback } from '../src/artifacts/promote.ts'
import { verify, verifyFiles } from '../src/artifacts/verify.ts'
import { loadConfig } from '../src/config.ts'
import { loadFallback, loadModel } from '../src/model.ts'
import { SHIPPED_MODEL_FOLDER, SHIPPED_MODELS_FOLDER } from '../src/project.ts'
import { runProgram } from './native.ts'

/** What is called before each step of this process that may change something on the disk. */
const disk = vi.hoisted(() => ({ beforeWrite: () => {} }))
vi.mock('node:fs', async importOriginal => {
  const fs = await importOriginal<typeof import('node:fs')>()
  const writing = ['openSync', 'writeSync', 'fsyncSync', 'symlinkSync', 'renameSync', 'rmSync'] as const
  const watched = writing.map(name => [
    name,
    (...args: never[]) => {
      disk.beforeWrite()
      return (fs[name] as (...args: never[]) => unknown)(...args)
    },
  ])
  return { ...fs, ...Object.fromEntries(watched) }
})
const KILLED = new Error('killed')

const MANIFEST = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'))
/** What versions in these tests have of the shipped model. */
const MODELS = ['model_dynamic.onnx', 'tcn_encoder.soft.hef'] as const
const PARTS = [
  'motif_head.f32',
  'golden.json',
  'golden_windows.f32',
  'golden_latent.f32',
  'golden_motif_probs.f32',
]

test('the model that ships is good: its files, and what it answers to the golden windows', async () => {
  const { code, stdout } = await artifacts('verify', '--dir', SHIPPED_MODELS_FOLDER)
  expect(code).toBe(0)
  expect(stdout).toContain('1.0.0  tcn-vae-motion-12\n')
  expect(stdout).toMatch(/ok {4}\d+ files, \d+ bytes, are those of model\.json/)
  expect(stdout).toMatch(/ok {4}model\.onnx: 64 golden windows answered rightly/)
  expect(stdout).toMatch(/ok {4}model_dynamic\.onnx: 64 golden windows answered rightly/)
  expect(stdout).toMatch(/ok {4}tcn_encoder\.soft\.hef: a good HEF for the software device/)
  expect(stdout).not.toContain('FAIL')
})

test.each<[string, (folder: string) => void, RegExp]>([
  [
    'a bit flipped',
    folder => flipBit(join(folder, 'model_dynamic.onnx')),
    /^model_dynamic\.onnx: sha256 \w{64}, expected \w{64}$/,
  ],
  [
    'a file cut',
    folder => write(folder, 'golden_windows.f32', 'short'),
    /^golden_windows\.f32: 5 bytes, expected 230400$/,
  ],
  [
    'a file missing',
    folder => rmSync(join(folder, 'motif_head.f32')),
    /^motif_head\.f32: cannot be read \(ENOENT\)$/,
  ],
  ['a folder for a file', folder => asFolder(join(folder, 'golden.json')), /^golden\.json: it is no file$/],
  [
    'a file elsewhere',
    folder =>
      changeManifest(folder, {
        files: { ...filesIn(folder), '../../etc/passwd': { bytes: 1, sha256: 'a'.repeat(64) } },
      }),
    /^\.\.\/\.\.\/etc\/passwd: expected a file beside model\.json$/,
  ],
  ['a manifest that is cut', folder => write(folder, 'model.json', '{"name": "tcn'), /model\.json: not JSON/],
  [
    'no model',
    folder => changeManifest(folder, { files: pick(filesIn(folder), PARTS) }),
    /files lists no \*\.onnx and no \*\.hef$/,
  ],
  [
    'two models and nobody to say which',
    folder => {
      cpSync(join(SHIPPED_MODEL_FOLDER, 'model.onnx'), join(folder, 'second.onnx'))
      renameSync(join(folder, 'model_dynamic.onnx'), join(folder, 'first.onnx'))
      changeManifest(folder, { files: pick(filesIn(folder), PARTS) })
      for (const name of ['first.onnx', 'second.onnx']) list(folder, name)
    },
    /^INFER_MODE=onnx cannot serve it: model\.json: files lists first\.onnx, second\.onnx, expected one/,
  ],
  [
    'a name that would write to a terminal',
    folder => changeManifest(folder, { name: 'tcn\x9b31m' }),
    /model\.json: name is "tcn\\u009b31m" \(expected printable characters\)/,
  ],
  // The hashes of these are right: their maker was wrong.
  [
    'text for a model',
    folder => replace(folder, 'model_dynamic.onnx', 'version https://git-lfs.github.com/spec/v1'),
    /^model_dynamic\.onnx: a Git LFS pointer, expected an ONNX model/,
  ],
  [
    'no ONNX model',
    folder => replace(folder, 'model_dynamic.onnx', Buffer.alloc(999, 7)),
    /^model_dynamic\.onnx: .*(protobuf|load|parse)/i,
  ],
  [
    'no HEF',
    folder => replace(folder, 'tcn_encoder.soft.hef', Buffer.alloc(999)),
    /^tcn_encoder\.soft\.hef: Cannot use HEF: /,
  ],
  [
    'another z-score than it was trained with',
    folder =>
      changeManifest(folder, { normalization: { ...MANIFEST.normalization, mean: Array(9).fill(1) } }),
    /^model_dynamic\.onnx: golden windows are answered wrongly: latent cosines from /,
  ],
])('a version with %s is refused in words, and what was served stays', async (_, spoil, words) => {
  const folder = versions('1.0.0', '1.1.0')
  symlinkSync('1.0.0', join(folder, 'current'))
  spoil(join(folder, '1.1.0'))
  const { problems } = await verify(folder, '1.1.0')
  expect(problems).toContainEqual(expect.stringMatching(words))
  const history = readHistory(folder)
  await expect(promote(folder, '1.1.0')).rejects.toThrow(
    `Cannot promote 1.1.0, nothing has changed:\n${problems[0]}`,
  )
  expect(currentVersion(folder)).toBe(join(folder, '1.0.0'))
  expect(readHistory(folder)).toEqual(history)
})

test('promote and rollback change what loadModel() loads, without a new configuration', async () => {
  const folder = versions('1.0.0')
  const config = loadConfig({ MODEL_DIR: folder })
  const before = await loadModel(config)
  expect(before.versionFolder).toBe(join(folder, '1.0.0'))

  addVersion(folder, '1.1.0', { models: ['model.onnx'] })
  expect(await promote(folder, '1.1.0')).toMatchObject({ from: '1.0.0', to: '1.1.0' })
  expect(readlinkSync(join(folder, 'current'))).toBe('1.1.0')
  const after = await loadModel(config)
  expect(after.version).toBe('1.1.0')
  expect(after.path).toBe(join(folder, '1.1.0', 'model.onnx'))
  expect(after.sha256).not.toBe(before.sha256)
  expect(currentVersion(folder)).toBe(join(folder, '1.1.0'))

  addVersion(folder, '1.2.0')
  await promote(folder, '1.2.0')
  expect(await rollback(folder)).toMatchObject({ from: '1.2.0', to: '1.1.0' })
  expect((await loadModel(config)).sha256).toBe(after.sha256)
  expect(await rollback(folder)).toMatchObject({ from: '1.1.0', to: '1.0.0' })
  expect(currentVersion(folder)).toBe(join(folder, '1.0.0'))
  expect(() => rollback(folder)).toThrow('nothing is known to have been served before 1.0.0')
  expect(readHistory(folder).map(({ by, to }) => `${by} ${to}`)).toEqual([
    'promote 1.1.0',
    'promote 1.2.0',
    'rollback 1.1.0',
    'rollback 1.0.0',
  ])
})

test('rollback goes only to what may have been served: without a link that is the older of two', async () => {
  const folder = hefVersions('1.0.0', '1.1.0')
  expect((await promote(folder, '1.0.0')).from).toBe(null)
  expect(() => rollback(folder)).toThrow('nothing is known to have been served before 1.0.0')
  rmSync(join(folder, 'current'))
  rmSync(join(folder, 'history'))
  expect((await promote(folder, '1.1.0')).from).toBe('1.0.0')
})

test('promote tells which servers will refuse the version, and what to do where it is current already', async () => {
  const folder = hefVersions('1.0.0')
  const { code, stdout } = await artifacts('promote', '1.0.0', '--dir', folder)
  expect([code, stdout.split('\n')]).toEqual([
    0,
    [
      'current leads to 1.0.0 already. A server that refused it looks again on SIGHUP or POST load',
      '  warn  INFER_MODE=onnx cannot serve it: model.json: files lists no *.onnx. Add it, or set ONNX_PATH',
      '',
    ],
  ])
  const version = join(folder, '1.0.0')
  cpSync(join(version, 'tcn_encoder.soft.hef'), join(version, 'second.hef'))
  list(version, 'second.hef')
  await expect(promote(folder, '1.0.0')).rejects.toThrow('expected one *.hef. Set HEF_PATH')
  // Whose configuration names the file has one.
  expect((await promote(folder, '1.0.0', true)).warnings).toHaveLength(2)
})

test('a folder in place of the link is refused in words, before anything is written', async () => {
  const folder = hefVersions('1.0.0', '1.1.0')
  cpSync(join(folder, '1.0.0'), join(folder, 'current'), { recursive: true })
  const words = `${join(folder, 'current')} is no link, expected one to a version. Rename it`
  expect(() => currentVersion(folder)).toThrow(words)
  await expect(promote(folder, '1.1.0')).rejects.toThrow(words)
  expect(() => rollback(folder)).toThrow(words)
  expect(existsSync(join(folder, 'history'))).toBe(false)
})

test('a version that may not be entered is broken, and what a disk keeps for itself is none', () => {
  const folder = hefVersions('1.0.0', '1.1.0', 'lost+found')
  for (const name of ['1.1.0', 'lost+found']) chmodSync(join(folder, name), 0)
  const isRoot = process.geteuid!() === 0
  if (isRoot) process.seteuid!(NOBODY) // root may enter anywhere
  try {
    expect(versionsIn(folder)).toEqual(['1.0.0', '1.1.0'])
    expect(verifyFiles(folder, '1.1.0').problems).toEqual([expect.stringContaining('cannot be read (EACCES')])
  } finally {
    if (isRoot) process.seteuid!(0)
    for (const name of ['1.1.0', 'lost+found']) chmodSync(join(folder, name), 0o755)
  }
})

test('rollback refuses a version that has gone bad since', async () => {
  const folder = versions('1.0.0', '1.1.0')
  await promote(folder, '1.0.0')
  await promote(folder, '1.1.0')
  flipBit(join(folder, '1.0.0', 'model_dynamic.onnx'))
  await expect(rollback(folder)).rejects.toThrow(
    /^Cannot roll back to 1\.0\.0, nothing has changed:\nmodel_dynamic\.onnx: sha256 /,
  )
  expect(readlinkSync(join(folder, 'current'))).toBe('1.1.0')
})

test('list says which version is current, which previous, and which broken and why', async () => {
  const folder = hefVersions('1.2.0', '1.10.0', '2.0.0', 'by-hand')
  await promote(folder, '1.2.0')
  await promote(folder, '1.10.0')
  flipBit(join(folder, '2.0.0', 'golden.json'))
  changeManifest(join(folder, 'by-hand'), { version: '3' })
  mkdirSync(join(folder, 'no-manifest'))
  mkdirSync(join(folder, '.half-a-copy'))
  const { code, stdout } = await artifacts('list', '--dir', folder)
  expect(code).toBe(0)
  expect(stdout.split('\n')).toEqual([
    folder,
    expect.stringMatching(/^1\.2\.0 +previous +tcn-vae-motion-12$/),
    expect.stringMatching(/^1\.10\.0 +current +tcn-vae-motion-12$/),
    expect.stringMatching(/^2\.0\.0 +broken +tcn-vae-motion-12$/),
    expect.stringMatching(/^ {2}golden\.json: sha256 \w{64}, expected \w{64}$/),
    expect.stringMatching(/^by-hand +tcn-vae-motion-12$/),
    '  model.json says version 3: clients are told that, not by-hand',
    '',
  ])
  const { stdout: json } = await artifacts('list', '--json', '--dir', folder)
  expect(JSON.parse(json)).toMatchObject({ folder, current: '1.10.0', previous: '1.2.0' })
})

test('of two promotions at the same time one wins, and the link is never missing', async () => {
  const folder = hefVersions('1.0.0', '1.1.0', '1.2.0')
  await promote(folder, '1.0.0')
  const seen = new Set<string>()
  let isDone = false
  const both = Promise.all(['1.1.0', '1.2.0'].map(version => artifacts('promote', version, '--dir', folder)))
  const done = both.finally(() => {
    isDone = true
  })
  while (!isDone) {
    for (let look = 0; look < 20; look++) seen.add(currentVersion(folder)) // throws when the link is missing
    await sleep(1)
  }
  expect((await done).map(({ code }) => code)).toEqual([0, 0])
  expect(['1.1.0', '1.2.0']).toContain(readlinkSync(join(folder, 'current')))
  expect(seen).toContain(join(folder, '1.0.0'))
  // Whether they met or came one after the other: back to a version that was served before.
  const { from, to } = await rollback(folder)
  expect(to).not.toBe(from)
})

test('a promotion that is killed at any step leaves the old version or the new one, and the way back', async () => {
  const folder = hefVersions('1.0.0', '1.1.0', '1.2.0')
  await promote(folder, '1.0.0')
  for (let survived = 0; ; survived++) {
    await promote(folder, '1.1.0')
    let left = survived
    disk.beforeWrite = () => {
      if (left-- <= 0) throw KILLED
    }
    const end = await promote(folder, '1.2.0').catch((error: unknown) => error)
    disk.beforeWrite = () => undefined
    const served = currentVersion(folder)
    const expected = served.endsWith('1.2.0') ? ['1.2.0', '1.1.0'] : ['1.1.0', '1.0.0']
    expect(await rollback(folder)).toMatchObject({ from: expected[0], to: expected[1] })
    if (end !== KILLED) {
      expect(end).toMatchObject({ from: '1.1.0', to: '1.2.0' })
      expect(survived).toBeGreaterThan(5)
      return
    }
  }
})

test('without a link a single version is served, and among several nobody guesses', async () => {
  const folder = versions('1.0.0')
  const config = loadConfig({ MODEL_DIR: folder })
  expect((await loadModel(config)).versionFolder).toBe(join(folder, '1.0.0'))
  addVersion(folder, '1.1.0')
  await expect(loadModel(config)).rejects.toThrow(
    /has the versions 1\.0\.0, 1\.1\.0 and no link current .* promote 1\.1\.0$/,
  )
  symlinkSync('2.0.0', join(folder, 'current'))
  await expect(loadModel(config)).rejects.toThrow(/current leads to no folder\. Promote a version/)
  await expect(loadModel(loadConfig({ MODEL_DIR: join(folder, 'nowhere') }))).rejects.toThrow(
    /nowhere cannot be read \(ENOENT\)/,
  )
  await expect(loadModel(loadConfig({ MODEL_DIR: join(folder, '1.0.0') }))).rejects.toThrow(
    /1\.0\.0 has no version/,
  )
})

test('in hailo mode the one HEF of the current version is served, and its fallback is of that very version', async () => {
  const folder = versions('1.0.0', '1.1.0')
  await promote(folder, '1.0.0')
  const config = loadConfig({ MODEL_DIR: folder, INFER_MODE: 'hailo', FALLBACK: 'onnx' })
  const model = await loadModel(config)
  expect(model).toMatchObject({
    path: join(folder, '1.0.0', 'tcn_encoder.soft.hef'),
    plan: { kind: 'hailo' },
  })
  await promote(folder, '1.1.0')
  expect(loadFallback(config, model)?.path).toBe(join(folder, '1.0.0', 'model_dynamic.onnx'))

  cpSync(join(folder, '1.1.0', 'tcn_encoder.soft.hef'), join(folder, '1.1.0', 'second.hef'))
  list(join(folder, '1.1.0'), 'second.hef')
  await expect(loadModel(config)).rejects.toThrow(
    /lists second\.hef, tcn_encoder\.soft\.hef, expected one \*\.hef\. Set HEF_PATH/,
  )
  changeManifest(join(folder, '1.1.0'), {
    files: pick(filesIn(join(folder, '1.1.0')), ['model_dynamic.onnx', ...PARTS]),
  })
  await expect(loadModel(config)).rejects.toThrow(/files lists no \*\.hef\. Add it, or set HEF_PATH/)
})

test('ONNX_PATH and HEF_PATH may lead through a link too, followed at each load and once', async () => {
  const folder = versions('1.0.0', '1.1.0')
  await promote(folder, '1.0.0')
  const named = [
    { ONNX_PATH: join(folder, 'current', 'model_dynamic.onnx') },
    { HEF_PATH: join(folder, 'current', 'tcn_encoder.soft.hef') },
  ].map(env => loadConfig(env))
  for (const version of ['1.0.0', '1.1.0']) {
    await promote(folder, version)
    for (const config of named) {
      const model = await loadModel(config)
      expect(model).toMatchObject({ version, versionFolder: null })
      expect(realpathSync(servedPath(config)!)).toBe(model.path)
    }
  }
  expect(servedPath(loadConfig({ INFER_MODE: 'stub' }))).toBeNull()
  expect(servedPath(loadConfig({ MODEL_DIR: folder }))).toBe(join(folder, 'current'))
})

test('a folder that cannot be written to is named, and nothing changes', async () => {
  const folder = hefVersions('1.0.0', '1.1.0')
  chmodSync(folder, 0o555)
  const isRoot = process.geteuid!() === 0
  if (isRoot) process.seteuid!(NOBODY) // root may write anywhere
  try {
    await expect(promote(folder, '1.1.0')).rejects.toThrow(
      `Cannot promote 1.1.0, nothing has changed: ${folder} cannot be written to (EACCES at open)`,
    )
  } finally {
    if (isRoot) process.seteuid!(0)
    chmodSync(folder, 0o755)
  }
  expect(existsSync(join(folder, 'current'))).toBe(false)
})

test('the history is bounded, and a line that was cut spoils no other', () => {
  const folder = versions()
  const lines = Array.from({ length: MAX_HISTORY_CHANGES }, (_, n) =>
    JSON.stringify({ at: 'long ago', by: 'promote', from: null, to: `${n}` }),
  )
  writeFileSync(join(folder, 'history'), `${lines.join('\n')}\n{"at": "when the di`)
  remember(folder, { by: 'promote', from: null, to: 'last' })
  const history = readHistory(folder)
  expect(history.length).toBeLessThanOrEqual(MAX_HISTORY_CHANGES / 2 + 1)
  expect(history.slice(-2).map(({ to }) => to)).toEqual([`${MAX_HISTORY_CHANGES - 1}`, 'last'])

  // One that is not shortened keeps the end that was cut, and the next line begins after it.
  writeFileSync(join(folder, 'history'), `${lines[0]}\n{"at": "when the di`)
  remember(folder, { by: 'promote', from: null, to: 'last' })
  expect(readHistory(folder).map(({ to }) => to)).toEqual(['0', 'last'])
})

test('promote refuses names that are no version of the folder', async () => {
  const folder = versions('1.0.0')
  for (const name of ['1.1.0', '..', '.', '', 'current', '1.0.0/../1.0.0', '/etc', '-']) {
    await expect(promote(folder, name)).rejects.toThrow(
      new ArtifactError(`There is no version ${name} in ${folder}, only 1.0.0`),
    )
  }
})

test('artifacts exits with 64 for wrong usage, and says what was wrong', async () => {
  const wrong: [string, string[]][] = [
    ['Unknown command : expected one of list, verify, promote, rollback', []],
    ['promote needs a VERSION', ['promote']],
    ['rollback takes no VERSION and nothing else', ['rollback', '1.0.0']],
  ]
  for (const [message, args] of wrong) {
    const { code, stderr } = await artifacts(...args)
    expect(code).toBe(64)
    expect(stderr).toContain(message)
  }
})

test('artifacts exits with 1 and one line when it cannot do what it is told', async () => {
  const folder = versions('1.0.0')
  expect(await artifacts('rollback', '--dir', folder)).toEqual({
    code: 1,
    stdout: '',
    stderr:
      'Cannot roll back: nothing is known to have been served before 1.0.0. Promote a version instead\n',
  })
})

const NOBODY = 65_534

/** The same as versions(), without the model that takes ONNX Runtime to verify. */
function hefVersions(...names: string[]): string {
  const folder = versions()
  for (const name of names) addVersion(folder, name, { models: ['tcn_encoder.soft.hef'] })
  return folder
}

/** A folder with these versions, each of the shipped model, and with no link. */
function versions(...names: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'versions-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  chmodSync(folder, 0o755)
  for (const name of names) addVersion(folder, name)
  return folder
}

function addVersion(
  folder: string,
  version: string,
  { models = MODELS }: { models?: readonly string[] } = {},
): void {
  mkdirSync(join(folder, version))
  for (const name of [...models, ...PARTS])
    cpSync(join(SHIPPED_MODEL_FOLDER, name), join(folder, version, name))
  const files = pick(MANIFEST.files, [...models, ...PARTS])
  write(join(folder, version), 'model.json', JSON.stringify({ ...MANIFEST, version, files }))
}

function artifacts(...args: string[]) {
  return runProgram(process.execPath, ['dist/src/cli/artifacts.js', ...args])
}

interface Files {
  readonly [name: string]: { readonly bytes: number; readonly sha256: string }
}

function filesIn(folder: string): Files {
  return JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8')).files
}

function changeManifest(folder: string, changes: object): void {
  const manifest = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'))
  write(folder, 'model.json', JSON.stringify({ ...manifest, ...changes }))
}

/** Another file of that name, and listed so. */
function replace(folder: string, name: string, bytes: string | Buffer): void {
  write(folder, name, bytes)
  list(folder, name)
}

function list(folder: string, name: string): void {
  const bytes = readFileSync(join(folder, name))
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const files = { ...filesIn(folder), [name]: { bytes: bytes.length, sha256 } }
  const sorted = Object.fromEntries(Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1)))
  changeManifest(folder, { files: sorted })
}

function pick(files: Files, names: readonly string[]): Files {
  return Object.fromEntries(names.map(name => [name, files[name]!]))
}

function write(folder: string, name: string, content: string | Buffer): void {
  writeFileSync(join(folder, name), content)
}

function flipBit(path: string): void {
  const bytes = readFileSync(path)
  bytes[bytes.length >> 1]! ^= 1
  writeFileSync(path, bytes)
}

function asFolder(path: string): void {
  renameSync(path, `${path}.away`)
  mkdirSync(path)
}
