import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { FailureLog } from '../src/failure-log.ts'
import type { Logger } from '../src/log.ts'
import { ask, OCTET_STREAM, postWindow } from './http-client.ts'
import { metric } from './load.ts'
import { ORIGIN } from './origin.ts'
import { startServer } from './server.ts'
import { windowOf } from './windows.ts'

/** From the specification. */
const TRACE = { id: '4bf92f3577b34da6a3ce929d0e0e4736', parentSpanId: '00f067aa0ba902b7', sampled: false }

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('of each code the first failure has a line, and the others one together when 10 s are over', () => {
  const { failures, lines } = logged()
  for (let n = 0; n < 1000; n++) {
    failures.windowFailed('overloaded', { ...ORIGIN, requestId: `request ${n}` })
    if (n % 10 === 0) failures.windowFailed('deadline_exceeded', ORIGIN)
  }
  const first = { endpoint: '/infer', request_id: 'request 0' }
  expect(lines).toMatchObject([
    { level: 'info', code: 'overloaded', ...first },
    { level: 'warn', code: 'deadline_exceeded' },
  ])
  vi.advanceTimersByTime(10_000)
  expect(lines.slice(2)).toMatchObject([
    { level: 'info', code: 'overloaded', count: 999 },
    { level: 'warn', code: 'deadline_exceeded', count: 99 },
  ])
  // And so again, for as long as they go on.
  failures.windowFailed('overloaded', ORIGIN)
  failures.windowFailed('overloaded', ORIGIN)
  vi.advanceTimersByTime(10_000)
  expect(lines.slice(4)).toMatchObject([{ code: 'overloaded' }, { code: 'overloaded', count: 1 }])
})

test('a failure that stays alone has one line', () => {
  const { failures, lines } = logged()
  failures.windowFailed('internal_error', ORIGIN)
  vi.advanceTimersByTime(20_000)
  failures.close()
  expect(lines).toMatchObject([{ level: 'error', code: 'internal_error' }])
})

test('a line names the trace and the stream of its window where there are any', () => {
  const { failures, lines } = logged()
  failures.windowFailed('overloaded', { ...ORIGIN, trace: TRACE, stream: 3, sequence: 41 })
  failures.windowFailed('invalid_window', { ...ORIGIN, sequence: 5 })
  expect(lines[0]).toMatchObject({ trace_id: TRACE.id, stream: 3, sequence: 41 })
  expect(lines[1]).not.toHaveProperty('trace_id')
  expect(lines[1]).not.toHaveProperty('stream')
})

test('a flood that fails has a few lines in the log of the server, and they count what the metrics count', async () => {
  vi.useRealTimers()
  const server = await startServer({ INFER_MODE: 'stub', WORKERS: '1', RING_SLOTS: '2' })
  onTestFinished(() => void server.stop('SIGKILL'))
  const headers = { 'Content-Type': OCTET_STREAM }
  for (let round = 0; round < 10; round++) {
    const requests = Array.from({ length: 20 }, () => [
      ask(server, 'POST /infer', { body: '{}' }),
      postWindow(server, windowOf(0), { ...headers, 'X-Deadline-Ms': '0.0001' }),
      postWindow(server, windowOf(0), headers), // too many for two slots, now and then
    ])
    await Promise.all(requests.flat())
  }
  const countedOf = (labels = '') => metric(server.port, 'hailo_inference_errors_total', labels)
  const counted = { all: await countedOf(), bad: await countedOf('"invalid_window"') }
  expect(counted.all).toBeGreaterThan(200)
  expect(await server.stop()).toBe(0)

  const lines = server.stderr.split('\n').filter(line => line.includes('"code"'))
  const failures = lines.map(line => JSON.parse(line) as Line)
  const told = (which: Line[]) => which.reduce((sum, { count = 1 }) => sum + count, 0)
  expect(told(failures)).toBe(counted.all)
  expect(told(failures.filter(({ code }) => code === 'invalid_window'))).toBe(counted.bad)
  // The first and the rest, of each code and each 10 s.
  const codes = new Set(failures.map(({ code }) => code)).size
  expect(failures.length).toBeLessThanOrEqual(2 * codes * 2)
})

interface Line {
  readonly level: string
  readonly code: string
  readonly count?: number
  readonly trace_id?: string
}

function logged(): { failures: FailureLog; lines: Line[] } {
  const lines: Line[] = []
  const at = (level: string) => (fields: object) => void lines.push({ level, ...fields } as Line)
  const log = { error: at('error'), warn: at('warn'), info: at('info') } as unknown as Logger
  return { failures: new FailureLog(log), lines }
}

test('a full disk under the log takes lines, and no answer', async () => {
  vi.useRealTimers()
  const { PATH } = process.env
  const full = openSync('/dev/full', 'w')
  const server = spawn(process.execPath, ['dist/src/main.js'], {
    env: { PATH, INFER_MODE: 'stub', SIDECAR_PORT: '0', WORKERS: '1' },
    stdio: ['ignore', 'pipe', full],
  })
  onTestFinished(() => {
    server.kill('SIGKILL')
    closeSync(full)
  })
  const banner = await new Promise<string>(resolve => {
    let text = ''
    server.stdout!.on('data', part => {
      text += part
      if (text.includes('url')) resolve(text)
    })
  })
  const port = Number(/http:\S+:(\d+)/.exec(banner)![1])
  for (let n = 0; n < 3; n++) {
    expect((await ask({ port }, 'POST /infer', { body: '{}' })).status).toBe(400) // each a line of the log
    expect((await postWindow({ port }, windowOf(n), { 'X-Deadline-Ms': '2000' })).status).toBe(200)
  }
})
