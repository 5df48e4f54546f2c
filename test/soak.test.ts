import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import { LATENT_DIMS } from '../src/core/window.ts'
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
import { randomOf } from './random.ts'
import { MOTIF_COUNT } from './windows.ts'

/** More clients than slots, in rings that wrap all the time. */
const NARROW = { WORKERS: '2', RING_SLOTS: '8' }
const CLIENTS = 24
const SECONDS = 4
const PATIENT = { deadlineMs: 2000 }
/** One run of the model over several windows adds up in another order than over one. */
const ROUNDING = 1e-4

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
