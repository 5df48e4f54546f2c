import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { expect, onTestFinished, test, vi } from 'vitest'
import { monotonicMs } from '../src/clock.ts'
import { loadConfig } from '../src/config.ts'
import { WorkerCounters } from '../src/core/counters.ts'
import { type GoldenVectors, goldenWindow } from '../src/core/golden.ts'
import type { Outcome } from '../src/core/outcome.ts'
import { Ring } from '../src/core/ring.ts'
import type { BackendPlan, OnnxModel, StreamTask } from '../src/core/stream-task.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { BackendWatch } from '../src/engine/backend-watch.ts'
import { Canary } from '../src/engine/canary.ts'
import { Engine } from '../src/engine/engine.ts'
import type { GoldenCheck, Observer } from '../src/engine/observer.ts'
import type { ReplacedTask } from '../src/engine/pool.ts'
import type { ReplaceError } from '../src/engine/replace-error.ts'
import { Stream } from '../src/engine/stream.ts'
import { StreamWorker } from '../src/engine/stream-worker.ts'
import { startThreads, type Threads } from '../src/engine/threads.ts'
import { loadModel } from '../src/model.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import type { Backend } from '../workers/backends/backend.ts'
import { openOnnx } from '../workers/backends/onnx.ts'
import { serve } from '../workers/loop.ts'
import { type PretendedDevice, writeDevice } from './faults/device.ts'
import { FAULTS, type Opening, ordering } from './faults/faults.ts'
import { distinctWindow, until } from './load.ts'
import { differenceOf } from './model-versions.ts'
import { COMPILER, SOFT_LIBRARY } from './native.ts'
import { echoPlan } from './programs/echo.ts'
import { GOLDEN, MOTIF_COUNT, publish, ringOf, windowOf } from './windows.ts'

vi.setConfig({ testTimeout: 60_000 })

const WINDOWS = 8
const NOTHING_ASKED = { fallback: null, normalisation: null, selfCheck: null }
/** Nothing may be late here: what is asked is who answers. */
const PATIENT_MS = 60_000

test('under load each window is answered once, by the model of its moment, and never again by an older one', async () => {
  const models = await Promise.all([0, 1, 2].map(modelOf))
  const { engine, lost, threads } = await engineOf(models[0]!)
  const load = new Load(engine)
  for (let generation = 1; generation <= 4; generation++) {
    await load.until(10)
    await engine.replaceModel(models[generation % 3]!)
    expect(engine.generation).toBe(generation)
  }
  await load.until(10)
  const answers = await load.end()

  expect(answers.map(({ outcome }) => outcome)).toEqual(answers.map(() => 'ok'))
  for (const stream of engine.streams) {
    const generations = answers.filter(answer => answer.stream === stream).map(({ generation }) => generation)
    expect(generations).toEqual(generations.toSorted((a, b) => a - b))
    expect(new Set(generations)).toEqual(new Set([0, 1, 2, 3, 4]))
  }
  for (const { generation, submittedIn, index, output } of answers) {
    // Who came after the models were changed is answered by the new one, on whatever stream.
    expect(generation).toBeGreaterThanOrEqual(submittedIn)
    expect(differenceOf(output, answerOf(models[generation % 3]!, index))).toBeLessThan(1e-4)
    expect(differenceOf(output, answerOf(models[(generation + 1) % 3]!, index))).toBeGreaterThan(1e-2)
  }
  expect(lost).toEqual([])
  expect(threads.threads.length).toBeLessThanOrEqual(4)
})

/** In what a model is changed for the worse, of what cause it does not take over, and in which words. */
const BAD_MODELS: [string, (model: TestModel, other: TestModel) => Partial<TestModel>, string, RegExp][] = [
  ['answers wrongly', (_, { selfCheck }) => ({ selfCheck }), 'wrong_answers', /best motifs wrong$/],
  [
    'cannot be read',
    ({ model }) => ({ primary: planOf({ ...model, bytes: new Uint8Array(99) }) }),
    'error',
    /./,
  ],
  ['fails in one stream', opening('fail'), 'device_in_use', /^a plan asked for this failure$/],
  ['ends a thread', opening('exit'), 'exit', /^worker exited with code: 1$/],
]

test('a model that cannot take over in every stream changes nothing, and it is told why', async () => {
  const [good, bad] = await Promise.all([modelOf(0), modelOf(1)])
  const { engine, lost } = await engineOf(good)
  const load = new Load(engine)
  for (const [what, change, cause, detail] of BAD_MODELS) {
    const error = await engine.replaceModel({ ...bad, ...change(bad, good) }).catch(error => error)
    expect({ what, error }).toMatchObject({ what, error: { name: 'ReplaceError', cause } })
    expect(error.detail).toMatch(detail)
    expect(engine.generation).toBe(0)
  }
  await load.until(10)
  const answers = await load.end()
  expect(new Set(answers.map(({ outcome, generation }) => `${outcome} ${generation}`))).toEqual(
    new Set(['ok 0']),
  )
  expect(lost).toEqual([])
  await engine.replaceModel(bad)
  expect(engine.generation).toBe(1)
})

test('a worker that hangs when a successor is called is given up, and that one answers what waits', async () => {
  const [first, second] = await Promise.all([modelOf(0), modelOf(1)])
  const { engine, lost } = await engineOf(first)
  const [stream] = engine.streams as [Stream, Stream]
  const { ring } = stream
  const asked: Promise<Answered>[] = []
  const handOver = ring.handOver.bind(ring)
  vi.spyOn(ring, 'handOver').mockImplementationOnce(() => {
    asked.push(ask(engine, stream, distinctWindow(0, FAULTS.hang)))
    const hanging = ring.slot(ring.published - 1)
    while (!hanging.taken) ring.wakeWorker()
    asked.push(ask(engine, stream, windowOf(3)))
    handOver()
  })
  await engine.replaceModel(second)
  const [hanging, behind] = await Promise.all(asked)
  expect(hanging!.outcome).toBe('model_unavailable')
  expect(behind).toMatchObject({ outcome: 'ok', generation: 1 })
  expect(differenceOf(behind!.output, answerOf(second, 3))).toBeLessThan(1e-4)
  expect(lost).toEqual(['stuck'])
})

test('a worker that dies while the next model opens is replaced; later ones are of the new model', async () => {
  const [first, second] = await Promise.all([modelOf(0), modelOf(1)])
  const { engine, lost } = await engineOf(first)
  const [stream] = engine.streams as [Stream, Stream]
  const replaced = engine.replaceModel({ ...second, primary: ordering(second.primary, 'slow') })
  const busy: ReplaceError = await engine.replaceModel(second).catch(error => error)
  expect(busy.cause).toBe('busy')
  expect((await ask(engine, stream, distinctWindow(0, FAULTS.exit))).outcome).toBe('model_unavailable')
  await replaced
  expect(await ask(engine, stream, windowOf(0))).toMatchObject({ outcome: 'ok', generation: 1 })
  expect((await ask(engine, stream, distinctWindow(0, FAULTS.throw))).outcome).toBe('model_unavailable')
  const after = await ask(engine, stream, windowOf(0))
  expect(after).toMatchObject({ outcome: 'ok', generation: 1 })
  expect(differenceOf(after.output, answerOf(second, 0))).toBeLessThan(1e-4)
  expect(lost).toEqual(['exit', 'error'])
})

test('a successor that dies while it waits for the others is called by nobody, and nothing changes', async () => {
  const [first, second] = await Promise.all([modelOf(0), modelOf(1)])
  const { engine, threads } = await engineOf(first)
  const [, stream] = engine.streams as [Stream, Stream]
  // When the second stream's successor is named, that of the first has opened and waits, in the third thread.
  const name = stream.ring.nameSuccessor.bind(stream.ring)
  vi.spyOn(stream.ring, 'nameSuccessor').mockImplementationOnce(() => {
    void threads.threads[2]!.terminate()
    return name()
  })
  const slow = { ...second, primary: ordering(second.primary, 'slow') }
  await expect(engine.replaceModel(slow)).rejects.toMatchObject({ cause: 'exit' })
  expect(await ask(engine, stream, windowOf(0))).toMatchObject({ outcome: 'ok', generation: 0 })
  await engine.replaceModel(second)
  expect(await ask(engine, stream, windowOf(0))).toMatchObject({ outcome: 'ok', generation: 1 })
})

test('while nobody serves, a model that opens takes over, and one that does not changes nothing', async () => {
  const folder = folderForTest()
  const deviceOf = (name: string, { fault }: PretendedDevice) => {
    const deviceId = join(folder, name)
    writeDevice(deviceId, { fault })
    const plan = echoPlan({ library: null, scheduler: 'round_robin', streamCount: 2 }) as HailoPlan
    return { primary: { ...plan, model: { ...plan.model, deviceId } }, ...NOTHING_ASKED }
  }
  const { engine } = await engineOf(deviceOf('first', { fault: null }))
  const [stream] = engine.streams as [Stream, Stream]
  const lost = deviceOf('first', { fault: { cause: 'device_lost', detail: 'gone' } })
  expect((await ask(engine, stream, windowOf(0))).outcome).toBe('model_unavailable')
  await until(() => stream.ring.serving === null)
  await expect(engine.replaceModel(lost)).rejects.toMatchObject({ cause: 'device_lost', detail: 'gone' })
  expect(engine.generation).toBe(0)
  await engine.replaceModel(deviceOf('second', { fault: null }))
  expect(await ask(engine, stream, windowOf(0))).toMatchObject({ outcome: 'ok', generation: 1 })
})

test('an engine that drains while a model opens, and never will, answers everything and ends', async () => {
  const model = await modelOf(0)
  const { engine } = await engineOf(model)
  const load = new Load(engine)
  const replaced = engine
    .replaceModel({ ...model, primary: ordering(model.primary, 'hang') })
    .catch((error: ReplaceError) => error.cause)
  await load.until(10)
  const answers = load.end()
  await engine.drain()
  await engine.close()
  expect(await replaced).toBe('draining')
  expect((await answers).every(({ outcome }) => outcome === 'ok')).toBe(true)
  expect(engine.threadsLeft).toBe(0)
  await expect(engine.replaceModel(model)).rejects.toMatchObject({ cause: 'draining' })
})

test('the canary does not take the answers of a new model for wrong ones of the old, and goes on with its own', async () => {
  const [first, second] = await Promise.all([modelOf(0), modelOf(1)])
  const { engine, lost } = await engineOf(first)
  const checks: GoldenCheck['result'][] = []
  const observer = { goldenChecked: (_: number, { result }: GoldenCheck) => checks.push(result) }
  const goldenOf = () => [first, second][engine.generation]!.selfCheck
  new Canary({ engine, goldenOf, intervalMs: 20, observer }).watch()
  await until(() => checks.includes('passed'))
  // The new model takes over when a window of the old one has just been chosen.
  const infer = engine.infer.bind(engine)
  vi.spyOn(engine, 'infer').mockImplementationOnce(async (...asked) => {
    await engine.replaceModel(second)
    checks.length = 0
    return infer(...asked)
  })
  await until(() => checks.includes('skipped') && checks.includes('passed'))
  expect(checks).not.toContain('failed')
  expect(lost).toEqual([])
})

test('a ring is handed over by a wake, to the successor that was called and to no other', () => {
  const front = ringOf(4)
  const worker = new Ring(front.buffer, MOTIF_COUNT, front.epoch)
  const dismissed = new Ring(front.buffer, MOTIF_COUNT, front.nameSuccessor())
  expect(dismissed.waitForTurn(0)).toBe('waiting')
  const successor = new Ring(front.buffer, MOTIF_COUNT, front.nameSuccessor())
  expect([dismissed.waitForTurn(0), successor.waitForTurn(0)]).toEqual(['dismissed', 'waiting'])
  expect(worker.handingOver).toBe(false)
  front.handOver()
  expect([worker.handingOver, successor.handingOver, successor.waitForTurn(0)]).toEqual([
    true,
    false,
    'waiting',
  ])
  // A worker that has just looked for a call does not go to sleep on it.
  const wait = vi.spyOn(Atomics, 'wait')
  onTestFinished(() => wait.mockRestore())
  worker.waitForWindows(0, 1000)
  expect(wait).not.toHaveBeenCalled()
  worker.letGo()
  expect([successor.waitForTurn(0), worker.superseded, successor.handingOver]).toEqual(['turn', true, false])
  front.supersede()
  expect([successor.superseded, new Ring(front.buffer, MOTIF_COUNT, front.epoch).handingOver]).toEqual([
    true,
    false,
  ])
})

test('a worker that is given up just as it lets go has one successor, which loses nothing', () => {
  const front = ringOf(4)
  const worker = new Ring(front.buffer, MOTIF_COUNT, front.epoch)
  const { epoch } = front
  const successor = new Ring(front.buffer, MOTIF_COUNT, front.nameSuccessor())
  front.handOver()
  worker.letGo()
  publish(front, windowOf(0))
  successor.slot(0).take(0)
  front.supersede(epoch)
  expect([successor.waitForTurn(0), successor.slot(0).taken, front.completed]).toEqual(['turn', true, 0])
})

test('a worker that lets go just as it is given up takes the ring from nobody', () => {
  const front = ringOf(4)
  const worker = new Ring(front.buffer, MOTIF_COUNT, front.epoch)
  const successor = new Ring(front.buffer, MOTIF_COUNT, front.nameSuccessor())
  front.handOver()
  // It has been told to let go, and is given up before it does. The successor is given up in turn.
  front.supersede()
  expect(successor.waitForTurn(0)).toBe('turn')
  front.supersede()
  const { epoch } = front
  front.nameSuccessor()
  front.handOver()
  worker.letGo()
  expect(front.epoch).toBe(epoch)
})

test('a successor that does not come to open, and a worker that does not come to close, are given up', async () => {
  const observer = observerOf([])
  const stream = new Stream({
    capacity: 4,
    motifCount: MOTIF_COUNT,
    observer: { ...observer, windowAnswered() {}, settled() {} },
  })
  const task = {
    motifCount: MOTIF_COUNT,
    primary: { kind: 'stub' as const },
    ...NOTHING_ASKED,
  }
  // Tasks that end when they are aborted, and not before.
  const run = (_: StreamTask, { signal }: { signal: AbortSignal }) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  const worker = new StreamWorker({
    threads: { run } as unknown as Threads,
    stream,
    worker: 0,
    model: { task, generation: 0 },
    observer,
    backends: new BackendWatch([stream], 'stub', observer),
    stop: new AbortController().signal,
  })
  void worker.keepServing(() => {})
  const ringOfWorker = () => new Ring(stream.ring.buffer, MOTIF_COUNT, stream.ring.epoch)
  const nowMs = monotonicMs()
  const watchAfter = (ms: number) => {
    stream.counters.beat(nowMs + ms) // of whoever serves
    worker.abortStuck(nowMs + ms, 0)
  }
  ringOfWorker().setServing('stub')
  const hanging = worker.prepare({ task, generation: 1 })
  watchAfter(59_000)
  watchAfter(61_000)
  await expect(hanging).rejects.toMatchObject({
    cause: 'stuck',
    detail: expect.stringMatching(/not opened its backend/),
  })

  const prepared = worker.prepare({ task, generation: 1 })
  const epoch = stream.ring.epoch + 2 // one was named for the successor that hung
  worker.reported({ worker: 0, epoch, ready: true })
  await prepared
  const handedOver = worker.handOver()
  ringOfWorker().letGo()
  expect(stream.ring.epoch).toBe(epoch)
  worker.reported({ worker: 0, epoch, serving: 'stub', fault: null, device: null })
  watchAfter(61_000)
  watchAfter(65_900)
  expect(await Promise.race([handedOver, nextTurn('closing')])).toBe('closing')
  watchAfter(66_100)
  await handedOver
})

test('serve() ends what it has taken, and leaves all the rest to the successor that was called', async () => {
  const ring = ringOf(8)
  ring.nameSuccessor()
  const submitted: number[] = []
  const backend: Backend = {
    depth: 2,
    ready: 0,
    batchSize: 1,
    failure: null,
    submit: input => submitted.push(input[0]!),
    collect: () => 'ok',
    close: () => {},
  }
  for (let n = 0; n < 2; n++) publish(ring, windowOf(n))
  const look = ring.waitForWindows.bind(ring)
  const found = vi.spyOn(ring, 'waitForWindows').mockImplementationOnce(look)
  found.mockImplementationOnce(() => {
    // It heard of no call when it went to look, and finds windows from before and behind it.
    publish(ring, windowOf(2))
    ring.handOver()
    publish(ring, windowOf(3))
    return 2
  })
  const counters = new WorkerCounters()
  expect(await serve({ ring, backend, kind: 'stub', counters, normalisation: null, generation: 7 })).toBe(
    'handed_over',
  )
  expect(submitted).toEqual([windowOf(0)[0], windowOf(1)[0]])
  expect([ring.completed, ring.slot(2).taken, ring.slot(3).taken]).toEqual([2, false, false])
  expect([ring.slot(0).generation, ring.slot(1).generation]).toEqual([7, 7])
  expect(ring.superseded).toBe(true)
})

test.skipIf(COMPILER === null).each([
  // With that of the start these are 32, which is as many as HailoRT can hold.
  ['round_robin', 33, 31, /held 32 different ones .* before the service is started again$/],
  ['none', 1, 0, /takes HAILO_SCHEDULER=round_robin$/],
])(
  'with scheduler %s, a HEF that the device can hold beside the one that serves takes over, and no other',
  async (...row) => {
    const [scheduler, replacements, generation, words] = row
    const locks = folderForTest()
    const program = join(PROJECT_FOLDER, 'dist/test/programs/replaced-hefs.js')
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [program, SOFT_LIBRARY, String(replacements), scheduler],
      { env: { SOFTHAILORT_LOCK_DIR: locks } },
    )
    expect(JSON.parse(stdout)).toEqual({
      generation,
      refused: [expect.stringMatching(words)],
      wrong: 0,
      losses: 0,
      devices: 1,
    })
  },
)

type HailoPlan = Extract<BackendPlan, { kind: 'hailo' }>

/** What replaces another, and what it answers. */
interface TestModel {
  readonly primary: BackendPlan
  readonly model: OnnxModel
  readonly normalisation: OnnxModel['normalisation']
  readonly selfCheck: GoldenVectors
  readonly fallback: null
}

function folderForTest(): string {
  const folder = mkdtempSync(join(tmpdir(), 'replace-model-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

const MODELS = new Map<number, Promise<TestModel>>()

function modelOf(n: number): Promise<TestModel> {
  const model = MODELS.get(n) ?? makeModel(n)
  MODELS.set(n, model)
  return model
}

/** The shipped network behind a z-score of its own, which makes another model of it, and its own answers. */
async function makeModel(n: number): Promise<TestModel> {
  const { plan } = await loadModel(loadConfig({}))
  if (plan.kind !== 'onnx') throw new Error('the shipped model is not ONNX')
  const { mean, std } = plan.model.normalisation
  const model = { ...plan.model, normalisation: { mean, std: std.map(value => value * (1 + n / 4)) } }
  const backend = await openOnnx(model, MOTIF_COUNT)
  const selfCheck = {
    count: WINDOWS,
    windows: GOLDEN.windows.slice(0, WINDOWS * windowOf(0).length),
    latents: new Float32Array(WINDOWS * LATENT_DIMS),
    motifScores: new Float32Array(WINDOWS * MOTIF_COUNT),
  }
  for (let index = 0; index < WINDOWS; index++) {
    const output = new Float32Array(LATENT_DIMS + MOTIF_COUNT)
    backend.submit(windowOf(index))
    await backend.collect(output)
    selfCheck.latents.set(output.subarray(0, LATENT_DIMS), index * LATENT_DIMS)
    selfCheck.motifScores.set(output.subarray(LATENT_DIMS), index * MOTIF_COUNT)
  }
  await backend.close()
  return { primary: planOf(model), model, normalisation: model.normalisation, selfCheck, fallback: null }
}

function planOf(model: OnnxModel): BackendPlan {
  return { kind: 'onnx', model }
}

function opening(order: Opening) {
  return ({ primary }: TestModel) => ({ primary: ordering(primary, order) })
}

/** What the model answers to the golden window `index`. */
function answerOf({ selfCheck }: TestModel, index: number): Float32Array {
  const { latents, motifScores } = selfCheck
  return Float32Array.of(
    ...latents.subarray(index * LATENT_DIMS, (index + 1) * LATENT_DIMS),
    ...motifScores.subarray(index * MOTIF_COUNT, (index + 1) * MOTIF_COUNT),
  )
}

/** An engine with two streams that serves the model, and of what cause workers were lost. */
async function engineOf({ primary, normalisation, selfCheck, fallback }: ReplacedTask) {
  const lost: string[] = []
  const observer = observerOf(lost)
  const threads = startThreads(new URL('../dist/test/faults/worker.js', import.meta.url), 2, primary.kind)
  const engine = new Engine({
    threads,
    ringSlots: 64,
    task: { motifCount: MOTIF_COUNT, primary, fallback, normalisation, selfCheck },
    observer,
  })
  onTestFinished(() => engine.close())
  await engine.start()
  engine.open()
  return { engine, lost, threads }
}

/** @param lost takes down of what cause workers were lost */
function observerOf(lost: string[]): Observer {
  return {
    inferenceEnded: () => {},
    cancelled: () => {},
    refused: () => {},
    workerLost: (_, { cause }) => lost.push(cause),
    workerServing: () => {},
    poolFailed: error => lost.push(String(error)),
    fallbackStarted: () => {},
    fallbackEnded: () => {},
    deviceChanged: () => {},
  }
}

interface Answered {
  readonly stream: Stream
  readonly outcome: Outcome
  /** Of the model that answered, and of that which served when the window came. */
  readonly generation: number
  readonly submittedIn: number
  /** Of the golden window. */
  readonly index: number
  readonly output: Float32Array
}

function ask(engine: Engine, stream: Stream, window: Float32Array, index = 0): Promise<Answered> {
  stream.ring.nextSlot!.input.set(window)
  const arrivedMs = monotonicMs()
  const submittedIn = engine.generation
  return new Promise(resolve => {
    let answers = 0
    engine.submit(
      stream,
      { arrivedMs, deadlineMs: arrivedMs + PATIENT_MS },
      {
        settle(outcome, { generation, output }) {
          assert.equal(++answers, 1) // thrown inside an event, it fails the run
          resolve({ stream, outcome, generation, submittedIn, index, output: output.slice() })
        },
      },
    )
  })
}

/** Windows at a constant pace, as many as the engine admits. */
class Load {
  readonly #engine: Engine
  readonly #answers: Promise<Answered>[] = []
  readonly #settled: Answered[] = []
  readonly #timer = setInterval(() => this.#submit(), 2)

  constructor(engine: Engine) {
    this.#engine = engine
    onTestFinished(() => clearInterval(this.#timer))
  }

  /** Resolves when every stream has answered so many more. */
  async until(count: number): Promise<void> {
    const answered = () =>
      this.#engine.streams.map(stream => this.#settled.filter(answer => answer.stream === stream).length)
    const before = answered()
    await until(() => answered().every((now, index) => now >= before[index]! + count))
  }

  /** Every answer, in the order in which they came. */
  async end(): Promise<Answered[]> {
    clearInterval(this.#timer)
    await Promise.all(this.#answers)
    return this.#settled
  }

  #submit(): void {
    for (let n = 0; n < 4; n++) {
      const arrivedMs = monotonicMs()
      const stream = this.#engine.admit({ arrivedMs, deadlineMs: arrivedMs + PATIENT_MS })
      if (!(stream instanceof Stream)) return
      const index = this.#answers.length % WINDOWS
      const answer = ask(this.#engine, stream, goldenWindow(GOLDEN, index), index)
      this.#answers.push(answer)
      void answer.then(answered => this.#settled.push(answered))
    }
  }
}
