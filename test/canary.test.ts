import { expect, test } from 'vitest'
import { type PretendedDevice, writeDevice } from './faults/device.ts'
import { hefFolder } from './hef-file.ts'
import { ask, postWindow } from './http-client.ts'
import { get, metric, startFaultyServer, startServerForTest, until } from './load.ts'
import type { TestServer } from './server.ts'
import { windowOf } from './windows.ts'

const RIGHT: PretendedDevice = { fault: null }
const WRONG: PretendedDevice = { fault: null, wrong: true }
const NO_NUMBERS: PretendedDevice = { fault: null, nan: true }
const PATIENT = { 'X-Deadline-Ms': '5000' }
const WORDS =
  /^no worker: wrong_answers: latent cosines from \S+, expected 0\.995, .+ and \d+ of 64 best motifs wrong$/

test('a device that begins to answer wrongly answers nobody, and is found out; then it answers again once it is right', async () => {
  const { server, device } = await startWithDevice({ LOG_LEVEL: 'info' })
  await until(async () => (await checksOf(server)).passed >= 9)
  const { passed, failed, windows, seconds } = await checksOf(server)
  expect(failed).toBe(0)
  expect(windows).toBe(passed * 8) // nobody else has work for it
  expect(seconds).toBeGreaterThan(0)
  expect(await metric(server.port, 'hailo_golden_ok')).toBe(1)
  expect(await metric(server.port, 'hailo_golden_cosine')).toBeGreaterThan(0.995)

  device(WRONG)
  await until(async () => WORDS.test((await ask(server, 'GET /readyz')).json.reasons[1]))
  expect(await ask(server, 'GET /readyz')).toMatchObject({
    status: 503,
    json: { ready: false, reasons: ['golden check failed', expect.stringMatching(WORDS)] },
  })
  expect(await postWindow(server, windowOf(0), PATIENT)).toMatchObject({
    status: 503,
    json: {
      error: 'model_unavailable',
      detail: expect.stringMatching(/^The golden check failed: /),
      model_available: false,
    },
  })
  expect(await ask(server, 'GET /healthz')).toMatchObject({
    status: 503,
    json: { ok: false, status: 'golden_check_failed', reason: expect.stringMatching(/^wrong_answers: /) },
  })
  expect(await metric(server.port, 'hailo_golden_ok')).toBe(0)
  expect(await metric(server.port, 'hailo_golden_cosine')).toBeLessThan(0.9)
  expect((await checksOf(server)).failed).toBe(1)
  await until(() =>
    /"level":50,.*"backend":"hailo","msg":"golden check failed, .+ wrong"/.test(server.stderr),
  )

  device(RIGHT)
  await until(async () => (await ask(server, 'GET /readyz')).status === 200)
  expect((await postWindow(server, windowOf(0), PATIENT)).status).toBe(200)
  await until(() => server.stderr.includes('"msg":"golden check passed again'))
  expect(await metric(server.port, 'hailo_golden_ok')).toBe(1)
  expect(await metric(server.port, 'hailo_golden_cosine')).toBeGreaterThan(0.995)
})

test('a FALLBACK takes over from a device that gives no numbers any more, and is checked by its own limits', async () => {
  const { server, device } = await startWithDevice({ FALLBACK: 'onnx' })
  await until(async () => (await checksOf(server)).passed > 0)
  device(NO_NUMBERS)
  await until(async () => (await metric(server.port, 'hailo_inference_mode', 'mode="onnx"')) === 1)
  expect(await metric(server.port, 'hailo_fallback_total', 'cause="wrong_answers"')).toBe(1)
  const answer = await postWindow(server, windowOf(0), PATIENT)
  expect(answer).toMatchObject({ status: 200, headers: { 'x-inference-backend': 'onnx' } })
  expect((await ask(server, 'GET /readyz')).status).toBe(200)
  expect(await metric(server.port, 'hailo_golden_ok')).toBe(0)
  await until(async () => (await metric(server.port, 'hailo_golden_cosine')) > 0.9999)
})

test('golden windows make way for clients: while there is work, one goes in now and then', async () => {
  const server = await startFaultyServer({ INFER_MODE: 'onnx', GOLDEN_INTERVAL_S: '0.05' })
  await until(async () => (await checksOf(server)).passed > 0)
  const { skipped } = await checksOf(server)
  const { answer } = await server.hold()
  const before = await checksOf(server)
  await until(async () => (await metric(server.port, 'hailo_queue_depth')) === 2)
  expect(await checksOf(server)).toMatchObject({ skipped: skipped + 10, windows: before.windows })
  server.release()
  expect((await answer).status).toBe(200)
  await until(async () => (await checksOf(server)).passed > before.passed)
})

/** A server in hailo mode with one worker that is checked ten times a second, and its device. */
async function startWithDevice(env: Record<string, string>) {
  const { folder, hefPath } = hefFolder()
  const path = `${folder}/device.json`
  const device = (state: PretendedDevice) => writeDevice(path, state)
  device(RIGHT)
  const server = await startServerForTest(
    { HEF_PATH: hefPath, HAILO_DEVICE_ID: path, WORKERS: '1', GOLDEN_INTERVAL_S: '0.1', ...env },
    { faults: true },
  )
  return { server, device }
}

/** What the canary has done so far, of one moment. */
async function checksOf({ port }: TestServer) {
  const text = String((await get(port, '/metrics')).body)
  const value = (name: string) => Number(new RegExp(`^hailo_golden_${name} (.+)$`, 'm').exec(text)![1])
  const checks = (result: string) => value(`checks_total{result="${result}"}`)
  return {
    passed: checks('passed'),
    failed: checks('failed'),
    skipped: checks('skipped'),
    windows: value('windows_total'),
    seconds: value('check_seconds_total'),
  }
}
