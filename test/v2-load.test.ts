import { setTimeout as sleep } from 'node:timers/promises'
import { deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { writeDevice } from './faults/device.ts'
import { FAULTS } from './faults/faults.ts'
import { hefFolder } from './hef-file.ts'
import { ask, Connection, headOf } from './http-client.ts'
import * as load from './load.ts'
import {
  distinctWindow,
  expectIdle,
  metric,
  startFaultyServer,
  startServerForTest,
  until,
  untilInFlight,
  windowsRun,
} from './load.ts'
import {
  binaryRequestOf,
  HEADER_LENGTH,
  inferBinary,
  inferJson,
  inferredAlone,
  jsonRequestOf,
  MODEL,
  outputsOf,
} from './v2.ts'
import { windowOf } from './windows.ts'

const ROUTE = `POST ${MODEL}/infer`
const PATIENT = { timeout: 5_000_000 }
const LARGEST_BODY = 2 * 1024 * 1024

/** Windows that each keep the worker busy for so long. */
const batchOf = (count: number, serviceMs = 0) =>
  Array.from({ length: count }, (_, n) => distinctWindow(n + 1, serviceMs && FAULTS.block + serviceMs))

test('parameters.timeout is the deadline, in microseconds', async () => {
  const server = await startFaultyServer({ DEADLINE_MS: '1200' })
  const holding = await server.hold()
  const patient = inferBinary(server, batchOf(2), { request: { parameters: PATIENT } })
  const [short, own] = await Promise.all([
    inferBinary(server, batchOf(2), { request: { parameters: { timeout: 800_000 } } }),
    inferBinary(server, batchOf(2), { request: { parameters: { timeout: 0 } } }),
  ])
  // Both came while the worker was still held.
  for (const [{ status, json }, deadline] of [
    [short, /deadline of 800\.0 ms$/],
    [own, /deadline of 1200\.0 ms$/],
  ] as const) {
    expect({ status, json }).toEqual({ status: 504, json: { error: expect.stringMatching(deadline) } })
  }
  server.release()
  expect((await patient).status).toBe(200)
  expect((await holding.answer).status).toBe(200)
  // Only the holding window and those of the patient request have cost the model anything.
  await expectIdle(server.port)
  expect(await windowsRun(server.port)).toBe(3)
})

test('of X-Deadline-Ms and parameters.timeout the nearer counts', async () => {
  const server = await startFaultyServer()
  const holding = await server.hold()
  const answers = await Promise.all([
    inferBinary(server, batchOf(1), {
      request: { parameters: PATIENT },
      headers: { 'X-Deadline-Ms': '800' },
    }),
    inferBinary(server, batchOf(1), {
      request: { parameters: { timeout: 800_000 } },
      headers: { 'X-Deadline-Ms': '3000' },
    }),
  ])
  for (const { status, json } of answers) {
    expect({ status, json }).toEqual({ status: 504, json: { error: expect.stringMatching(/of 800\.0 ms$/) } })
  }
  const { status, json } = await inferBinary(server, batchOf(1), { headers: { 'X-Deadline-Ms': 'soon' } })
  expect({ status, json }).toEqual({ status: 400, json: { error: expect.stringMatching(/X-Deadline-Ms/) } })
  server.release()
  expect((await holding.answer).status).toBe(200)
})

test('a body may take longer than the default deadline, but not longer than the longest', async () => {
  const server = await startFaultyServer({ DEADLINE_MS: '40', MAX_DEADLINE_MS: '1500' })
  const { body, headers } = binaryRequestOf(batchOf(1), { parameters: PATIENT })
  const head = headOf(ROUTE, { ...headers, 'Content-Length': body.length })
  const slow = await Connection.open(server)
  slow.send(head, body.subarray(0, 1000))
  await sleep(100)
  slow.send(body.subarray(1000))
  expect((await slow.answer()).status).toBe(200)

  const stalled = await Connection.open(server)
  stalled.send(head, body.subarray(0, 1000))
  const { status, json } = await stalled.answer()
  expect({ status, json }).toEqual({
    status: 504,
    json: { error: expect.stringMatching(/^The body is not/) },
  })
})

test('when one window of a batch finds no room, the batch is refused and none of it is run', async () => {
  const server = await startFaultyServer({ RING_SLOTS: '4' })
  const holding = await server.hold()
  const { status, json, headers } = await inferBinary(server, batchOf(4))
  expect({ status, json }).toEqual({ status: 429, json: { error: 'All 4 slots are taken' } })
  expect(headers['retry-after']).toMatch(/^[1-9]\d*$/)
  server.release()
  expect((await holding.answer).status).toBe(200)
  await expectIdle(server.port)
  expect(await windowsRun(server.port)).toBe(1)
  expect((await inferBinary(server, batchOf(4))).status).toBe(200)
})

test('when the worker is lost with one window of a batch, the batch fails and the next is answered', async () => {
  const server = await startFaultyServer()
  const windows = [...batchOf(2), distinctWindow(9, FAULTS.exit), ...batchOf(2)]
  const { status, json, headers } = await inferBinary(server, windows)
  expect({ status, json }).toEqual({
    status: 503,
    json: { error: expect.stringMatching(/^The worker that had/) },
  })
  expect(headers['retry-after']).toBe('1')
  await until(async () => (await inferBinary(server, batchOf(3))).status === 200)
  await expectIdle(server.port)
})

test.each([0, 2])('a client of priority %i that goes frees all its windows', async priority => {
  const server = await startFaultyServer()
  const holding = await server.hold()
  const { body, headers } = binaryRequestOf(batchOf(40), { parameters: { ...PATIENT, priority } })
  const leaving = await Connection.open(server)
  leaving.send(headOf(ROUTE, { ...headers, 'Content-Length': body.length }), body)
  await until(async () => (await metric(server.port, 'hailo_queue_depth')) > 1)
  const submitted = (await metric(server.port, 'hailo_queue_depth')) - 1
  leaving.close()
  await until(async () => (await metric(server.port, 'hailo_cancelled_total')) >= submitted)
  server.release()
  expect((await holding.answer).status).toBe(200)
  await expectIdle(server.port)
  expect(await windowsRun(server.port)).toBe(1)
})

test('priority 2 waits behind live traffic, which priority 1 would keep out', async () => {
  const server = await startFaultyServer()
  // The estimate of the time per window has to be learnt.
  for (const window of batchOf(50, 25)) await load.post(server.port, window)
  const batch = batchOf(40, 25) // 1 s of work
  const live = async (priority: number) => {
    const bulk = inferBinary(server, batch, { request: { id: 'bulk', parameters: { ...PATIENT, priority } } })
    let over = false
    void bulk.finally(() => {
      over = true
    })
    const statuses = []
    await sleep(30)
    while (!over) {
      statuses.push((await load.post(server.port, distinctWindow(99), { deadlineMs: 500 })).status)
      await sleep(10)
    }
    expect((await bulk).status).toBe(200)
    return statuses
  }
  const behind = await live(2)
  expect(behind.length).toBeGreaterThan(5)
  expect(new Set(behind)).toEqual(new Set([200]))
  expect(await live(1)).toContain(429)
})

test('priority 2 gives the same values', async () => {
  const server = await startFaultyServer()
  const windows = batchOf(20)
  const answer = await inferBinary(server, windows, { request: { parameters: { ...PATIENT, priority: 2 } } })
  expect(outputsOf(answer)).toEqual(await inferredAlone(server, windows))
})

test('priority 2 keeps a window whose body came in one piece until there is room', async () => {
  const server = await startFaultyServer({ RING_SLOTS: '2' })
  const expected = await inferredAlone(server, [windowOf(7)])
  const holding = await server.hold()
  const parameters = { ...PATIENT, priority: 2 }
  const waiting = inferBinary(server, [windowOf(7)], { request: { parameters } })
  await sleep(50)
  // Nothing else was let in: a live window still finds the other slot.
  const live = inferBinary(server, batchOf(1))
  await untilInFlight(server.port, 2)
  server.release()
  expect((await live).status).toBe(200)
  expect(outputsOf(await waiting)).toEqual(expected)
  expect((await holding.answer).status).toBe(200)
})

test('priority 2 without room by its deadline is 504, and a bad window of it is 400', async () => {
  const server = await startFaultyServer()
  const holding = await server.hold()
  const parameters = { timeout: 100_000, priority: 2 }
  const late = await inferBinary(server, batchOf(40), { request: { parameters } })
  expect(late).toMatchObject({ status: 504, json: { error: expect.stringMatching(/of 100\.0 ms$/) } })
  server.release()
  expect((await holding.answer).status).toBe(200)
  const bad = distinctWindow(1, 501)
  const { status, json } = await inferBinary(server, [bad], { request: { parameters } })
  expect({ status, json }).toEqual({ status: 400, json: { error: expect.stringMatching(/is 501/) } })
  await expectIdle(server.port)
})

test.each([0, 2])('a drain answers a batch of priority %i that is in it and ends with 0', async priority => {
  const server = await startFaultyServer()
  await server.hold()
  const batch = inferBinary(server, batchOf(40), { request: { parameters: { ...PATIENT, priority } } })
  await until(async () => (await metric(server.port, 'hailo_queue_depth')) > 1)
  const ended = server.stop()
  await until(async () => (await ask(server, 'GET /readyz')).status === 503)
  server.release()
  const { status, json, headers } = await batch
  // What was admitted is answered; what still waits for room is not admitted any more.
  if (priority === 0) expect(status).toBe(200)
  else expect({ status, json }).toEqual({ status: 503, json: { error: 'The server is shutting down' } })
  expect(headers.connection).toBe('close')
  expect(await ended).toBe(0)
})

test('while a fallback answers, headers, version and parameters of the answer are its own', async () => {
  const { folder, hefPath, sha256 } = hefFolder()
  const device = `${folder}/device.json`
  writeDevice(device, { fault: null })
  const server = await startServerForTest(
    {
      HEF_PATH: hefPath,
      HAILO_DEVICE_ID: device,
      FALLBACK: 'stub',
      WORKERS: '1',
    },
    { faults: true },
  )
  const windows = [windowOf(0), windowOf(1)]
  const whole = await inferJson(server, windows)
  expect(whole.headers).toMatchObject({
    'x-inference-backend': 'hailo',
    'x-model-sha256': sha256.slice(0, 12),
  })
  expect(whole.json).toMatchObject({ model_version: '1.0.0', parameters: { inference_backend: 'hailo' } })
  expect((await ask(server, `GET ${MODEL}`)).json.platform).toBe('hailort_hef')

  writeDevice(device, { fault: { cause: 'device_lost', detail: 'the driver says ENODEV' } })
  await until(async () => (await inferJson(server, windows)).headers['x-inference-backend'] === 'stub')
  const fallen = await inferJson(server, windows)
  expect(fallen.headers['x-model-sha256']).toBe('stub')
  expect(fallen.json).toMatchObject({ model_version: '0', parameters: { inference_backend: 'stub' } })
})

test.each([
  ['gzip', gzipSync],
  ['x-gzip', gzipSync],
  ['GZIP', gzipSync],
  ['deflate', deflateSync],
  ['deflate', deflateRawSync],
  ['identity', Buffer.from],
] as [string, (bytes: Uint8Array) => Buffer][])('a body in %s is inflated (%o)', async (encoding, pack) => {
  const server = await startFaultyServer()
  const windows = [windowOf(0), windowOf(1)]
  const expected = await inferredAlone(server, windows)
  const { body, headers } = binaryRequestOf(windows)
  const packed = { ...headers, 'Content-Encoding': encoding }
  expect(outputsOf(await ask(server, ROUTE, { headers: packed, body: pack(body) }))).toEqual(expected)
  const json = pack(Buffer.from(jsonRequestOf(windows)))
  const answer = await ask(server, ROUTE, { headers: { 'Content-Encoding': encoding }, body: json })
  expect(outputsOf(answer)).toEqual(expected)
})

test('a body that inflates beyond the limit is 413, long before it is all there', async () => {
  const server = await startFaultyServer()
  const bomb = gzipSync(Buffer.alloc(1024 ** 3 / 2))
  expect(bomb.length).toBeLessThan(LARGEST_BODY)
  const { status, json } = await ask(server, ROUTE, { headers: { 'Content-Encoding': 'gzip' }, body: bomb })
  expect({ status, json }).toEqual({
    status: 413,
    json: {
      error: `The body has more than ${LARGEST_BODY} bytes when it is inflated, expected at most ${LARGEST_BODY}`,
    },
  })
  expect(await metric(server.port, 'hailo_inference_errors_total', 'body_too_large')).toBe(1)
})

test('a body that is not what Content-Encoding says is 400, one that nobody can read 415', async () => {
  const server = await startFaultyServer()
  const { body } = binaryRequestOf([windowOf(0)])
  for (const encoding of ['gzip', 'deflate']) {
    const truncated = (encoding === 'gzip' ? gzipSync : deflateSync)(body).subarray(0, 100)
    for (const wrong of [body, truncated, Buffer.alloc(0)]) {
      const { status, json } = await ask(server, ROUTE, {
        headers: { 'Content-Encoding': encoding },
        body: wrong,
      })
      expect(status, `${encoding} ${wrong.length}`).toBe(400)
      expect(json.error).toMatch(/Content-Encoding|not valid JSON/)
    }
  }
  for (const encoding of ['br', 'gzip, deflate', 'constructor']) {
    const { status, json } = await ask(server, ROUTE, { headers: { 'Content-Encoding': encoding }, body })
    expect({ status, json }).toEqual({
      status: 415,
      json: { error: expect.stringMatching(/Content-Encoding/) },
    })
  }
})

test('a body larger than any batch is 413, whether it says so or not', async () => {
  const server = await startFaultyServer()
  const declared = await Connection.open(server)
  declared.send(headOf(ROUTE, { 'Content-Length': LARGEST_BODY + 1 }))
  expect(await declared.answer()).toMatchObject({
    status: 413,
    json: { error: expect.stringMatching(/at most/) },
  })
  const chunked = await ask(server, ROUTE, {
    headers: { 'Transfer-Encoding': 'chunked' },
    body: Buffer.alloc(LARGEST_BODY + 1, 32),
  })
  expect(chunked).toMatchObject({ status: 413, json: { error: expect.stringMatching(/at most/) } })
  expect(
    (await ask(server, ROUTE, { headers: { [HEADER_LENGTH]: '0' }, body: Buffer.alloc(3600) })).status,
  ).toBe(200)
})
