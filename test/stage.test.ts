import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { stage } from '../packaging/stage.ts'
import { Parity } from '../src/core/golden.ts'
import { postWindow, resultOf } from './http-client.ts'
import { startServerForTest } from './load.ts'
import { COMPILER } from './native.ts'
import { GOLDEN, windowOf } from './windows.ts'

const FOLDER = mkdtempSync(join(tmpdir(), 'stage-'))
afterAll(() => rmSync(FOLDER, { recursive: true }))

describe.skipIf(COMPILER === null)('what is staged', () => {
  const whole = join(FOLDER, 'whole')
  const device = join(FOLDER, 'device')

  test('with ONNX Runtime it serves the model that ships, with native code', async () => {
    await stage(whole, { onnx: true })
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
    await stage(device, { onnx: false })
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

function filesIn(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter(entry => !entry.isDirectory())
  return files.map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1))
}

function megabytesOf(folder: string): number {
  return filesIn(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0) / 1e6
}
