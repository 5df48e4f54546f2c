import { writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { softDevice } from './hailo.ts'
import { shippedFile, softHefOf } from './hef-file.ts'
import { ask, JSON_TYPE, postWindow, resultOf, rowsOf } from './http-client.ts'
import { metric, startServerForTest, until } from './load.ts'
import { differenceOf, type Files, sha256Of, versionsForTest, withGolden } from './model-versions.ts'
import { buildNative, COMPILER } from './native.ts'
import type { TestServer } from './server.ts'
import { MOTIF_COUNT, windowOf } from './windows.ts'

/** Servers, HEFs and golden vectors are made, on machines that do other things too. */
vi.setConfig({ testTimeout: 60_000 })

const LOAD = 'POST /v2/repository/models/tcn_encoder/load'
const ONNX = 'model_dynamic.onnx'
/** Of the z-score: another model of the same network, which answers quite differently. */
const STRETCH = 1.4

describe.skipIf(COMPILER === null)('FALLBACK=onnx, and a model that was trained anew', () => {
  beforeAll(buildNative, 180_000)

  test('a version that was reloaded has its own fallback while the device is lost, and until it is back', async () => {
    const { folder, turn, old, retrained } = await versionsWithFallback()
    const { env: soft, control } = softDevice()
    const { HEF_PATH: _, ...env } = soft
    const device = async (faults: string) => {
      writeFileSync(control, faults)
      await sleep(30) // it looks every 10 ms
    }
    const server = await startServerForTest({
      ...env,
      MODEL_DIR: folder,
      FALLBACK: 'onnx',
      WORKERS: '1',
      GOLDEN_INTERVAL_S: '0.1',
    })
    await expectAnswer(server, 'hailo', old)
    turn('2.0.0')
    expect((await ask(server, LOAD)).status).toBe(200)
    await expectAnswer(server, 'hailo', retrained)

    await device('unplug')
    await until(() => answersWith(server, 'onnx'))
    await expectAnswer(server, 'onnx', retrained)
    // The canary asks the fallback for its own answers.
    const passed = () => metric(server.port, 'hailo_golden_checks_total', 'result="passed"')
    const before = await passed()
    await until(async () => (await passed()) >= before + 2)
    expect(await metric(server.port, 'hailo_golden_checks_total', 'result="failed"')).toBe(0)

    // Without a device no other version can show that it answers rightly.
    turn('old')
    expect((await ask(server, LOAD)).status).toBe(409)
    await expectAnswer(server, 'onnx', retrained)
    await device('')
    await until(() => answersWith(server, 'hailo'))
    await expectAnswer(server, 'hailo', retrained)

    turn('without-onnx')
    const refused = await ask(server, LOAD)
    expect([refused.status, refused.json.error]).toEqual([
      409,
      expect.stringMatching(/files lists no \*\.onnx/),
    ])
    turn('old')
    expect((await ask(server, LOAD)).status).toBe(200)
    await device('unplug')
    await until(() => answersWith(server, 'onnx'))
    await expectAnswer(server, 'onnx', old)
    expect(await server.stop()).toBe(0)
  })
})

interface Version {
  readonly version: string
  readonly files: Files
}

/** Three with a HEF, of which the last has no float model. */
async function versionsWithFallback() {
  const { onnxPath, first, add, turn } = await versionsForTest()
  const head = { 'motif_head.f32': shippedFile('motif_head.f32') }
  const hailo = { ...head, 'model.hef': softHefOf({ motifs: false }) }
  const old: Version = { version: '1.0.0', files: { ...first.files, ...hailo } }
  // Another file, as a field that nobody reads is in it twice.
  const onnx = Buffer.concat([first.files[ONNX]!, Buffer.from([0x32, 1, 0x41])])
  const retrained = {
    version: '2.0.0',
    files: { ...(await withGolden(onnx, STRETCH)), ...head, 'model.hef': softHefOf({ motifs: true }) },
  }
  const { normalization } = JSON.parse(shippedFile('model.json').toString())
  const std = normalization.std.map((value: number) => value * STRETCH)
  const { [ONNX]: _, ...withoutOnnx } = old.files
  add('old', old.files, { version: old.version })
  add(retrained.version, retrained.files, { normalization: { ...normalization, std } })
  add('without-onnx', withoutOnnx)
  turn('old')
  return { folder: dirname(dirname(onnxPath)), turn, old, retrained }
}

async function answersWith(server: TestServer, backend: string): Promise<boolean> {
  const { status, headers } = await postWindow(server, windowOf(0))
  return status === 200 && headers['x-inference-backend'] === backend
}

/** An answer is of the version's model for that backend, and says so. */
async function expectAnswer(server: TestServer, backend: 'hailo' | 'onnx', { version, files }: Version) {
  const sha256 = sha256Of(files[backend === 'hailo' ? 'model.hef' : ONNX]!)
  const answer = await postWindow(server, windowOf(3))
  expect(answer).toMatchObject({
    status: 200,
    headers: { 'x-inference-backend': backend, 'x-model-sha256': sha256.slice(0, 12) },
  })
  const golden = files['golden_motif_probs.f32']!
  const scores = new Float32Array(Uint8Array.from(golden).buffer).subarray(3 * MOTIF_COUNT, 4 * MOTIF_COUNT)
  expect(differenceOf(resultOf(answer).subarray(-MOTIF_COUNT), scores)).toBeLessThan(
    backend === 'hailo' ? 0.1 : 1e-4,
  )
  const encoded = await ask(server, 'POST /encode', {
    headers: { 'Content-Type': JSON_TYPE },
    body: JSON.stringify({ imu_window: rowsOf(windowOf(3)) }),
  })
  expect(encoded.json.model_version).toBe(version)
}
