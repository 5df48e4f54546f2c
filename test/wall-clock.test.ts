import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { build, type Target } from '../native/build.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { FAULTS } from './faults/faults.ts'
import { closedLoop, distinctWindow, get, metric, post, startFaultyServer, tallyOf, until } from './load.ts'
import { COMPILER } from './native.ts'
import { greet, IN_BINARY, WebSocketClient } from './ws-client.ts'

const HOUR_S = 3600
/** Seconds by which the wall clock is off, one after the other: an hour on, and back; an hour back, and on. */
const JUMPS = [HOUR_S, 0, -HOUR_S, 0]
const PRELOAD: Target = {
  output: join(PROJECT_FOLDER, 'native/build/test/wall_clock.so'),
  sources: [join(PROJECT_FOLDER, 'native/test/wall_clock.cc')],
  linkFlags: ['-shared', '-ldl'],
}
/** The server takes the wall clock for the one that nobody sets. */
const OF_THE_WALL = `--import ${join(PROJECT_FOLDER, 'dist/test/programs/hrtime-of-the-wall.js')}`
const RESTARTS = 'hailo_worker_restarts_total'

test.skipIf(COMPILER === null)(
  'a wall clock that jumps by an hour either way moves no timeout, lease or limit',
  async () => {
    const { port, hold, release, jump } = await startOnWallClock()
    const stream = await WebSocketClient.open({ port })
    await greet(stream, IN_BINARY)
    let stopped = false
    const load = closedLoop({
      port,
      clients: 3,
      more: () => !stopped,
      request: connection => connection.post(distinctWindow(1)),
    })
    for (const [seq, seconds] of JUMPS.entries()) {
      const { answer } = await hold()
      jump(seconds)
      release()
      expect((await answer).status).toBe(200)
      stream.send(IN_BINARY.window(seq, distinctWindow(seq)))
      expect(await stream.nextAnswer()).toMatchObject({ type: 'result', status: 'ok', seq })
      // The jump has reached the process: what it labels with the time of day has moved.
      const { last_inference_time } = JSON.parse((await get(port, '/status')).body.toString())
      const offS = (Date.parse(last_inference_time) - Date.now()) / 1000
      expect(Math.abs(offS - seconds)).toBeLessThan(60)
    }
    stopped = true
    const { 200: answered = 0, ...others } = tallyOf((await load).flat())
    expect(others).toEqual({})
    expect(answered).toBeGreaterThan(20) // beside those that block the worker
    expect(await metric(port, RESTARTS)).toBe(0)

    // Nor does one who sets it back get more time.
    const late = post(port, distinctWindow(0, FAULTS.hang), { deadlineMs: 400 })
    await sleep(100)
    jump(-HOUR_S)
    const { status, tookMs } = await late
    expect(status).toBe(504)
    expect(tookMs).toBeGreaterThan(390)
    await until(async () => (await metric(port, RESTARTS, 'cause="stuck"')) === 1)
    await until(async () => (await get(port, '/readyz')).status === 200)
  },
)

test.skipIf(COMPILER === null)(
  'a server that takes the wall clock for its own gives a window up that is in time',
  async () => {
    const { hold, release, jump } = await startOnWallClock({ NODE_OPTIONS: OF_THE_WALL })
    const inTime = await hold()
    release()
    expect((await inTime.answer).status).toBe(200)
    const { answer } = await hold()
    jump(HOUR_S)
    expect((await answer).status).toBe(504)
  },
)

test.skipIf(COMPILER === null).each([
  ['a wall clock that jumps fills no bucket, and stops neither golden checks nor telemetry', {}, 429],
  ['with the wall clock for its own it fills a bucket', { NODE_OPTIONS: OF_THE_WALL }, 200],
])('%s', async (_, env, status) => {
  const { port, jump, telemetry } = await startOnWallClock({
    RATE_LIMIT_PER_ADDRESS: '0.02:3', // 72 windows an hour, and none within this test
    GOLDEN_INTERVAL_S: '1',
    ...env,
  })
  const ask = () => post(port, distinctWindow(1), { deadlineMs: 2000 })
  const told = () => lineCountIn(telemetry)
  for (const _burst of [1, 2, 3]) expect((await ask()).status).toBe(200)
  jump(HOUR_S)
  expect((await ask()).status).toBe(status)
  if (status === 200) return
  for (const seconds of [HOUR_S, -HOUR_S]) {
    jump(seconds)
    const { status, headers } = await ask()
    expect(status).toBe(429)
    expect(Number(headers['retry-after'])).toBeLessThanOrEqual(50)
    const [checks, lines] = [await metric(port, 'hailo_golden_checks_total'), told()]
    await until(async () => (await metric(port, 'hailo_golden_checks_total')) > checks)
    await until(async () => (await ask()).status === 429 && told() > lines)
  }
})

/** Of answers and errors. */
function lineCountIn(folder: string): number {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(name =>
    name.endsWith('.ndjson'),
  )
  return files
    .map(name => readFileSync(join(folder, name), 'utf8').split('\n').length - 1)
    .reduce((a, b) => a + b, 0)
}

/** A server with one worker, which fails on order, and whose wall clock the test sets: its own alone. */
async function startOnWallClock(env: Record<string, string> = {}) {
  await build(PRELOAD)
  const folder = mkdtempSync(join(tmpdir(), 'wall-clock-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'offset')
  const telemetry = join(folder, 'telemetry')
  mkdirSync(telemetry)
  /** @param seconds off the machine's */
  const jump = (seconds: number) => writeFileSync(file, new BigInt64Array([BigInt(seconds)]), { flag: 'r+' })
  writeFileSync(file, new BigInt64Array(1))
  const clock = { LD_PRELOAD: PRELOAD.output, WALL_CLOCK_FILE: file, TELEMETRY_DIR: telemetry }
  const { port, hold, release } = await startFaultyServer({ INFER_MODE: 'onnx', ...clock, ...env })
  return { port, hold, release, jump, telemetry }
}
