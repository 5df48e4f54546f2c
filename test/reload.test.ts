import {
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { realpath } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { loadConfig } from '../src/config.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { ReplaceError } from '../src/engine/replace-error.ts'
import type { Logger } from '../src/log.ts'
import { loadModel, type Model } from '../src/model.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { LinkWatch } from '../src/reload/link-watch.ts'
import { LoadError, ModelLoader } from '../src/reload/model-loader.ts'
import type { ReloadResult, ReloadTrigger } from '../src/reload/outcome.ts'
import { Reloader, type ReloaderOptions } from '../src/reload/reloader.ts'
import { Reloading, type ReloadingFacts } from '../src/reloading.ts'
import { ServedModels } from '../src/served-models.ts'
import { writeDevice } from './faults/device.ts'
import { startHailo } from './hailo.ts'
import { type HefFolder, hefFolder, hefOf, shippedFile, softHefOf } from './hef-file.ts'
import { ask, postWindow, resultOf } from './http-client.ts'
import { metric, startServerForTest, until } from './load.ts'
import {
  differenceOf,
  type Files,
  type ModelVersion,
  type ModelVersions,
  versionsForTest,
} from './model-versions.ts'
import { buildNative, COMPILER } from './native.ts'
import type { TestServer } from './server.ts'
import { linesIn } from './telemetry-folder.ts'
import { windowOf } from './windows.ts'
import { greet, IN_BINARY, IN_JSON, WebSocketClient } from './ws-client.ts'

vi.mock('node:fs/promises', async importOriginal => {
  const original = await importOriginal<typeof import('node:fs/promises')>()
  return { ...original, realpath: vi.fn(original.realpath) }
})

/** Servers, HEFs and golden vectors are made, on machines that do other things too. */
vi.setConfig({ testTimeout: 60_000 })

const LOAD = 'POST /v2/repository/models/tcn_encoder/load'

test('each trigger serves the version that the link leads to, everything tells of it and of no other, and back', async () => {
  const versions = await versionsForTest()
  const { first, second } = versions
  const folder = temporaryFolder()
  const env = { ONNX_PATH: versions.onnxPath, TELEMETRY_DIR: folder, WORKERS: '2', DEADLINE_MS: '5000' }
  const server = await startServerForTest(env)
  await expectServed(server, first, 0)
  expect((await status(server)).last_reload).toBe(null)
  const stream = await WebSocketClient.open(server)
  const before = await greet(stream, IN_JSON)
  expect(before.model_sha256).toBe(first.sha256)

  versions.turn(second.version)
  await until(async () => (await status(server)).last_reload !== null)
  await expectServed(server, second, 1)
  expect((await status(server)).last_reload).toEqual({
    result: 'replaced',
    reason: null,
    at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
    version: second.version,
  })
  // Who was welcomed by the old model hears of each result which one gave it.
  stream.send(IN_JSON.window(1, windowOf(3)))
  const result = await stream.nextAnswer()
  expect([result.type, result.model_sha256]).toEqual(['result', second.sha256.slice(0, 12)])
  expect(differenceOf(result.bits, second.expected(3))).toBeLessThan(1e-4)
  const welcome = await greet(await WebSocketClient.open(server), IN_BINARY)
  expect(welcome.model_sha256).toBe(second.sha256)

  versions.turn(first.version)
  server.process.kill('SIGHUP')
  await until(async () => (await status(server)).model_generation === 2)
  await expectServed(server, first, 2)
  versions.turn(second.version)
  expect((await ask(server, LOAD)).status).toBe(200)
  await expectServed(server, second, 3)
  expect((await ask(server, LOAD)).status).toBe(200)
  await expectServed(server, second, 3)
  expect((await status(server)).last_reload).toMatchObject({ result: 'unchanged', version: second.version })

  expect(await reloads(server)).toEqual({
    'replaced link': 1,
    'replaced signal': 1,
    'replaced request': 1,
    'unchanged request': 1,
  })
  expect(await server.stop()).toBe(0)
  const told = linesIn(folder).map(line => 'model_sha256' in line && line.model_sha256)
  expect(told.filter((sha256, line) => sha256 !== told[line - 1])).toEqual([
    first.sha256,
    second.sha256,
    first.sha256,
    second.sha256,
  ])
})

test('a bad version changes nothing and says why, whatever is wrong with it', async () => {
  const versions = await versionsForTest()
  const { first } = versions
  const server = await startServerForTest({ ONNX_PATH: versions.onnxPath, WORKERS: '1', DEADLINE_MS: '5000' })
  for (const [name, { files, changes, spoil, reason }] of Object.entries(badVersions(versions))) {
    versions.add(name, files, changes)
    spoil?.(join(dirname(dirname(versions.onnxPath)), name))
    versions.turn(name)
    const refused = await ask(server, LOAD)
    expect([name, refused.status, refused.json.error]).toEqual([name, 409, expect.stringMatching(reason)])
    const { result, reason: told, version } = (await status(server)).last_reload
    expect([name, result, told, version]).toEqual([
      name,
      'refused',
      expect.stringMatching(reason),
      first.version,
    ])
    await expectServed(server, first, 0)
  }
  expect(await reloads(server)).toEqual({ 'refused request': Object.keys(badVersions(versions)).length })
  // It is the version that was bad: a good one is served.
  versions.turn(versions.second.version)
  expect((await ask(server, LOAD)).status).toBe(200)
  await expectServed(server, versions.second, 1)
})

describe.skipIf(COMPILER === null)('on the software device', () => {
  beforeAll(buildNative, 180_000)

  test('another HEF takes over beside the first on the one device, and bad ones are refused', async () => {
    const [first, second] = [softHefFolder(false), softHefFolder(true)]
    const link = join(temporaryFolder(), 'current')
    const turn = (folder: string) => {
      symlinkSync(folder, `${link}.new`)
      renameSync(`${link}.new`, link)
    }
    turn(first.folder)
    const { server } = await startHailo({
      HEF_PATH: join(link, 'model.hef'),
      WORKERS: '2',
      MODEL_VERSION: 'mine',
      LOG_LEVEL: 'warn',
      DEADLINE_MS: '5000',
    })
    const answerOf = async ({ sha256 }: HefFolder) => {
      const answer = await postWindow(server, windowOf(4))
      expect([answer.status, answer.headers['x-model-sha256']]).toEqual([200, sha256.slice(0, 12)])
      return resultOf(answer)
    }
    const before = await answerOf(first)
    turn(second.folder)
    expect((await ask(server, LOAD)).status).toBe(200)
    await until(() => server.stderr.includes('MODEL_VERSION names this model as it named the last'))
    // Its motif scores are the device's own, in eight bits: near the others, and not the same.
    const after = await answerOf(second)
    expect(after.subarray(0, LATENT_DIMS)).toEqual(before.subarray(0, LATENT_DIMS))
    expect(after).not.toEqual(before)
    expect(differenceOf(after, before)).toBeLessThan(0.1)

    const spoilt = Buffer.from(readFileSync(second.hefPath))
    spoilt[spoilt.length - 100]! ^= 1
    for (const [bad, reason] of [
      [hefFolder(hefOf({ architecture: 103 })), /it is compiled for hailo15h, expected Hailo-8 or Hailo-8L/],
      [hefFolder(spoilt), /model\.hef: .*(checksum|digest|MD5|CRC)/i],
    ] as const) {
      turn(bad.folder)
      const refused = await ask(server, LOAD)
      expect([refused.status, refused.json.error]).toEqual([409, expect.stringMatching(reason)])
      expect(await answerOf(second)).toEqual(after)
    }
    turn(first.folder)
    server.process.kill('SIGHUP')
    await until(async () => (await status(server)).model_generation === 2)
    expect(await answerOf(first)).toEqual(before)
    expect(await server.stop()).toBe(0)
  })
})

test('what was meant while the server waited for its device is served once it is there, and a device that goes for a while costs no version', async () => {
  const away = { fault: { cause: 'no_device', detail: 'nothing at 0000:01:00.0' } } as const
  const start = async () => {
    const folder = temporaryFolder()
    const [link, device] = [join(folder, 'current'), join(folder, 'device.json')]
    const turn = (to: HefFolder) => {
      symlinkSync(to.folder, `${link}.new`)
      renameSync(`${link}.new`, link)
    }
    const [first, second] = [hefFolder(), hefFolder(hefOf({ compilerVersion: '3.30.0' }))]
    turn(first)
    writeDevice(device, away)
    const server = await startServerForTest(
      { HEF_PATH: join(link, 'model.hef'), HAILO_DEVICE_ID: device, WORKERS: '1' },
      { faults: true, ready: false },
    )
    return { server, device, first, second, turn }
  }
  const [turned, told] = await Promise.all([start(), start()])
  turned.turn(turned.second)
  told.server.process.kill('SIGHUP')
  await until(async () => (await status(told.server)).last_reload !== null)
  expect((await status(told.server)).last_reload.reason).toBe(
    'The server is starting. It looks again when it is ready',
  )
  for (const { device } of [turned, told]) writeDevice(device, { fault: null })
  await until(async () => (await status(told.server)).last_reload.result === 'unchanged')
  expect(await reloads(told.server)).toEqual({ 'refused signal': 1, 'unchanged signal': 1 })
  const { server, first, second } = turned
  await until(async () => (await status(server)).model_generation === 1)
  expect((await status(server)).model_sha256).toBe(second.sha256)

  writeDevice(turned.device, away)
  turned.turn(first)
  await until(async () => (await status(server)).last_reload?.result === 'refused')
  expect((await status(server)).last_reload.reason).toContain('no_device')
  writeDevice(turned.device, { fault: null })
  await until(async () => (await status(server)).last_reload.result === 'replaced')
  expect((await status(server)).model_sha256).toBe(first.sha256)
  expect(Object.keys(await reloads(server))).toEqual(['replaced link', 'refused link'])
})

test('LinkWatch tells each time it leads elsewhere, and of nothing once it is stopped', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const [folder, other] = [temporaryFolder(), temporaryFolder()]
  const link = join(folder, 'current')
  symlinkSync(folder, link)
  const watch = new LinkWatch(link)
  await watch.reading()
  const turned = vi.fn()
  watch.watch(turned)
  const looks = async (count: number) => {
    for (let look = 0; look < count; look++) {
      await vi.advanceTimersToNextTimerAsync()
      await vi.waitFor(() => expect(vi.getTimerCount()).toBe(1), { interval: 1 })
    }
  }
  await looks(3)
  expect(turned).not.toHaveBeenCalled()
  rmSync(link)
  symlinkSync(other, link)
  await looks(3)
  expect(turned).toHaveBeenCalledTimes(2) // at the second look, and again as nobody reads
  watch.stop()
  expect(vi.getTimerCount()).toBe(0)
  watch.watch(turned)
  expect(vi.getTimerCount()).toBe(0)
})

test('a SIGHUP that comes before anybody listens is kept for who does, from the first line of main.ts on', async () => {
  const { onHangup } = await import('../src/hangup.ts')
  const listener = vi.fn()
  onHangup(listener)
  onTestFinished(() => void process.off('SIGHUP', listener))
  expect(listener).not.toHaveBeenCalled()
  process.emit('SIGHUP')
  expect(listener).toHaveBeenCalledTimes(1)
  const later = vi.fn()
  onHangup(later)
  onTestFinished(() => void process.off('SIGHUP', later))
  expect(later).toHaveBeenCalledTimes(1)
  const main = readFileSync(join(PROJECT_FOLDER, 'src/main.ts'), 'utf8')
  expect(main).toMatch(/^#!.*\nimport '\.\/hangup\.ts'\n/)
})

test('who waits for a model that is slow to open is told at once that the server drains', async () => {
  const config = loadConfig({})
  const model = await loadModel(config)
  const another = { model: { ...model, sha256: 'another' }, fallback: null, reference: null }
  const load = vi.spyOn(ModelLoader.prototype, 'load').mockResolvedValue(another)
  onTestFinished(() => load.mockRestore())
  const replaceModel = vi.fn(() => new Promise<void>(() => {}))
  const reloading = new Reloading({
    config,
    models: new ServedModels(model, null),
    link: new LinkWatch(null),
    engine: { draining: false, replaceModel },
    metrics: { reloads: { reloaded() {} } },
    witness: { expect() {} },
    readiness: { phase: 'ready' },
    log: { info() {}, warn() {} },
  } as unknown as ReloadingFacts)
  const asked = reloading.reload('request')
  await vi.waitUntil(() => replaceModel.mock.calls.length === 1)
  reloading.drain()
  const answer = await Promise.race([asked, sleep(10_000, 'none', { ref: false })])
  expect(answer).toEqual({ result: 'refused', reason: 'The server is shutting down' })
})

test('a disk that hangs has one look of LinkWatch, which keeps nobody waiting', async () => {
  const looks: ((path: string) => void)[] = []
  const look = vi.mocked(realpath)
  look.mockImplementation(() => new Promise<string>(resolve => looks.push(resolve)))
  onTestFinished(() => void look.mockReset())
  const watch = new LinkWatch('/link')
  await watch.reading()
  await watch.reading()
  expect(looks.length).toBe(1)
  expect(await watch.close()).toBe(false)
  looks[0]!('/file')
  expect(await watch.close()).toBe(true)
})

test('EXPECTED_SHA256 lets no other model in later', async () => {
  const versions = await versionsForTest()
  const { first, second, onnxPath } = versions
  const server = await startServerForTest({
    ONNX_PATH: onnxPath,
    EXPECTED_SHA256: first.sha256,
    DEADLINE_MS: '5000',
    WORKERS: '1',
  })
  versions.turn(second.version)
  const refused = await ask(server, LOAD)
  expect([refused.status, refused.json.error]).toEqual([
    409,
    expect.stringContaining(`EXPECTED_SHA256 ${first.sha256}`),
  ])
  await expectServed(server, first, 0)
})

test('SIGHUP reaches the engine of --supervised, and where there is no model there is no other', async () => {
  const server = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1' }, { args: ['--supervised'] })
  server.process.kill('SIGHUP')
  await until(async () => (await status(server)).last_reload !== null)
  expect(await reloads(server)).toEqual({ 'unchanged signal': 1 })
  expect((await ask(server, LOAD)).status).toBe(200)
  expect(await server.stop()).toBe(0)
})

test('who asks while a model is being read gets one more look, together with all others', async () => {
  const { reloader, looks, options } = await reloaderForTest()
  const [one, ...later] = (['signal', 'request', 'link', 'request'] as const).map(trigger =>
    reloader.reload(trigger),
  )
  expect(await one).toEqual({ result: 'unchanged', reason: null })
  expect(await Promise.all(later)).toEqual(later.map(() => ({ result: 'unchanged', reason: null })))
  await reloader.reload('link')
  expect([looks, options.load]).toEqual([
    ['unchanged signal', 'unchanged request', 'unchanged link'],
    expect.toSatisfy(load => load.mock.calls.length === 3),
  ])
})

test.each<[string, Partial<ReloaderOptions>, string]>([
  ['that cannot be read', { load: () => Promise.reject(new LoadError('no such file')) }, 'no such file'],
  [
    'that cannot be opened',
    { handOver: () => Promise.reject(new ReplaceError('no_device', 'gone')) },
    'no_device: gone',
  ],
  ['that meets a bug', { handOver: () => Promise.reject(new TypeError('x is not')) }, 'TypeError: x is not'],
  [
    'of a server that drains',
    { hindrance: () => 'The server is shutting down' },
    'The server is shutting down',
  ],
])('a model %s is refused, and results are of the old one', async (_, options, reason) => {
  const { reloader, models, looks } = await reloaderForTest({ ...options, found: { sha256: 'another' } })
  expect(await reloader.reload('signal')).toEqual({ result: 'refused', reason })
  expect(looks).toEqual(['refused signal'])
  expect([models.generation, models.current.sha256]).toEqual([0, 'first'])
  expect(() => models.of({ backend: 'stub', generation: 1 })).toThrow(/generation 1/)
})

test.each<[string, Partial<Model>, RegExp]>([
  [
    'with other motifs than clients were told of',
    { motifLabels: ['a', 'b'] },
    /it has 2 motifs, expected 12/,
  ],
  ['under another name', { servedName: 'other' }, /it is served as other, expected/],
])('a model %s is refused before it is opened', async (_, found, reason) => {
  const handOver = vi.fn()
  const { reloader } = await reloaderForTest({ handOver, found: { sha256: 'another', ...found } })
  expect(await reloader.reload('signal')).toEqual({
    result: 'refused',
    reason: expect.stringMatching(reason),
  })
  expect(handOver).not.toHaveBeenCalled()
})

test('LinkWatch follows a link that two looks have found turned, and none that is turned on', async () => {
  const folder = temporaryFolder()
  const link = join(folder, 'current')
  const turn = (version: string) => {
    symlinkSync(version, `${link}.new`)
    renameSync(`${link}.new`, link)
  }
  for (const version of ['1', '2', '3']) writeFileSync(join(folder, version), '')
  vi.useFakeTimers({ toFake: ['setTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const turned = vi.fn()
  const watch = new LinkWatch(link)
  turn('1')
  await watch.reading()
  watch.watch(turned)
  const look = async () => {
    vi.advanceTimersByTime(1000)
    // The next one is set once this one is over.
    await vi.waitUntil(() => vi.getTimerCount() === 1)
  }
  turn('2')
  await look()
  turn('3')
  await look()
  expect(turned).not.toHaveBeenCalled()
  await look()
  expect(turned).toHaveBeenCalledTimes(1)
})

test('results that come around a handover are told to be of the model that gave them', async () => {
  const model = await loadModel(loadConfig({ INFER_MODE: 'stub' }))
  const models = new ServedModels({ ...model, sha256: '0' }, null)
  const engine = { generation: 0 }
  models.watch(engine)
  const made = vi.fn(({ sha256 }: { sha256: string }) => `of ${sha256}`)
  const told = models.told(made)
  const of = (generation: number) => told.of({ backend: 'stub', generation })
  for (let generation = 1; generation <= 5; generation++) {
    models.prepare({ model: { ...model, sha256: String(generation) }, fallback: null })
    expect([of(generation - 1), of(generation), models.current.sha256]).toEqual([
      `of ${generation - 1}`,
      `of ${generation}`,
      String(generation - 1),
    ])
    engine.generation++
  }
  made.mockClear()
  for (let result = 0; result < 100; result++) of(5)
  expect(made).not.toHaveBeenCalled()
  expect(of(3)).toBe('of 3')
  expect(() => of(2)).toThrow(/generation 2/)
})

/** A reloader of made-up models. @param found in what lies there, beside what serves */
async function reloaderForTest({
  found = {},
  ...changes
}: Partial<ReloaderOptions> & { found?: Partial<Model> } = {}) {
  const model = await loadModel(loadConfig({ INFER_MODE: 'stub' }))
  const models = new ServedModels({ ...model, sha256: 'first' }, null)
  const engine = { generation: 0 }
  models.watch(engine)
  const looks: string[] = []
  const log = { info: vi.fn(), warn: vi.fn(), error: vi.fn() } as unknown as Logger
  const options: ReloaderOptions = {
    models,
    load: vi.fn(async () => ({
      model: { ...model, sha256: 'first', ...found },
      fallback: null,
      reference: null,
    })),
    hindrance: () => null,
    handOver: async () => void engine.generation++,
    tally: { reloaded: (result: ReloadResult, trigger: ReloadTrigger) => looks.push(`${result} ${trigger}`) },
    log,
    ...changes,
  }
  return { reloader: new Reloader(options), models, looks, options }
}

function softHefFolder(motifs: boolean): HefFolder {
  return hefFolder(softHefOf({ motifs }), { files: { 'motif_head.f32': shippedFile('motif_head.f32') } })
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'reload-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

interface BadVersion {
  readonly files: Files
  /** To the manifest. */
  readonly changes?: object
  /** Done to what has been put there. */
  readonly spoil?: (folder: string) => void
  readonly reason: RegExp
}

function badVersions({ first, second, onnxPath }: ModelVersions): Record<string, BadVersion> {
  const { files } = second
  const [onnx, motifs] = [onnxPath.split('/').at(-1)!, 12]
  const text = Buffer.from('put the model here')
  const garbage = Buffer.from(files[onnx]!.map((byte, at) => (at < 64 ? byte : byte ^ 0x55)))
  const file = (name: string) => (folder: string) => join(folder, name)
  const { 'golden.json': _, ...withoutGolden } = files
  return {
    truncated: {
      files,
      spoil: folder => truncateSync(file(onnx)(folder), 1000),
      reason: /of 1000 bytes, expected/,
    },
    'other-bytes': {
      files,
      spoil: folder => writeFileSync(file(onnx)(folder), garbage),
      reason: /sha256 \w+, expected/,
    },
    text: { files: { ...files, [onnx]: text }, reason: /18 bytes of text, expected an ONNX model/ },
    garbage: { files: { ...files, [onnx]: garbage }, reason: /./ },
    missing: {
      files,
      spoil: folder => rmSync(file(onnx)(folder)),
      reason: /no such file, expected an ONNX model/,
    },
    'no-manifest': {
      files,
      spoil: folder => rmSync(file('model.json')(folder)),
      reason: /model\.json: no such file/,
    },
    'no-golden-file': {
      files,
      spoil: folder => rmSync(file('golden_latent.f32')(folder)),
      reason: /golden_latent\.f32: no such file/,
    },
    'no-golden': { files: withoutGolden, reason: /it brings no golden vectors, expected some/ },
    'wrong-golden': {
      files: { ...first.files, [onnx]: files[onnx]! },
      reason: /wrong_answers: .*latent cosines from/,
    },
    'other-motifs': {
      changes: { motif_labels: Array.from({ length: motifs - 4 }, (_, n) => `m${n}`) },
      files,
      reason: /motif/,
    },
    'other-name': {
      files,
      changes: { served_name: 'other' },
      reason: /it is served as other, expected tcn_encoder/,
    },
    'other-input': {
      files,
      changes: { input: { name: 'imu', window: 50, channels: 9 } },
      reason: /input\.window is 50/,
    },
  }
}

async function status(server: TestServer) {
  return (await ask(server, 'GET /status')).json
}

/** What answers, and what tells of what answers: all of that one version, and nothing of another. */
async function expectServed(server: TestServer, model: ModelVersion, generation: number): Promise<void> {
  const { version, sha256 } = model
  const short = sha256.slice(0, 12)
  for (const headers of [
    {},
    { 'Content-Type': 'application/octet-stream', Accept: 'application/octet-stream' },
  ]) {
    const answer = await postWindow(server, windowOf(2), headers)
    expect([answer.status, answer.headers['x-model-sha256']]).toEqual([200, short])
    expect(differenceOf(resultOf(answer), model.expected(2))).toBeLessThan(1e-4)
  }
  const body = JSON.stringify({ imu_window: Array.from({ length: 100 }, () => Array(9).fill(1)) })
  const encoded = await ask(server, 'POST /encode', { headers: { 'Content-Type': 'application/json' }, body })
  expect([encoded.json.model_version, encoded.headers['x-model-sha256']]).toEqual([version, short])

  expect(await status(server)).toMatchObject({
    model_version: version,
    model_sha256: sha256,
    model_generation: generation,
  })
  expect((await ask(server, 'GET /healthz')).json).toMatchObject({
    status: 'ok',
    version,
    hef_sha256: sha256,
  })
  expect((await ask(server, 'GET /')).json.config).toMatchObject({
    model_version: version,
    model_sha256: sha256,
  })
  expect((await ask(server, 'GET /live')).json.provenance).toMatchObject({
    model_version: version,
    model_sha256: { onnx: sha256 },
  })
  expect((await ask(server, 'GET /v2/models/tcn_encoder')).json.versions).toEqual([version])
  expect((await ask(server, `GET /v2/models/tcn_encoder/versions/${version}/ready`)).status).toBe(200)
  const { json } = await ask(server, 'GET /openapi.json')
  expect(JSON.stringify(json.paths['/v2/models/{model}/versions/{version}'])).toContain(
    `"enum":["${version}"]`,
  )

  expect(await metric(server.port, 'hailo_model_generation')).toBe(generation)
  for (const [name, label] of [
    ['hailo_build_info', `hef_sha="${sha256}"`],
    ['hailo_config_ok', `actual="${sha256}"`],
    ['hailo_model_loaded', `version="${version}"`],
  ] as const) {
    expect([name, await metric(server.port, name), await metric(server.port, name, label)]).toEqual([
      name,
      1,
      1,
    ])
  }
}

/** Those that there were, by result and trigger. */
async function reloads(server: TestServer): Promise<Record<string, number>> {
  const { body } = await ask(server, 'GET /metrics')
  const rows = body
    .toString()
    .matchAll(/^hailo_model_reloads_total\{result="(\w+)",trigger="(\w+)"\} (\d+)$/gm)
  const counted = Array.from(
    rows,
    ([, result, trigger, count]) => [`${result} ${trigger}`, Number(count)] as const,
  )
  return Object.fromEntries(counted.filter(([, count]) => count > 0))
}
