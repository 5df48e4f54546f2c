import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { GENERATOR } from '../bench/load/load.ts'
import { FAULTS } from '../bench/soak/faults.ts'
import { Observer } from '../bench/soak/samples.ts'
import { startSoaked } from '../bench/soak/server.ts'
import type { Promised } from '../bench/soak/verdict.ts'
import { build } from '../native/build.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { openStub } from '../workers/backends/stub.ts'
import {
  type Answer,
  Connection,
  distinctWindow,
  metric,
  type Outcome,
  post,
  startServerForTest,
  tallyOf,
  until,
} from './load.ts'
import { COMPILER } from './native.ts'
import { randomOf } from './random.ts'
import { childrenOf } from './server.ts'
import { MOTIF_COUNT } from './windows.ts'

/** More clients than slots, in rings that wrap all the time. */
const NARROW = { WORKERS: '2', RING_SLOTS: '8' }
const CLIENTS = 24
const SECONDS = 4
const PATIENT = { deadlineMs: 2000 }
/** One run of the model over several windows adds up in another order than over one. */
const ROUNDING = 1e-4

/** Those of the software device, and of a model that can be another. */
const NOT_OF_A_STUB = FAULTS.map(({ name }) => name).filter(name => /^device|model by/.test(name))

const { SEED = Date.now() % 2 ** 31 } = process.env
const seed = Number(SEED)
beforeAll(() => console.log(`SEED=${seed}`))

test('in stub mode every answer is that of its own window', async () => {
  const { port } = await startServerForTest({ ...NARROW, INFER_MODE: 'stub' })
  const backend = openStub(MOTIF_COUNT)
  const outcomes = await soak(port, sequence => {
    const expected = new Float32Array(LATENT_DIMS + MOTIF_COUNT)
    backend.submit(distinctWindow(sequence))
    backend.collect(expected)
    return { expected, window: distinctWindow(sequence), tolerance: 0 }
  })
  expect(outcomes[200]).toBeGreaterThan(500)
})

test('in onnx mode every answer is that of its own window', async () => {
  const { port } = await startServerForTest(NARROW)
  const alone: Float32Array[] = []
  for (let sequence = 0; sequence < 100; sequence++) {
    alone.push(resultOf(await post(port, distinctWindow(sequence), PATIENT), false))
  }
  for (const [index, result] of alone.entries()) {
    const others = alone.filter((_, other) => other !== index)
    expect(Math.min(...others.map(other => largestDifference(result, other)))).toBeGreaterThan(10 * ROUNDING)
  }
  const outcomes = await soak(port, sequence => {
    const index = sequence % alone.length
    return { expected: alone[index]!, window: distinctWindow(index), tolerance: ROUNDING }
  })
  expect(outcomes[200]).toBeGreaterThan(300)
})

// Its load comes from a generator in C++.
describe.skipIf(COMPILER === null)('npm run soak', () => {
  beforeAll(() => build(GENERATOR), 60_000)

  test('with every fault, loses no window, and no promise is broken', { timeout: 60_000 }, async () => {
    const { code, printed, promises, faults } = await runSoak(3000, { options: ['--all-faults'] })
    expect(brokenAmong(promises), printed).toEqual([])
    expect(code).toBe(0)
    expect(FAULTS.map(({ name }) => name).filter(name => !faults.has(name))).toEqual(NOT_OF_A_STUB)
    const verdicts = Object.fromEntries(promises.map(({ name, verdict }) => [name, verdict]))
    expect(verdicts).toMatchObject({
      'windows lost': 'held',
      'wrong answers': 'held',
      'windows that clients and server count differently': 'held',
      'SIGTERM ends it with 0': 'held',
    })
  })

  test('brings another model by a signal and by the link, which is served, and a bad one, which is not', async () => {
    const server = await startSoaked(null)
    onTestFinished(() => void server.stop())
    for (const fault of FAULTS.filter(({ name }) => NOT_OF_A_STUB.includes(name))) {
      if (!fault.fits(server)) continue // of the device
      await fault.run(server, 0)
    }
    const observer = new Observer(server)
    const reloads = (labels: string) => observer.metric('hailo_model_reloads_total', labels)
    expect(await reloads('result="refused"')).toBe(1)
    expect(await reloads('result="replaced",trigger="signal"')).toBe(1)
    expect(await reloads('result="replaced",trigger="link"')).toBe(1)
  })

  test('SIGTERM leaves neither its server nor its folder behind', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'soak-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const { PATH = '' } = process.env
    const program = join(PROJECT_FOLDER, 'dist/bench/soak/main.js')
    const run = spawn(process.execPath, [program], { env: { PATH, TMPDIR: folder, INFER_MODE: 'stub' } })
    onTestFinished(() => void run.kill('SIGKILL'))
    await until(() => readdirSync(folder).length === 1)
    await until(() => childrenOf(run.pid!).length > 0)
    const [server] = childrenOf(run.pid!)
    run.kill('SIGTERM')
    expect(await once(run, 'exit')).toEqual([143, null])
    expect(readdirSync(folder)).toEqual([])
    await until(() => !existsSync(`/proc/${server}`))
  })

  test('fails where a worker keeps memory of each window', { timeout: 60_000 }, async () => {
    // In a day 100 bytes would show; so few windows need more.
    const options = ['--program', 'dist/test/programs/leaking-server.js']
    const { code, printed, promises } = await runSoak(3000, { options, env: { LEAK_BYTES: '49152' } })
    expect(brokenAmong(promises), printed).toEqual(['rss does not grow'])
    expect(code).toBe(1)
  })
})

/** In stub mode, where a slow machine takes no longer than clients wait. @param windows how many are sent at least */
async function runSoak(
  windows: number,
  { options = [], env }: { options?: readonly string[]; env?: Record<string, string> } = {},
): Promise<{ code: number; printed: string; promises: Promised[]; faults: Set<string> }> {
  const folder = mkdtempSync(join(tmpdir(), 'soak-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const json = join(folder, 'soak.json')
  const { PATH = '' } = process.env
  const [code, printed] = await new Promise<[number, string]>(resolve => {
    const child = execFile(
      process.execPath,
      [
        '--experimental-websocket',
        join(PROJECT_FOLDER, 'dist/bench/soak/main.js'),
        ...['--windows', String(windows), '--seed', String(seed), '--json', json],
        ...options,
      ],
      { env: { PATH, STATE_DIR: folder, INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: '1000', ...env } },
      (_, stdout, stderr) => resolve([child.exitCode!, stdout + stderr]),
    )
  })
  const { promises, rounds } = JSON.parse(readFileSync(json, 'utf8'))
  const faults = new Set<string>(rounds.flatMap(({ fault }: { fault: string | null }) => fault ?? []))
  return { code, printed, promises, faults }
}

function brokenAmong(promises: readonly Promised[]): string[] {
  return promises.filter(({ verdict }) => verdict === 'broken').map(({ name }) => name)
}

interface Case {
  readonly window: Float32Array
  readonly expected: Float32Array
  /** How far a value may be off. */
  readonly tolerance: number
}

/**
 * Many clients post the windows of a running sequence, as JSON or binary as it comes; now and then
 * one goes away in the middle of it. Every answer is compared with what its window must give.
 */
async function soak(port: number, caseOf: (sequence: number) => Case): Promise<Record<Outcome, number>> {
  const random = randomOf(seed)
  const endMs = performance.now() + SECONDS * 1000
  const outcomes: Outcome[] = []
  let sequence = seed
  const client = async () => {
    let connection = new Connection(port)
    while (performance.now() < endMs) {
      const own = sequence++
      const { window, expected, tolerance } = caseOf(own)
      const json = random() < 0.3
      const answer = connection.post(window, { json, ...PATIENT })
      if (random() < 0.05) {
        answer.catch(() => {})
        await sleep(random() * 3)
        connection.close()
        connection = new Connection(port)
        outcomes.push('left')
        continue
      }
      const { status } = await answer
      outcomes.push(status)
      if (status === 200) {
        const off = largestDifference(resultOf(await answer, json), expected)
        expect(off, `sequence ${own}`).toBeLessThanOrEqual(tolerance)
      } else expect(status).toBe(429)
    }
    connection.close()
  }
  await Promise.all(Array.from({ length: CLIENTS }, client))
  await until(async () => (await metric(port, 'hailo_queue_depth')) === 0)
  const tally = tallyOf(outcomes)
  const { left = 0 } = tally
  expect(left).toBeGreaterThan(20)
  return tally
}

function resultOf({ status, body }: Answer, json: boolean): Float32Array {
  expect(status).toBe(200)
  if (!json) return new Float32Array(new Uint8Array(body).buffer)
  const { latent, motif_scores } = JSON.parse(body.toString())
  return Float32Array.of(...latent, ...motif_scores)
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length)
  return Math.max(...a.map((value, index) => Math.abs(value - b[index]!)))
}
