import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { cosineOf } from '../src/core/golden.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { openContainer, sealContainer } from '../src/hef/container.ts'
import { decodeHef, encodeHef } from '../src/hef/schema.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { SOFT_HEF, softDevice, startHailo } from './hailo.ts'
import { hefFolder } from './hef-file.ts'
import { ask, OCTET_STREAM, postWindow, resultOf } from './http-client.ts'
import { closedLoop, metric, until } from './load.ts'
import { buildNative, COMPILER, runProgram } from './native.ts'
import { startServer, type TestServer } from './server.ts'
import { GOLDEN, windowOf } from './windows.ts'

const BINARY = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
const PATIENT = { 'X-Deadline-Ms': '3000' }
/** uint8[64][64], the latents of the golden windows as the int8 network gives them. */
const GOLDEN_Q = readFileSync(join(SHIPPED_MODEL_FOLDER, 'golden_int8_latent_q.u8'))
const { scale, zero_point } = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.int8.json'), 'utf8'))
  .tensors.latent

/** Whether an answer is the int8 network's own for that golden window, bit for bit. */
function isRight(result: Float32Array, window: number): boolean {
  return Array.from(result.subarray(0, LATENT_DIMS)).every(
    (value, dim) => Math.round(value / scale) + zero_point === GOLDEN_Q[window * LATENT_DIMS + dim],
  )
}

/** Posts golden windows in turn until all of the last `count` were answered, rightly. */
async function untilSound(server: TestServer, count = 8): Promise<void> {
  let sound = 0
  for (let sent = 0; sound < count; sent++) {
    const answer = await postWindow(server, windowOf(sent % 64), { ...BINARY, ...PATIENT })
    // A late result of a window that was given up must never answer another.
    if (answer.status === 200) expect(isRight(resultOf(answer), sent % 64)).toBe(true)
    sound = answer.status === 200 ? sound + 1 : 0
  }
}

async function untilReadyzSays(server: TestServer, reason: RegExp): Promise<void> {
  await until(async () => reason.test(String((await ask(server, 'GET /readyz')).body)))
}

const generationOf = (server: TestServer) => metric(server.port, 'hailo_device_generation')

describe.skipIf(COMPILER === null)('INFER_MODE=hailo on the software device', { timeout: 60_000 }, () => {
  beforeAll(buildNative, 180_000)

  describe('parity', () => {
    test.each([
      ['raw asynchronous streams', {}],
      ['vstreams', { HAILO_IO: 'vstream' }],
      ['a single model without the scheduler', { HAILO_SCHEDULER: 'none' }],
      ['HailoRT 4.18', { SOFTHAILORT_VERSION: '4.18.0' }],
      ['three workers', { WORKERS: '3' }],
    ])('golden windows get the trained model’s latents, and the int8 network’s bits: %s', async (_, env) => {
      const { server } = await startHailo(env)
      const results: Float32Array[] = []
      for (let window = 0; window < GOLDEN.count; window++) {
        const json = await postWindow(server, windowOf(window), PATIENT)
        const binary = await postWindow(server, windowOf(window), { ...BINARY, ...PATIENT })
        expect(resultOf(json)).toEqual(resultOf(binary))
        results.push(resultOf(binary))
      }
      expect(results.filter(isRight)).toHaveLength(64)
      const cosines = results.map((result, window) =>
        cosineOf(
          result.subarray(0, LATENT_DIMS),
          GOLDEN.latents.subarray(window * LATENT_DIMS, (window + 1) * LATENT_DIMS),
        ),
      )
      expect(Math.min(...cosines)).toBeGreaterThanOrEqual(0.995)
      expect(cosines.reduce((sum, cosine) => sum + cosine) / 64).toBeGreaterThanOrEqual(0.999)
      for (const result of results) {
        const scores = result.subarray(LATENT_DIMS)
        expect(Math.min(...scores)).toBeGreaterThanOrEqual(0)
        expect(scores.reduce((sum, score) => sum + score)).toBeCloseTo(1, 5)
      }
    })
  })

  test('npm run start:softhailo serves, and says everywhere that the device is software', async () => {
    const { SOFTHAILORT_LOCK_DIR = '' } = softDevice().env
    const { PATH = '', HOME = '' } = process.env
    const child = spawn('npm', ['run', 'start:softhailo'], {
      env: { PATH, HOME, SIDECAR_PORT: '0', SOFTHAILORT_LOCK_DIR },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    onTestFinished(() => void process.kill(-child.pid!, 'SIGKILL'))
    let printed = ''
    child.stdout.setEncoding('utf8').on('data', text => (printed += text))
    child.stderr.setEncoding('utf8').on('data', text => (printed += text))
    await until(() => / url +http/.test(printed))
    const port = Number(/127\.0\.0\.1:(\d+)/.exec(printed)![1])
    const server = { port }
    expect(printed).toMatch(/^ {2}device +hailo8 \(software\)$/m)
    expect((await ask(server, 'GET /healthz')).json).toMatchObject({
      mode: 'hailo',
      device: 'hailo8 (software)',
      fallback: null,
    })
    expect((await ask(server, 'GET /status')).json).toMatchObject({
      hailort_available: true,
      device: { name: 'hailo8 (software)', library_version: '4.23.0' },
    })
    expect(String((await ask(server, 'GET /metrics')).body)).toMatch(
      /^hailo_model_info\{.*device="hailo8 \(software\)"\} 1$/m,
    )
    await until(() => /"name":"hailo8 \(software\)".*"msg":"device found"/.test(printed))
    const answer = await postWindow(server, windowOf(0))
    expect(answer.headers['x-inference-backend']).toBe('hailo')
  })

  test('device metrics: temperature, clock, throttling and utilisation, without asking a worker', async () => {
    const { server, device } = await startHailo()
    expect(await metric(server.port, 'hailo_device_temperature_celsius', '0000:01:00.0')).toBeCloseTo(48.5)
    expect(await metric(server.port, 'hailo_device_clock_hertz')).toBe(400e6)
    await device('temperature=106.5')
    await until(async () => (await metric(server.port, 'hailo_device_clock_hertz')) < 400e6)
    await until(async () => (await metric(server.port, 'hailo_device_temperature_celsius')) === 106.5)
    expect((await ask(server, 'GET /status')).json.device).toMatchObject({ throttled: true })
    expect(await metric(server.port, 'hailo_device_throttled')).toBe(1)
    await untilSound(server) // slower, and still right

    await device('temperature=50')
    await until(async () => (await metric(server.port, 'hailo_device_clock_hertz')) === 400e6)
    let more = true
    const load = closedLoop({
      port: server.port,
      clients: 4,
      more: () => more,
      request: connection => connection.post(windowOf(3)),
    })
    await until(async () => (await metric(server.port, 'hailo_device_utilization_percent')) > 20)
    more = false
    await load
    await until(async () => (await metric(server.port, 'hailo_device_utilization_percent')) < 1)
  })

  test('a queue of two windows never overflows, however many windows come', async () => {
    const { server } = await startHailo({ WORKERS: '2', SOFTHAILORT_TIMING: 'depth=2' })
    const end = Date.now() + 1500
    let right = 0
    const outcomes = await closedLoop({
      port: server.port,
      clients: 32,
      more: () => Date.now() < end,
      request: async connection => {
        const window = Math.floor(Math.random() * 64)
        const answer = await connection.post(windowOf(window), { deadlineMs: 3000 })
        const result = new Float32Array(Uint8Array.from(answer.body).buffer)
        if (answer.status === 200 && isRight(result, window)) right++
        return answer
      },
    })
    expect(new Set(outcomes.flat())).toEqual(new Set([200]))
    expect(right).toBe(outcomes.flat().length)
    expect(right).toBeGreaterThan(500)
    expect(await metric(server.port, 'hailo_worker_restarts_total')).toBe(0)
  })

  // Each row: what happens to the device, and how that looks while it lasts. Two streams that fail in a row, or a device
  // that is gone, cost the vdevice: it is opened anew.
  describe('what the device does, and how the service comes back without a restart', () => {
    test.each<{
      event: string
      faults: string
      env?: Record<string, string>
      /** What a window that is on the device meanwhile is answered. */
      answered: readonly string[]
      readyz: RegExp
      healed?: string
      /** How much longer it lasts: until a second stream has failed too. */
      lastsMs?: number
    }>([
      {
        event: 'a read of a vstream times out',
        faults: 'stall',
        env: { HAILO_IO: 'vstream' },
        lastsMs: 1500,
        answered: ['deadline_exceeded', 'model_unavailable'],
        readyz: /no worker: timeout/,
      },
      {
        event: 'a raw transfer never completes',
        faults: 'drop',
        answered: ['deadline_exceeded', 'model_unavailable'],
        readyz: /no worker: (timeout|device_lost)/,
      },
      {
        event: 'completions are held and then come late',
        faults: 'stall',
        lastsMs: 1500,
        answered: ['deadline_exceeded', 'model_unavailable'],
        readyz: /no worker: timeout/,
      },
      {
        event: 'the chip shuts its dataflow down for heat',
        faults: 'temperature=121',
        answered: ['model_unavailable', 'deadline_exceeded'],
        readyz: /no worker: device_hot: .*121 °C/,
        healed: 'temperature=60',
      },
      {
        event: 'the firmware reports a run-time error',
        faults: 'runtime_error',
        answered: ['deadline_exceeded', 'model_unavailable'],
        readyz: /no worker: (device_lost|timeout)/,
      },
      {
        event: 'the device is unplugged',
        faults: 'unplug',
        answered: ['model_unavailable', 'deadline_exceeded'],
        readyz: /no worker: no_device: No Hailo device/,
      },
      {
        event: 'the device does not answer control calls any more',
        faults: 'control_timeout',
        answered: ['model_unavailable', 'deadline_exceeded'],
        readyz: /no worker: timeout: .*\(87\)/,
      },
      {
        event: 'submits are refused because the queue is full',
        faults: 'fail_submit=82',
        lastsMs: 1500,
        answered: ['model_unavailable'],
        readyz: /no worker: open_failed: .*\(82\)/,
      },
    ])('$event', async ({ faults, env = {}, answered, readyz, healed = '', lastsMs = 0 }) => {
      const { server, device } = await startHailo({ WORKERS: '2', ...env })
      await untilSound(server)
      const generation = await generationOf(server)
      await device(faults)
      const broken = async () => {
        const answer = await postWindow(server, windowOf(0), { 'X-Deadline-Ms': '150' })
        if (answer.status !== 200) expect(answered).toContain(answer.json.error)
        return answer.status !== 200
      }
      await until(broken)
      await until(async () => {
        await postWindow(server, windowOf(1), { 'X-Deadline-Ms': '150' })
        const [ready, health] = await Promise.all([ask(server, 'GET /readyz'), ask(server, 'GET /healthz')])
        // Asked together: a device that opens and then answers nothing is ready for a moment, time and again.
        return readyz.test(String(ready.body)) && health.status === 503
      })
      expect(await metric(server.port, 'hailo_worker_restarts_total')).toBeGreaterThan(0)

      await sleep(lastsMs)
      await device(healed)
      await until(async () => (await ask(server, 'GET /readyz')).status === 200)
      await untilSound(server, 32)
      expect((await ask(server, 'GET /healthz')).json).toMatchObject({
        ok: true,
        device: 'hailo8 (software)',
      })
      await until(async () => (await generationOf(server)) > generation)
    })

    test('an abort costs the streams, not the vdevice', async () => {
      const { server, device } = await startHailo({ SOFTHAILORT_TIMING: 'latency_us=20000' })
      await untilSound(server)
      const inFlight = Promise.all(
        Array.from({ length: 6 }, () => postWindow(server, windowOf(2), { 'X-Deadline-Ms': '2000' })),
      )
      await device('abort')
      await device('')
      for (const { status, json } of await inFlight) {
        if (status !== 200) expect(json.error).toBe('model_unavailable')
      }
      await untilSound(server, 32)
      expect(await metric(server.port, 'hailo_worker_restarts_total', 'cause="stream_lost"')).toBeGreaterThan(
        0,
      )
      expect(await generationOf(server)).toBe(1)
    })

    test('a device that another process holds is waited for, and taken when it is free', async () => {
      const { server, device } = await startHailo({}, { deviceFaults: 'busy', ready: false })
      await untilReadyzSays(server, /no worker: device_in_use: .*`lsof \/dev\/hailo\*`/)
      expect((await postWindow(server, windowOf(0))).status).toBe(503)
      await device('')
      await until(async () => (await ask(server, 'GET /readyz')).status === 200)
      await untilSound(server)
    })

    test.each<[string, { faults?: string }, Record<string, string>, RegExp]>([
      [
        'another driver',
        { faults: 'driver=4.22.0' },
        {},
        /HAILO_INVALID_DRIVER_VERSION \(76\).*libhailort 4\.23\.0/,
      ],
      ['another firmware', { faults: 'firmware' }, {}, /\(16\).*libhailort 4\.23\.0/],
      ['HailoRT 5', {}, { SOFTHAILORT_VERSION: '5.2.0' }, /HailoRT 5\.2\.0, expected 4\.17\.1 to 4\.23/],
      ['no library', {}, { HAILORT_LIB: '/nowhere/libhailort.so' }, /Install HailoRT 4\.17\.1 to 4\.23/],
    ])('%s ends the start with a sentence', async (_, { faults = '' }, env, sentence) => {
      const { env: device } = softDevice(faults)
      await expect(startServer({ ...device, ...env })).rejects.toThrow(sentence)
    })

    test('a HEF for real silicon is refused by the software device before HailoRT sees it', async () => {
      const proto = decodeHef(openContainer(readFileSync(SOFT_HEF)).proto)
      const real = encodeHef({
        ...proto,
        header: { ...proto.header!, architecture: 1, compilerVersion: '3.33.0' },
      })
      const { hefPath } = hefFolder(sealContainer(real, 1), {
        files: { 'motif_head.f32': readFileSync(join(SHIPPED_MODEL_FOLDER, 'motif_head.f32')) },
      })
      await expect(startServer({ ...softDevice().env, HEF_PATH: hefPath })).rejects.toThrow(
        /hef_refused: Cannot use HEF: it is compiled for hailo8p/,
      )
    })

    test('FALLBACK=onnx answers while the device is away, and says so', async () => {
      const { server, device } = await startHailo({ FALLBACK: 'onnx' })
      await untilSound(server)
      await device('unplug')
      await until(async () => {
        const answer = await postWindow(server, windowOf(5), PATIENT)
        return answer.headers['x-inference-backend'] === 'onnx' && answer.status === 200
      })
      expect((await ask(server, 'GET /healthz')).json).toMatchObject({
        ok: true,
        fallback: { from: 'hailo', to: 'onnx' },
      })
      await device('')
      await until(async () => (await ask(server, 'GET /healthz')).json.fallback === null)
      await untilSound(server)
      expect(await metric(server.port, 'hailo_fallback_total', 'to="onnx"')).toBe(1)
    })
  })

  test('SIGTERM under load answers everything and ends at once, with streams on the device', async () => {
    const { server } = await startHailo({ WORKERS: '2' })
    const load = closedLoop({
      port: server.port,
      clients: 8,
      more: () => true,
      request: connection => connection.post(windowOf(7)),
    })
    await until(async () => (await metric(server.port, 'hailo_batch_size_count')) > 100)
    expect(await server.stop('SIGTERM')).toBe(0)
    for (const outcomes of await load) {
      const unexpected = outcomes.filter(
        outcome => ![200, 429, 503, 'stale', 'ECONNREFUSED'].includes(outcome),
      )
      expect(unexpected).toEqual([])
    }
  })
})

test('without the compiled shim, hailo mode says what is missing, and onnx mode does not care', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'uncompiled-'))
  for (const name of ['dist', 'artifacts']) cpSync(name, join(folder, name), { recursive: true })
  cpSync('package.json', join(folder, 'package.json'))
  symlinkSync(join(PROJECT_FOLDER, 'node_modules'), join(folder, 'node_modules'))
  const main = join(folder, 'dist/src/main.js')
  const { code, stderr } = await runProgram(process.execPath, [main], {
    ...softDevice().env,
    SIDECAR_PORT: '0',
  })
  expect(code).toBe(1)
  expect(stderr).toMatch(/it has not been compiled\. Run `npm run native`, which needs a C\+\+ compiler/)
  const child = spawn(process.execPath, [main], {
    env: { SIDECAR_PORT: '0' },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout!, 'data')
})
