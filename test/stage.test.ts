import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { stage } from '../packaging/stage.ts'
import { Parity } from '../src/core/golden.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { postWindow, resultOf } from './http-client.ts'
import { startServerForTest } from './load.ts'
import { COMPILER } from './native.ts'
import { GOLDEN, windowOf } from './windows.ts'

/** It copies a hundred megabytes, and may compile. */
const STAGING_TIMEOUT_MS = 180_000
const STAGE = join(PROJECT_FOLDER, 'dist', 'packaging', 'stage.js')

describe.skipIf(COMPILER === null)('what is staged', () => {
  let whole: string
  let device: string
  beforeAll(async () => {
    const folder = folderForTest()
    whole = join(folder, 'whole')
    device = join(folder, 'device')
    await stage(whole, { onnx: true })
    await stage(device, { onnx: false })
    return () => rmSync(folder, { recursive: true })
  }, STAGING_TIMEOUT_MS)

  test('with ONNX Runtime it serves the model that ships, with native code', async () => {
    const server = await startServerForTest({}, { project: whole })
    const parity = Parity.of('onnx', GOLDEN)!
    parity.add(resultOf(await postWindow(server, windowOf(0))), 0)
    expect(parity.holds).toBe(true)
    expect(server.stdout).toMatch(/^ {2}codec +native$/m)
    const listed = execFileSync(join(whole, 'bin', 'hailo-inference-artifacts'), ['list'], {
      encoding: 'utf8',
    })
    expect(listed).not.toContain('broken')
  })

  test('without ONNX Runtime it is for a device, and serves the stub', async () => {
    expect(readdirSync(join(device, 'node_modules')).filter(name => name.startsWith('onnxruntime'))).toEqual(
      [],
    )
    const server = await startServerForTest({ INFER_MODE: 'stub' }, { project: device })
    expect((await postWindow(server, windowOf(0))).status).toBe(200)
  })

  test('it has nothing for other platforms, for building or for tests, and all may read it', () => {
    const files = filesIn(whole)
    expect(files.filter(name => /\.(ts|map|cc|hef)$/.test(name))).toEqual([])
    const { platform, arch } = process
    const binaries = files.filter(name => /\.(node|so|dylib|dll)\b/.test(name))
    expect(binaries.filter(name => /uws-pack|onnxruntime/.test(name)).sort()).toEqual([
      `node_modules/onnxruntime-node/bin/napi-v6/${platform}/${arch}/libonnxruntime.so.1`,
      `node_modules/onnxruntime-node/bin/napi-v6/${platform}/${arch}/onnxruntime_binding.node`,
      `node_modules/uws-pack/dist/bin/uws_${platform}_${arch}_115.node`,
      `node_modules/uws-pack/dist/bin/uws_${platform}_${arch}_127.node`,
    ])
    const own = ['hailort', 'codec', 'exit'].map(name => `native/build/${name}.node`)
    expect(binaries).toEqual(expect.arrayContaining(own))
    const foreign = new RegExp(`darwin|win32|${arch === 'x64' ? 'arm64' : 'x64'}`)
    expect(binaries.filter(name => foreign.test(name))).toEqual([])
    const packages = readdirSync(join(whole, 'node_modules'))
    expect(packages).toContain('hyper-express')
    expect(packages).not.toContain('vitest')
    expect(files.filter(name => (statSync(join(whole, name)).mode & 0o444) !== 0o444)).toEqual([])
  })

  test('it is as large as documentation says', () => {
    expect(megabytesOf(whole)).toBeLessThan(100)
    expect(megabytesOf(device)).toBeLessThan(55)
  })
})

// They may be private, and an image is passed on.
test('of artifacts/, what npm packs is the version that ships, and none that somebody has put beside it', () => {
  const folder = folderForTest()
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const shipped = relative(PROJECT_FOLDER, SHIPPED_MODEL_FOLDER)
  copyFileSync(join(PROJECT_FOLDER, 'package.json'), join(folder, 'package.json'))
  for (const version of [shipped, join(dirname(shipped), '1.0.1'), 'artifacts/mine/1.0.0']) {
    mkdirSync(join(folder, version), { recursive: true })
    writeFileSync(join(folder, version, 'model.json'), '{}')
  }
  const packed = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const paths = JSON.parse(packed)[0].files.map(({ path }: { path: string }) => path)
  expect(paths.sort()).toEqual([join(shipped, 'model.json'), 'package.json'])
})

test.each([
  ['an option that it does not know', ['/nowhere', '--bogus'], 64, /^Unknown option '--bogus'.*\nnode dist/],
  ['no folder', [], 64, /^Expected one folder\nnode dist/],
  ['a folder with files', [PROJECT_FOLDER], 64, /^\/\S+ is not empty\nnode dist/],
])('told %s, stage.js says so without a stack', (_, args, code, words) => {
  const { status, stderr } = spawnSync(process.execPath, [STAGE, ...args], { encoding: 'utf8' })
  expect(stderr).toMatch(words)
  expect(stderr).not.toMatch(/^ +at /m)
  expect(status).toBe(code)
})

function folderForTest(): string {
  return mkdtempSync(join(tmpdir(), 'stage-'))
}

function filesIn(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter(entry => !entry.isDirectory())
  return files.map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1))
}

function megabytesOf(folder: string): number {
  return filesIn(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0) / 1e6
}
