import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { cosineOf } from '../src/core/golden.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { type PretendedDevice, writeDevice } from './faults/device.ts'
import { FAULTS } from './faults/faults.ts'
import { hefFolder } from './hef-file.ts'
import { ask, JSON_TYPE, OCTET_STREAM, postWindow, resultOf, rowsOf } from './http-client.ts'
import {
  distinctWindow,
  metric,
  post,
  startFaultyServer,
  startServerForTest,
  until,
  untilInFlight,
} from './load.ts'
import { complaintsAbout, HAS_PROMTOOL } from './promtool.ts'
import { type StartOptions, startServer, type TestServer } from './server.ts'
import { GOLDEN, windowOf } from './windows.ts'

const WORKS: PretendedDevice = { fault: null }
const LOST: PretendedDevice = { fault: { cause: 'device_lost', detail: 'the driver says ENODEV' } }
const IN_USE: PretendedDevice = { fault: { cause: 'device_in_use', detail: 'process 4711 has it' } }
const NO_LIBRARY: PretendedDevice = {
  fault: { cause: 'library_missing', detail: 'no libhailort.so', permanent: true },
}
const ONNX_SHA256 = '75f3ac60d958'
const PATIENT = { 'X-Deadline-Ms': '5000' }

test('without FALLBACK a lost device is told, windows are refused, and it answers again once it is back', async () => {
  const { server, hefSha256, device } = await startWith(WORKS)
  await expectAnswersOf(server, 'hailo', hefSha256)
  expect(await metric(server.port, 'hailo_device_temperature_celsius')).toBe(44.5)
  device(LOST)
  const lost = await postWindow(server, windowOf(0), PATIENT)
  expect(lost.status).toBe(503)
  expect(lost.json.error).toBe('model_unavailable')
  expect(lost.headers['x-inference-backend']).toBe('hailo')

  await until(async () => (await metric(server.port, 'hailo_worker_restarts_total', 'not_opened')) > 0)
  const refused = await postWindow(server, windowOf(0), PATIENT)
  expect(refused.status).toBe(503)
  expect(refused.json).toMatchObject({
    error: 'model_unavailable',
    detail: 'No worker has a model at the moment: device_lost',
    model_available: false,
  })
  const { status, json } = await ask(server, 'GET /healthz')
  expect(status).toBe(503)
  expect(json).toMatchObject({
    ok: false,
    status: 'model_unavailable',
    reason: 'device_lost: the driver says ENODEV',
    device: 'none (device_lost: the driver says ENODEV)',
    fallback: null,
  })
  expect((await ask(server, 'GET /readyz')).json).toEqual({
    ready: false,
    reasons: ['no worker: device_lost: the driver says ENODEV'],
  })
  expect((await ask(server, 'GET /status')).json).toMatchObject({
    ready: false,
    hailort_available: false,
    initialization_error: 'device_lost: the driver says ENODEV',
    device: null,
  })
  expect(await metric(server.port, 'hailo_worker_restarts_total', 'cause="stream_lost"')).toBe(1)
  expect(await modesOf(server)).toEqual([])
  expect(await metric(server.port, 'hailo_device_temperature_celsius')).toBe(0)

  device(WORKS)
  await until(async () => (await ask(server, 'GET /readyz')).status === 200)
  await expectAnswersOf(server, 'hailo', hefSha256)
  expect(await metric(server.port, 'hailo_fallback_total')).toBe(0)
  expect((await ask(server, 'GET /healthz')).json).toMatchObject({ ok: true, status: 'ok', reason: null })
})

test('FALLBACK=onnx answers while the device is lost, every answer says so, and the device takes over again', async () => {
  const { server, hefSha256, device } = await startWith(WORKS, { FALLBACK: 'onnx', LOG_LEVEL: 'info' })
  await expectAnswersOf(server, 'hailo', hefSha256)
  expect((await ask(server, 'GET /healthz')).json).toMatchObject({
    status: 'ok',
    device: 'hailo8 (pretended)',
    mode: 'hailo',
    hef_sha256: hefSha256,
    fallback: null,
  })
  expect(await metric(server.port, 'hailo_device_temperature_celsius', 'device_id="pretended-0"')).toBe(44.5)
  expect(await metric(server.port, 'hailo_device_utilization_percent')).toBe(12.5)
  expect(await metric(server.port, 'hailo_device_clock_hertz')).toBe(400e6)
  expect(await metric(server.port, 'hailo_device_generation')).toBe(1)
  expect(await metric(server.port, 'hailo_device_throttled')).toBe(0)
  if (HAS_PROMTOOL) expect(complaintsAbout(String((await ask(server, 'GET /metrics')).body))).toEqual([])

  device(LOST)
  expect((await postWindow(server, windowOf(0), PATIENT)).status).toBe(503)
  await until(async () => (await postWindow(server, windowOf(0), PATIENT)).status === 200)
  await expectAnswersOf(server, 'onnx', ONNX_SHA256)
  const { provenance } = (await ask(server, 'GET /live')).json
  expect(provenance.model_sha256).toEqual({ onnx: expect.stringContaining(ONNX_SHA256) })
  await sleep(200)
  const { status, json } = await ask(server, 'GET /healthz')
  expect(status).toBe(200)
  expect(json).toMatchObject({
    ok: true,
    status: 'degraded',
    reason: 'onnx answers in place of hailo: device_lost: the driver says ENODEV',
    device: 'none (device_lost: the driver says ENODEV)',
    mode: 'hailo',
    fallback: { from: 'hailo', to: 'onnx', cause: 'device_lost', since_s: expect.any(Number) },
  })
  expect(json.fallback.since_s).toBeGreaterThan(0)
  expect((await ask(server, 'GET /readyz')).json).toEqual({ ready: true, reasons: [] })
  expect((await ask(server, 'GET /status')).json).toMatchObject({
    ready: true,
    hailort_available: false,
    workers: [{ serving: true, backend: 'onnx' }],
  })
  const rows = 'from="hailo",to="onnx",cause="device_lost"'
  expect(await metric(server.port, 'hailo_fallback_total', rows)).toBe(1)
  expect(await modesOf(server)).toEqual(['onnx'])
  expect(await metric(server.port, 'hailo_worker_restarts_total')).toBe(0)

  device(WORKS)
  await until(async () => (await modesOf(server)).join() === 'hailo')
  await expectAnswersOf(server, 'hailo', hefSha256)
  await until(async () => (await ask(server, 'GET /healthz')).json.fallback === null)
  expect((await ask(server, 'GET /status')).json).toMatchObject({
    hailort_available: true,
    device: { id: 'pretended-0', library_version: '4.23.0', generation: 2 },
  })
  expect(await metric(server.port, 'hailo_fallback_total')).toBe(1)
  await until(() => messagesOf(server).length >= 8)
  expect(messagesOf(server)).toEqual([
    'device found',
    'worker serves',
    'device lost',
    'fallback: another backend answers',
    'worker serves',
    'device found',
    'fallback over',
    'worker serves',
  ])
})

test('windows that wait while the device is lost go to the fallback; only those it had taken are lost', async () => {
  const { env, device } = pretendedDevice(WORKS)
  const server = await startFaultyServer({ ...env, INFER_MODE: 'hailo', FALLBACK: 'onnx' })
  const holding = await server.hold()
  // The device takes 16 of these when it has done with the first, and the fallback finds the others.
  const behind = Array.from({ length: 40 }, (_, n) => post(server.port, windowOf(n), { deadlineMs: 5000 }))
  await untilInFlight(server.port, 41)
  device(LOST)
  server.release()
  const backends: (string | number)[] = []
  const told = [holding.answer, ...behind].map(async answer => {
    const { status, headers } = await answer
    backends.push(status === 200 ? headers['x-inference-backend']! : status)
  })
  await Promise.all(told)
  // Those that are lost hear of it before the fallback is open.
  expect(backends.lastIndexOf(503)).toBeLessThan(backends.indexOf('onnx'))
  expect(backends.filter(backend => backend === 503).length).toBeGreaterThan(0)
  expect(backends.filter(backend => backend === 503).length).toBeLessThanOrEqual(17)
  expect(backends.filter(backend => backend === 'onnx').length).toBeGreaterThanOrEqual(24)
  expect(new Set(backends)).toEqual(new Set([503, 'onnx']))
})

test('a device that is busy at the start is waited for; the server says why it is not ready', async () => {
  const { server, hefSha256, device } = await startWith(IN_USE, {}, { ready: false })
  const reasons = ['warming', 'no worker: device_in_use: process 4711 has it']
  await until(async () => (await ask(server, 'GET /readyz')).json.reasons.includes(reasons[1]))
  expect((await ask(server, 'GET /readyz')).json).toEqual({ ready: false, reasons })
  expect((await ask(server, 'GET /healthz')).json).toMatchObject({
    ok: false,
    status: 'model_unavailable',
    reason: 'device_in_use: process 4711 has it',
  })
  expect(await postWindow(server, windowOf(0))).toMatchObject({
    status: 503,
    json: { error: 'model_unavailable', detail: 'The model is not ready; GET /readyz says why' },
  })
  expect(server.process.exitCode).toBeNull()

  device(WORKS)
  await until(async () => (await ask(server, 'GET /readyz')).status === 200)
  await expectAnswersOf(server, 'hailo', hefSha256)
  expect(await metric(server.port, 'hailo_golden_cosine')).toBeGreaterThan(0.995)
})

test('a server that waits for its device ends at once when it is told to', async () => {
  const { server } = await startWith(IN_USE, {}, { ready: false })
  // By then it waits 1.6 s before it tries again.
  await until(async () => (await metric(server.port, 'hailo_worker_restarts_total', 'not_opened')) >= 6)
  const startedMs = performance.now()
  expect(await server.stop()).toBe(0)
  expect(performance.now() - startedMs).toBeLessThan(1500)
})

test('what only somebody can mend ends the start, with the sentence', async () => {
  const env = { HEF_PATH: hefFolder().hefPath, HAILORT_LIB: '/no/such/libhailort.so', LOG_LEVEL: 'fatal' }
  await expect(startServer(env)).rejects.toThrow(
    /^the server ended with 1 before it was ready:\nhailo-inference cannot start:\nCannot run \S+model\.hef: library_missing: .+ The log may tell more\n$/,
  )
})

test('FALLBACK=stub answers from the start where there is no HailoRT, and says whose numbers these are', async () => {
  const { server } = await startWith(NO_LIBRARY, { FALLBACK: 'stub' })
  const answer = await postWindow(server, windowOf(0), PATIENT)
  expect(answer.headers).toMatchObject({ 'x-inference-backend': 'stub', 'x-model-sha256': 'stub' })
  expect((await ask(server, 'GET /healthz')).json).toMatchObject({
    ok: true,
    status: 'degraded',
    device: 'none (library_missing: no libhailort.so)',
    fallback: { from: 'hailo', to: 'stub', cause: 'library_missing' },
  })
  expect(await modesOf(server)).toEqual(['stub'])
  expect(await metric(server.port, 'hailo_model_loaded', 'model="tcn-vae-motion-12"')).toBe(0)
  expect(await metric(server.port, 'hailo_model_loaded', 'model="stub"')).toBe(1)
  const counted = await metric(server.port, 'hailo_inference_requests_total', 'status="success",model="stub"')
  expect(counted).toBe(1)
})

test('a fallback at the start is checked by its own limits, the device by its own when it comes', async () => {
  const { server, hefSha256, device } = await startWith(LOST, { FALLBACK: 'onnx' })
  await expectAnswersOf(server, 'onnx', ONNX_SHA256)
  expect(await metric(server.port, 'hailo_golden_cosine')).toBeGreaterThan(0.9999)

  device({ fault: null, wrong: true })
  await until(async () => (await ask(server, 'GET /healthz')).json.device.includes('wrong_answers'))
  await expectAnswersOf(server, 'onnx', ONNX_SHA256)
  expect((await ask(server, 'GET /status')).json.initialization_error).toMatch(
    /^wrong_answers: latent cosines from \S+, expected 0\.995, their mean \S+, expected 0\.999, and \d+ of 64 best motifs wrong$/,
  )
  device(WORKS)
  await until(async () => (await modesOf(server)).join() === 'hailo')
  await expectAnswersOf(server, 'hailo', hefSha256)
})

test('a device that answers wrongly at the start serves nobody', async () => {
  const { server } = await startWith({ fault: null, wrong: true }, {}, { ready: false })
  await until(async () => (await ask(server, 'GET /readyz')).json.reasons.includes('golden check failed'))
  expect(await metric(server.port, 'hailo_golden_ok')).toBe(0)
  expect((await postWindow(server, windowOf(0))).status).toBe(503)
})

test('a hot device is told in log and metrics, while it answers', async () => {
  const { server, hefSha256, device } = await startWith(WORKS, { LOG_LEVEL: 'info' })
  device({ ...WORKS, throttled: true, temperatureCelsius: 104 })
  await until(async () => (await metric(server.port, 'hailo_device_temperature_celsius')) === 104)
  expect(await metric(server.port, 'hailo_device_clock_hertz')).toBe(200e6)
  device(WORKS)
  await until(async () => (await metric(server.port, 'hailo_device_temperature_celsius')) === 44.5)
  await expectAnswersOf(server, 'hailo', hefSha256)
  await until(() => messagesOf(server).length >= 4)
  expect(messagesOf(server)).toEqual([
    'device found',
    'worker serves',
    'device throttled',
    'device no longer throttled',
  ])
})

test('a device that is lost without a window is told all the same', async () => {
  const { server, device } = await startWith(WORKS, { FALLBACK: 'stub' })
  device({ ...LOST, idle: true })
  await until(async () => (await modesOf(server)).join() === 'stub')
  expect((await postWindow(server, windowOf(0), PATIENT)).headers['x-inference-backend']).toBe('stub')
})

test('a worker that dies while its fallback serves is replaced, and tries the device again', async () => {
  const { server, hefSha256, device } = await startWith(LOST, { FALLBACK: 'onnx' })
  expect((await post(server.port, distinctWindow(0, FAULTS.exit), { deadlineMs: 5000 })).status).toBe(503)
  await until(async () => (await metric(server.port, 'hailo_worker_restarts_total', 'cause="exit"')) === 1)
  await until(async () => (await modesOf(server)).join() === 'onnx')
  await expectAnswersOf(server, 'onnx', ONNX_SHA256)
  device(WORKS)
  await until(async () => (await modesOf(server)).join() === 'hailo')
  await expectAnswersOf(server, 'hailo', hefSha256)
})

/** A server in hailo mode with one worker, and the device that it is to believe in. */
async function startWith(
  first: PretendedDevice,
  env: Record<string, string> = {},
  options: StartOptions = {},
): Promise<{ server: TestServer; hefSha256: string; device: (state: PretendedDevice) => void }> {
  const { env: selected, hefSha256, device } = pretendedDevice(first)
  const server = await startServerForTest({ ...selected, WORKERS: '1', ...env }, { faults: true, ...options })
  return { server, hefSha256, device }
}

/** What selects a device that the test writes. */
function pretendedDevice(first: PretendedDevice) {
  const { folder, hefPath, sha256 } = hefFolder()
  const path = `${folder}/device.json`
  const device = (state: PretendedDevice) => writeDevice(path, state)
  device(first)
  return { env: { HEF_PATH: hefPath, HAILO_DEVICE_ID: path }, hefSha256: sha256, device }
}

/** Each way to ask is answered like the model, and by whom is in each answer. */
async function expectAnswersOf(server: TestServer, backend: string, sha256: string): Promise<void> {
  const binary = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
  const answers = [
    await postWindow(server, windowOf(0), PATIENT),
    await postWindow(server, windowOf(0), { ...PATIENT, ...binary }),
    await ask(server, 'POST /encode', {
      headers: { 'Content-Type': JSON_TYPE },
      body: JSON.stringify({ imu_window: rowsOf(windowOf(0)) }),
    }),
    await ask(server, 'POST /test'),
  ]
  for (const { status, headers } of answers) {
    expect(status).toBe(200)
    expect(headers).toMatchObject({
      'x-inference-backend': backend,
      'x-model-sha256': sha256.slice(0, 12),
    })
  }
  for (const answer of answers.slice(0, 2)) {
    const latent = resultOf(answer).subarray(0, LATENT_DIMS)
    expect(cosineOf(latent, GOLDEN.latents.subarray(0, LATENT_DIMS))).toBeGreaterThan(0.995)
  }
}

async function modesOf({ port }: TestServer): Promise<string[]> {
  const modes = await Promise.all(
    ['hailo', 'onnx', 'stub'].map(async mode => {
      const answers = await metric(port, 'hailo_inference_mode', `mode="${mode}"`)
      return answers === 1 ? [mode] : []
    }),
  )
  return modes.flat()
}

/** What the log said, in order, of what this file is about. */
function messagesOf({ stderr }: TestServer): string[] {
  const messages = stderr
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line).msg as string)
  return messages.filter(message => /device|fallback|worker/.test(message))
}
