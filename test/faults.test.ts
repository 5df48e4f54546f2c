import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { monotonicMs } from '../src/clock.ts'
import { loadConfig } from '../src/config.ts'
import { WorkerCounters } from '../src/core/counters.ts'
import { cosineOf, topOf } from '../src/core/golden.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { healthz } from '../src/http/health.ts'
import type { Service } from '../src/http/service.ts'
import { loadModel } from '../src/model.ts'
import { ServedModels } from '../src/served-models.ts'
import { FAULTS } from './faults/faults.ts'
import {
  type Answer,
  closedLoop,
  distinctWindow,
  get,
  metric,
  post,
  residentMegabytes,
  startFaultyServer,
  startServerForTest,
  tallyOf,
  until,
  untilInFlight,
} from './load.ts'
import { GOLDEN, MOTIF_COUNT, windowOf } from './windows.ts'

const RESTARTS = 'hailo_worker_restarts_total'
/** Longer than it takes to find a worker stuck and to replace it. */
const PATIENT = { deadlineMs: 9000 }
const MAX_DEADLINE_MS = '9000'

test.each([
  ['throws', FAULTS.throw, 'error'],
  ['ends its thread', FAULTS.exit, 'exit'],
  ['hangs', FAULTS.hang, 'stuck'],
])('a worker that %s loses what it has taken; its successor answers what waits', async (_, order, cause) => {
  const server = await startFaultyServer({ INFER_MODE: 'onnx', MAX_DEADLINE_MS })
  const { port } = server
  // Behind this one the others gather, so that the worker takes 16 of them at once.
  const holding = await server.hold()
  const killing = post(port, distinctWindow(1, order), PATIENT)
  await untilInFlight(port, 2)
  const coming = Array.from({ length: 40 }, async (_, index) => ({
    index,
    answer: await post(port, windowOf(index), PATIENT),
  }))
  await untilInFlight(port, 42)
  server.release()
  const behind = await Promise.all(coming)

  expect((await holding.answer).status).toBe(200)
  expect(await killing).toMatchObject({ status: 503, headers: { 'retry-after': '1' } })
  const lost = behind.filter(({ answer }) => answer.status !== 200)
  expect(lost.length).toBeLessThan(16)
  for (const { answer } of lost) {
    expect(answer.status).toBe(503)
    expect(JSON.parse(answer.body.toString()).error).toBe('model_unavailable')
  }
  for (const { index, answer } of behind) if (answer.status === 200) expectGolden(answer, index)
  await expectService(port)
  // Once: the window that was the end of one worker was not given to the next.
  expect(await metric(port, RESTARTS)).toBe(1)
  expect(await metric(port, RESTARTS, `worker="0",cause="${cause}"`)).toBe(1)
})

test('windows behind hanging workers are answered at their deadline, health and readiness at once', async () => {
  const { port } = await startServerForTest({ WORKERS: '2' }, { faults: true })
  const hanging = await hangWorkers(port, 2)
  expect(hanging.map(({ status }) => status)).toEqual([504, 504])

  const behind = await Promise.all(
    Array.from({ length: 20 }, (_, index) => post(port, distinctWindow(index), { deadlineMs: 400 })),
  )
  for (const { status, tookMs } of behind) {
    expect([429, 504]).toContain(status)
    if (status === 504) expect(tookMs).toBeGreaterThan(390)
    expect(tookMs).toBeLessThan(5000)
  }
  await until(async () => {
    const [health, readiness] = await Promise.all([get(port, '/healthz'), get(port, '/readyz')])
    expect(health.status).toBe(200)
    expect(Math.max(health.tookMs, readiness.tookMs)).toBeLessThan(2000)
    return (await metric(port, RESTARTS, 'cause="stuck"')) === 2
  })
  await expectService(port)
})

test('one worker goes on answering while the other one throws, ends or hangs', async () => {
  const { port } = await startServerForTest({ WORKERS: '2' }, { faults: true })
  let stopped = false
  let sequence = 0
  let answeredMs = performance.now()
  let longestGapMs = 0
  const load = closedLoop({
    port,
    clients: 4,
    more: () => !stopped,
    async request(connection) {
      const index = sequence++ % GOLDEN.count
      const answer = await connection.post(windowOf(index), { deadlineMs: 300 })
      if (answer.status === 200) {
        expectGolden(answer, index)
        longestGapMs = Math.max(longestGapMs, performance.now() - answeredMs)
        answeredMs = performance.now()
      }
      return answer
    },
  })
  for (const order of [FAULTS.throw, FAULTS.exit, FAULTS.hang]) {
    await sleep(300)
    await post(port, distinctWindow(0, order), { deadlineMs: 300 })
  }
  await until(async () => (await metric(port, RESTARTS)) === 3)
  stopped = true

  const { 200: answered = 0, 429: _, 503: lost = 0, 504: late = 0, ...others } = tallyOf((await load).flat())
  expect(others).toEqual({})
  expect(answered).toBeGreaterThan(50)
  expect(lost + late).toBeLessThan(answered / 4)
  // The one that hangs is noticed after 2,000 ms.
  expect(longestGapMs).toBeLessThan(1800)
  await expectService(port)
})

// A worker that hangs is replaced long before; one whose successor cannot open its backend is not.
test('healthz turns 503 when no worker has shown a sign of life for ten seconds', async () => {
  const counters = new WorkerCounters()
  const config = loadConfig({ INFER_MODE: 'stub' })
  const service = {
    config,
    models: new ServedModels(await loadModel(config), null),
    engine: {
      draining: false,
      level: 0,
      streams: [{ counters }],
      backends: { answering: ['stub'], fallback: null, fault: null, device: null },
    },
    metrics: { recentLatencyMs: null, healthChecked() {} },
    readiness: { phase: 'ready' },
  } as unknown as Service
  counters.beat(monotonicMs() - 9_000)
  expect(healthz(service).status).toBe(200)
  counters.beat(monotonicMs() - 10_001)
  expect(healthz(service).status).toBe(503)
  expect(JSON.parse(String(healthz(service).body))).toMatchObject({ ok: false, status: 'workers_hang' })
})

test('while no worker serves, readiness says so and windows are refused', async () => {
  const { port } = await startServerForTest({ WORKERS: '1' }, { faults: true })
  await dieRepeatedly(port, 4)
  const readiness = await get(port, '/readyz')
  expect(readiness.status).toBe(503)
  expect(JSON.parse(readiness.body.toString())).toEqual({ ready: false, reasons: ['no worker'] })
  const refused = await post(port, distinctWindow(0))
  expect(refused).toMatchObject({ status: 503, headers: { 'retry-after': '1' } })
  expect(JSON.parse(refused.body.toString())).toMatchObject({
    error: 'model_unavailable',
    detail: 'No worker has a model at the moment',
    model_available: false,
  })
  expect((await get(port, '/healthz')).status).toBe(200)
  await expectService(port)
})

test('twenty workers that die one after the other leave no thread, file or memory behind', async () => {
  const { port, process } = await startServerForTest({ WORKERS: '4' }, { faults: true })
  const proc = `/proc/${process.pid}`
  const used = () => ({
    threads: readdirSync(`${proc}/task`).length,
    files: readdirSync(`${proc}/fd`).length,
    megabytes: residentMegabytes(process.pid!),
  })
  await expectService(port)
  const before = used()

  await dieRepeatedly(port, 20)
  // By then a dead worker's last sign of life is not fresh any more.
  await sleep(500)
  await expectService(port)
  await until(async () => (await servingWorkers(port)) === 4)
  await until(() => used().threads <= before.threads)
  const after = used()
  expect(after.files).toBeLessThanOrEqual(before.files + 2)
  expect(after.megabytes).toBeLessThan(before.megabytes + 50)
}, 120_000)

/** Makes so many workers spin for ever. The first has its window by the time that the second comes. */
async function hangWorkers(port: number, count: number): Promise<Answer[]> {
  const hanging: Promise<Answer>[] = []
  for (let worker = 0; worker < count; worker++) {
    let answered = false
    const answer = post(port, distinctWindow(worker, FAULTS.hang), { deadlineMs: 300 })
    hanging.push(answer.finally(() => (answered = true)))
    await until(async () => answered || (await metric(port, 'hailo_queue_depth')) > worker)
  }
  return Promise.all(hanging)
}

/** Kills workers, five in each way, until so many have died: ever more slowly, as that is how they are replaced. */
async function dieRepeatedly(port: number, deaths: number): Promise<void> {
  const orders = [FAULTS.throw, FAULTS.exit, FAULTS.hang, FAULTS.exit]
  for (let died = 0; died < deaths; died = await metric(port, RESTARTS)) {
    await post(port, distinctWindow(0, orders[Math.floor(died / 5) % 4]), { deadlineMs: 50 })
  }
}

/** Workers that have come round just now: when idle, they do ten times a second. */
async function servingWorkers(port: number): Promise<number> {
  const { body } = await get(port, '/metrics')
  const ages = [...body.toString().matchAll(/^hailo_worker_heartbeat_age_seconds\{.*\} (.*)$/gm)]
  return ages.filter(([, age]) => Number(age) < 0.3).length
}

function expectGolden({ body }: Answer, index: number): void {
  const output = new Float32Array(new Uint8Array(body).buffer)
  const latent = GOLDEN.latents.subarray(index * LATENT_DIMS, (index + 1) * LATENT_DIMS)
  expect(cosineOf(output.subarray(0, LATENT_DIMS), latent)).toBeGreaterThan(0.9999)
  const scores = GOLDEN.motifScores.subarray(index * MOTIF_COUNT, (index + 1) * MOTIF_COUNT)
  expect(topOf(output.subarray(LATENT_DIMS))).toBe(topOf(scores))
}

/** The server is ready, and answers every golden window as the trained model does. */
async function expectService(port: number): Promise<void> {
  await until(async () => (await get(port, '/readyz')).status === 200)
  for (let index = 0; index < GOLDEN.count; index++) {
    const answer = await post(port, windowOf(index), PATIENT)
    expect(answer.status).toBe(200)
    expectGolden(answer, index)
  }
}
