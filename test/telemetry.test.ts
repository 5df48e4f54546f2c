import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { SLOT, WINDOW } from '../bench/micro/answered.ts'
import { monotonicMs } from '../src/clock.ts'
import { perBackend } from '../src/core/backend.ts'
import { LEVEL } from '../src/core/degradation.ts'
import { topOf } from '../src/core/golden.ts'
import type { Slot } from '../src/core/slot.ts'
import type { OnnxModel } from '../src/core/stream-task.ts'
import { LATENT_DIMS, WINDOW_BYTES } from '../src/core/window.ts'
import type { Logger } from '../src/log.ts'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { certaintyOf } from '../src/telemetry/certainty.ts'
import { TelemetryCounters } from '../src/telemetry/counters.ts'
import type { AnswerLine } from '../src/telemetry/line.ts'
import { KeptLine } from '../src/telemetry/line.ts'
import { Pace } from '../src/telemetry/pace.ts'
import { RecordRing } from '../src/telemetry/record-ring.ts'
import { Recorder } from '../src/telemetry/recorder.ts'
import type { Telemetry } from '../src/telemetry/telemetry.ts'
import type { Reading } from '../workers/telemetry/lines.ts'
import { Scrutiny } from '../workers/telemetry/scrutiny.ts'
import { startHailo } from './hailo.ts'
import { ask, bytesOf, JSON_TYPE, OCTET_STREAM, postWindow, resultOf } from './http-client.ts'
import { metric, startServerForTest, until } from './load.ts'
import { COMPILER } from './native.ts'
import { ORIGIN } from './origin.ts'
import { filesIn, folderForTest, keptIn, linesIn } from './telemetry-folder.ts'
import { inferBinary, outputsOf } from './v2.ts'
import { GOLDEN, MOTIF_COUNT, windowOf } from './windows.ts'
import { greet, IN_BINARY, WebSocketClient } from './ws-client.ts'

const BINARY = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
/** Of the thread, after an error of the disk. */
const RETRY_DELAY_MS = 1000
const PATIENT = { DEADLINE_MS: '5000', WORKERS: '1' }
const ONNX_SHA256 = '75f3ac60d958f80e05f27e3f343a4c8ed99ea9ce46c9d26bdc48a09788002a0e'

test('every answer gets a line that says what its client got, however it was asked', async () => {
  const folder = folderForTest()
  const server = await startServerForTest({ TELEMETRY_DIR: folder, CONFIG_VERSION: 'c7', ...PATIENT })
  const scores: Float32Array[] = []

  const json = await postWindow(server, windowOf(0), { 'X-Request-ID': 'as-json' })
  const binary = await postWindow(server, windowOf(23), { ...BINARY, 'X-Request-ID': 'as-bytes' })
  scores.push(scoresOf(resultOf(json)), scoresOf(resultOf(binary)))
  const bulk = await ask(server, 'POST /infer', {
    headers: { ...BINARY, 'X-Request-ID': 'bulk' },
    body: Buffer.concat([bytesOf(windowOf(2)), bytesOf(windowOf(3))]),
  })
  const rows = new Float32Array(Uint8Array.from(bulk.body).buffer)
  scores.push(scoresOf(rows.subarray(0, 76)), scoresOf(rows.subarray(76)))
  const v2 = await inferBinary(server, [windowOf(4)], { headers: { 'X-Request-ID': 'v2' } })
  const { motif_scores = [] } = outputsOf(v2)
  scores.push(Float32Array.from(motif_scores))
  const stream = await WebSocketClient.open(server, { headers: { 'X-Request-ID': 'stream' } })
  await greet(stream, IN_BINARY, { first: 40 })
  stream.send(IN_BINARY.window(40, windowOf(5)))
  scores.push(scoresOf((await stream.nextAnswer()).bits))
  await ask(server, 'POST /infer', {
    headers: { 'Content-Type': JSON_TYPE, 'X-Request-ID': 'bad' },
    body: '{}',
  })

  await until(async () => (await metric(server.port, 'hailo_telemetry_lines_total')) === 7)
  const lines = linesIn(folder)
  expect(
    lines.map(line => [line.request_id, line.endpoint, line.stream, line.sequence, line.status]),
  ).toEqual([
    ['as-json', '/infer', 0, 0, 'ok'],
    ['as-bytes', '/infer', 0, 0, 'ok'],
    ['bulk', '/infer', 0, 0, 'ok'],
    ['bulk', '/infer', 0, 1, 'ok'],
    ['v2', expect.stringContaining('/v2/models/'), 0, 0, 'ok'],
    ['stream', '/stream', 1, 40, 'ok'],
    ['bad', '/infer', 0, 0, 'invalid_window'],
  ])
  answersOf(lines).forEach((line, index) => {
    const { top, confidence, entropy, margin } = certaintyOf(scores[index]!, 3)
    expect(line).toMatchObject({ backend: 'onnx', model_sha256: ONNX_SHA256, config_version: 'c7' })
    expect(line.top_motifs.map(motif => motif.index)).toEqual(top)
    expect(line.confidence).toBeCloseTo(confidence, 5)
    expect(line.entropy).toBeCloseTo(entropy, 5)
    expect(line.margin).toBeCloseTo(margin, 5)
    const { total, ...stages } = line.latency_ms
    const sum = Object.values(stages).reduce((sum, stage) => sum + stage, 0)
    expect(Math.abs(total - sum)).toBeLessThan(0.1)
    expect(Math.abs(Date.parse(line.time) - Date.now())).toBeLessThan(20_000)
  })
  expect(answersOf(lines)[1]!.top_motifs[0]!.label).toBe('phone_turning_right')
  expect(await metric(server.port, 'hailo_telemetry_dropped_total')).toBe(0)
})

test('certaintyOf() agrees with the trained model about its golden windows', () => {
  const logits = new Float32Array(
    Uint8Array.from(readFileSync(join(SHIPPED_MODEL_FOLDER, 'golden_motif_logits.f32'))).buffer,
  )
  for (let n = 0; n < GOLDEN.count; n++) {
    const row = [...logits.subarray(n * MOTIF_COUNT, (n + 1) * MOTIF_COUNT)].sort((a, b) => b - a)
    const partition = row.reduce((sum, logit) => sum + Math.exp(logit), 0)
    const shares = row.map(logit => Math.exp(logit) / partition)
    const nats = shares.reduce((sum, share) => sum - share * Math.log(share), 0)
    const found = certaintyOf(GOLDEN.motifScores.subarray(n * MOTIF_COUNT, (n + 1) * MOTIF_COUNT), 3)
    expect(found.confidence).toBeCloseTo(shares[0]!, 5)
    expect(found.margin).toBeCloseTo(shares[0]! - shares[1]!, 5)
    expect(found.entropy).toBeCloseTo(nats / Math.log(MOTIF_COUNT), 5)
  }
})

test('certaintyOf() is 0 for one motif alone, 1 for all alike, and never no number', () => {
  expect(certaintyOf(Float32Array.of(0, 1, 0), 3)).toEqual({
    top: [1, 0, 2],
    confidence: 1,
    entropy: 0,
    margin: 1,
  })
  expect(certaintyOf(Float32Array.of(0.25, 0.25, 0.25, 0.25), 3).entropy).toBeCloseTo(1, 12)
  expect(certaintyOf(Float32Array.of(0, 0), 3)).toMatchObject({ entropy: 1, margin: 0 })
  expect(certaintyOf(Float32Array.of(0.7), 3)).toMatchObject({ top: [0], entropy: 0 })
})

test('TELEMETRY_SAMPLE=0 writes no answers, but errors, and keeps what is worth a label', async () => {
  const folder = folderForTest()
  const server = await startServerForTest({ TELEMETRY_DIR: folder, TELEMETRY_SAMPLE: '0', ...PATIENT })
  const turn = inDegrees(windowOf(23))
  for (let n = 0; n < 30; n++) {
    const { status } = await postWindow(server, n === 7 ? turn : windowOf(n), BINARY)
    expect(status).toBe(200)
  }
  await ask(server, 'POST /infer', { body: '{}' })
  await until(async () => (await metric(server.port, 'hailo_telemetry_lines_total')) > 0)

  expect(linesIn(folder).map(({ status }) => status)).toEqual(['invalid_window'])
  const kept = keptIn(folder).map(line => KeptLine.parse(line))
  const suspect = kept.filter(({ reasons }) => reasons.includes('suspect_units'))
  expect(suspect).toHaveLength(1)
  expect(samplesOf(folder, suspect[0]!.row)).toEqual(turn)
  expect(await metric(server.port, 'hailo_telemetry_kept_total', 'suspect_units')).toBe(1)
  // Whatever else is kept says why, by the scores that are beside it.
  for (const { reasons, margin, entropy, motif_scores } of kept) {
    const again = certaintyOf(Float32Array.from(motif_scores), 3)
    expect(again.margin).toBeCloseTo(margin, 4)
    expect(reasons.includes('low_margin')).toBe(margin < 0.1)
    expect(reasons.includes('high_entropy')).toBe(entropy > 0.5)
  }
})

test('windows that the stub has answered are not looked at', () => {
  const ring = new RecordRing()
  const recorder = new Recorder(ring, new TelemetryCounters(), 0)
  recorder.windowAnswered(WINDOW, SLOT, 0, 0)
  expect(ring.waiting).toBe(0)
  const { input, output, publishedMs, queueWaitMs, inferenceMs } = SLOT
  const slot = { input, output, publishedMs, queueWaitMs, inferenceMs, backend: 'onnx' } as Slot
  recorder.windowAnswered(WINDOW, slot, 0, 0)
  expect(ring.oldest(MOTIF_COUNT)).toMatchObject({ forLine: false, forLook: true })
})

test('under load one answer in ten gets a line, and every one is looked at for a label', () => {
  const ring = new RecordRing()
  const counters = new TelemetryCounters()
  const recorder = new Recorder(ring, counters, 1)
  recorder.watch({ level: LEVEL.elevated })
  const { input, output, publishedMs, queueWaitMs, inferenceMs } = SLOT
  const slot = { input, output, publishedMs, queueWaitMs, inferenceMs, backend: 'onnx' } as Slot
  const told = { lines: 0, looks: 0 }
  for (let n = 0; n < 100; n++) {
    recorder.windowAnswered(WINDOW, slot, 10 * n, 10 * n)
    const { forLine, forLook } = ring.oldest(MOTIF_COUNT)!
    told.lines += Number(forLine)
    told.looks += Number(forLook)
    ring.release()
  }
  expect(told).toEqual({ lines: 10, looks: 100 })
  expect(counters.dropped('sampled')).toBe(90)
})

test('a float model that does not answer disagrees with nothing', async () => {
  vi.doMock('../workers/backends/onnx.ts', () => ({
    openOnnx: () => ({ submit() {}, collect: () => 'device_lost' }),
  }))
  const { Reference } = await import('../workers/telemetry/reference.ts')
  const reference = new Reference({} as OnnxModel, MOTIF_COUNT, () => expect.unreachable())
  const output = new Float32Array(LATENT_DIMS + MOTIF_COUNT).fill(1)
  expect(await reference.disagrees(windowOf(0), output, 0)).toBe(false)
})

test('TELEMETRY_SAMPLE=0.5 writes about half of the answers', async () => {
  const folder = folderForTest()
  const env = { TELEMETRY_DIR: folder, TELEMETRY_SAMPLE: '0.5', INFER_MODE: 'stub', ...PATIENT }
  const server = await startServerForTest(env)
  const body = Buffer.concat(Array.from({ length: 400 }, (_, n) => bytesOf(windowOf(n % 64))))
  await ask(server, 'POST /infer', { headers: BINARY, body })
  await ask(server, 'POST /infer', { body: '{}' })
  await until(() => linesIn(folder).at(-1)?.status === 'invalid_window') // behind all others
  const { length } = answersOf(linesIn(folder))
  expect(length).toBeGreaterThan(120) // eight standard deviations of 10 below 200
  expect(length).toBeLessThan(280)
})

test('1,024 records wait for the thread, more are counted as lost, and close() writes all that waits', async () => {
  const { telemetry, counters, folder } = await telemetryForTest()
  fail(telemetry, 0, 1100)
  expect(counters.dropped('queue_full')).toBe(1100 - 1024)
  telemetry.start()
  await until(() => counters.lines === 1024)
  fail(telemetry, 1024, 1900) // and the thread looks only later
  expect(await telemetry.close()).toBe(true)
  expect(linesIn(folder).map(line => line.sequence)).toEqual(Array.from({ length: 1900 }, (_, n) => n))
})

test('a thread that failed at a record loses that one alone, and is started again', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const { telemetry, counters, folder, log } = await telemetryForTest()
  const failAt = (sequence: number) => {
    // Nobody can tell the date of this one.
    telemetry.recorder.windowAnswered(WINDOW, SLOT, 0, Number.NaN)
    fail(telemetry, sequence, sequence + 1)
  }
  fail(telemetry, 0, 1)
  failAt(1)
  telemetry.start()
  await until(() => log.error.mock.calls.length === 1)
  expect(linesIn(folder).map(line => line.sequence)).toEqual([0])
  expect(counters.dropped('thread_failed')).toBe(1)

  vi.advanceTimersByTime(5000)
  await until(() => counters.lines === 2)
  failAt(2)
  await until(() => log.error.mock.calls.length === 2)
  fail(telemetry, 3, 7)
  expect(await telemetry.close()).toBe(true) // before it was started once more
  expect(linesIn(folder).map(line => line.sequence)).toEqual([0, 1])
  expect(counters.dropped('thread_failed')).toBe(1 + 1 + 5)
})

test('close() does not wait for a disk that fails until it would be tried again', async () => {
  const { telemetry, counters, folder, log } = await telemetryForTest()
  telemetry.start()
  rmSync(folder, { recursive: true })
  writeFileSync(folder, 'in the way')
  fail(telemetry, 0, 1)
  await until(() => log.warn.mock.calls.length === 1)
  fail(telemetry, 1, 600)
  expect(await Promise.race([telemetry.close(), sleep(RETRY_DELAY_MS / 2, 'still waiting')])).toBe(true)
  expect(counters.dropped('disk_error')).toBeGreaterThanOrEqual(600)
})

test('a refused flood gets a thousand lines at once, and is sampled like answers from then on', () => {
  const ring = new RecordRing()
  const recorder = new Recorder(ring, new TelemetryCounters(), 0)
  let lines = 0
  const drain = () => {
    for (; ring.oldest(MOTIF_COUNT) !== null; ring.release()) lines++
  }
  const startedMs = monotonicMs()
  for (let n = 0; n < 20_000; n++) {
    recorder.windowFailed('overloaded', ORIGIN)
    if (n % 500 === 0) drain()
  }
  drain()
  const refilled = (monotonicMs() - startedMs) / 10 // one every 10 ms
  expect(lines).toBeGreaterThanOrEqual(1000)
  expect(lines).toBeLessThanOrEqual(1001 + refilled)
})

describe('Scrutiny', () => {
  const latentOf = (n: number) =>
    GOLDEN.latents.subarray((n % 64) * LATENT_DIMS, ((n % 64) + 1) * LATENT_DIMS)
  /** The model is sure of it. */
  const read = (latent: Float32Array): Reading => ({
    latent,
    scores: Float32Array.of(1, 0),
    certainty: { top: [0], confidence: 1, entropy: 0, margin: 1 },
  })

  test('finds a latent far that is unlike all before, once it has seen enough, and gets used to it', () => {
    const scrutiny = new Scrutiny()
    const far = latentOf(0).map(value => value + 5)
    expect(scrutiny.reasonsOf('onnx', windowOf(0), read(far))).toEqual([])
    for (let n = 0; n < 640; n++)
      expect(scrutiny.reasonsOf('onnx', windowOf(0), read(latentOf(n)))).toEqual([])
    expect(scrutiny.reasonsOf('onnx', windowOf(0), read(far))).toEqual(['far_latent'])
    for (let n = 0; n < 2000; n++) scrutiny.reasonsOf('onnx', windowOf(0), read(far))
    expect(scrutiny.reasonsOf('onnx', windowOf(0), read(far))).toEqual([])
  })

  test('finds nothing far after the same window for hours, but what is', () => {
    const scrutiny = new Scrutiny()
    for (let n = 0; n < 5000; n++) scrutiny.reasonsOf('onnx', windowOf(0), read(latentOf(0)))
    const nearly = latentOf(0).map(value => value * 1.01)
    expect(scrutiny.reasonsOf('onnx', windowOf(0), read(nearly))).toEqual([])
    expect(scrutiny.reasonsOf('onnx', windowOf(0), read(latentOf(30)))).toEqual(['far_latent'])
  })

  test('does not take what another backend says for far', () => {
    const scrutiny = new Scrutiny()
    for (let n = 0; n < 640; n++) scrutiny.reasonsOf('hailo', windowOf(0), read(latentOf(n)))
    const other = read(latentOf(0).map(value => value + 5))
    expect(scrutiny.reasonsOf('onnx', windowOf(0), other)).toEqual([])
    expect(scrutiny.reasonsOf('hailo', windowOf(0), other)).toEqual(['far_latent'])
  })

  test('keeps twenty of a broken sensor and one a minute from then on, and still what has another reason', () => {
    const scrutiny = new Scrutiny()
    const keptWithin = (fromMs: number, toMs: number) => {
      let kept = 0
      for (let ms = fromMs; ms < toMs; ms += 500) if (scrutiny.mayKeep(['suspect_units'], ms)) kept++
      return kept
    }
    expect(keptWithin(0, 30_000)).toBe(20)
    expect(scrutiny.mayKeep(['suspect_units', 'low_margin'], 30_000)).toBe(true)
    expect(scrutiny.mayKeep([], 30_000)).toBe(false)
    expect(keptWithin(60_000, 3_660_000)).toBe(60)
  })
})

test('Pace lets a burst through, then its rate, and no more after a long pause', () => {
  const pace = new Pace({ everyMs: 10, burst: 3 })
  const taken = (nowMs: number) => [1, 2, 3, 4, 5].filter(() => pace.take(nowMs)).length
  expect([taken(0), taken(9), taken(10), taken(30), taken(1e9)]).toEqual([3, 0, 1, 2, 3])
})

describe.skipIf(COMPILER === null)('with a device', () => {
  test('windows of which the float model says something else are kept, one a second at most', async () => {
    const folder = folderForTest()
    // The same model, fed otherwise: what it says differs from the device, as that of a broken device would.
    const artifacts = folderForTest()
    cpSync(join(SHIPPED_MODEL_FOLDER, 'model_dynamic.onnx'), join(artifacts, 'model_dynamic.onnx'))
    const manifest = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'))
    manifest.normalization.std = manifest.normalization.std.map((std: number) => std * 3)
    delete manifest.files['golden.json']
    writeFileSync(join(artifacts, 'model.json'), JSON.stringify(manifest))
    const { server } = await startHailo({
      TELEMETRY_DIR: folder,
      ONNX_PATH: join(artifacts, 'model_dynamic.onnx'),
      ...PATIENT,
    })
    const body = Buffer.concat([0, 1, 2, 3].map(n => bytesOf(windowOf(n)))) // all within a second
    await ask(server, 'POST /infer', { headers: BINARY, body })
    await until(async () => (await metric(server.port, 'hailo_telemetry_lines_total')) === 4)
    const kept = keptIn(folder).filter(({ reasons }) => reasons.includes('reference_disagrees'))
    expect(kept).toMatchObject([{ backend: 'hailo', sequence: 0 }])
    expect(samplesOf(folder, kept[0]!.row)).toEqual(windowOf(0))
    expect(await metric(server.port, 'hailo_telemetry_kept_total', 'reference')).toBe(1)
  })

  test('the device agrees with its own float model, and one that is missing is told once', async () => {
    const folder = folderForTest()
    const { server } = await startHailo({ TELEMETRY_DIR: folder, ...PATIENT })
    const lone = await startHailo({
      TELEMETRY_DIR: folderForTest(),
      ONNX_PATH: '/nowhere/model.onnx',
      LOG_LEVEL: 'warn',
      ...PATIENT,
    })
    for (const each of [server, lone.server]) {
      await postWindow(each, windowOf(0), BINARY)
      await until(async () => (await metric(each.port, 'hailo_telemetry_lines_total')) === 1)
    }
    await until(() => lone.server.stderr.includes('/nowhere/model.onnx: no such file'))
    expect(lone.server.stderr.match(/cannot compare the device with the float model/g)).toHaveLength(1)
    expect(linesIn(folder)).toMatchObject([
      { backend: 'hailo', top_motifs: [{ index: topMotifOf(0) }, {}, {}] },
    ])
    expect(filesIn(folder, 'kept')).toEqual([])
  })
})

/** The compiled one: its thread is. */
async function telemetryForTest() {
  const { Telemetry }: typeof import('../src/telemetry/telemetry.ts') = await import(
    resolve('dist/src/telemetry/telemetry.js')
  )
  const folder = folderForTest()
  const motifLabels = Array.from({ length: MOTIF_COUNT }, (_, n) => `motif ${n}`)
  const sha256 = perBackend(() => '')
  const facts = {
    generation: 0,
    motifLabels,
    configVersion: '1',
    sha256,
    normalisation: null,
    reference: null,
  }
  const config = { folder, sample: 1, budgetBytes: 1e9 }
  const counters = new TelemetryCounters()
  const log = { info: vi.fn(), warn: vi.fn(), error: vi.fn() }
  const telemetry = new Telemetry(config, { facts, counters, log: log as unknown as Logger })
  return { telemetry, counters, folder, log }
}

function fail({ recorder }: Telemetry, from: number, to: number): void {
  for (let sequence = from; sequence < to; sequence++) {
    recorder.windowFailed('draining', { ...ORIGIN, sequence })
  }
}

function answersOf(lines: ReturnType<typeof linesIn>): AnswerLine[] {
  return lines.filter((line): line is AnswerLine => 'backend' in line)
}

function scoresOf(result: Float32Array): Float32Array {
  return result.subarray(LATENT_DIMS)
}

function topMotifOf(n: number): number {
  return topOf(GOLDEN.motifScores.subarray(n * MOTIF_COUNT, (n + 1) * MOTIF_COUNT))
}

/** As if its gyroscope told degrees; a tenth of them, for the rest would be out of range. */
function inDegrees(window: Float32Array): Float32Array {
  return window.map((value, index) => (index % 9 >= 3 && index % 9 < 6 ? value * 10 : value))
}

/** Of the first file of kept windows. */
function samplesOf(folder: string, row: number): Float32Array {
  const name = filesIn(folder, 'kept').find(name => name.endsWith('.f32'))!
  const bytes = readFileSync(join(folder, name)).subarray(row * WINDOW_BYTES, (row + 1) * WINDOW_BYTES)
  return new Float32Array(Uint8Array.from(bytes).buffer)
}
