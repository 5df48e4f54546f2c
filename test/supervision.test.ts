import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { PROJECT_FOLDER } from '../src/project.ts'
import { LifeRecord, recordPath } from '../src/supervisor/life-record.ts'
import { FAULTS } from './faults/faults.ts'
import {
  closedLoop,
  distinctWindow,
  get,
  metric,
  post,
  startFaultyServer,
  startServerForTest,
  tallyOf,
  until,
} from './load.ts'
import { COMPILER } from './native.ts'
import { childrenOf, freePort, startServer } from './server.ts'
import { windowOf } from './windows.ts'

/** Where the native part cannot be compiled, JavaScript has no way to end without waiting but this. */
const AT_ONCE = (code: number) => (COMPILER === null ? 'SIGKILL' : code)

test('a thread in a native call that never returns ends the process with 75, once what can be is answered', async () => {
  const env = { INFER_MODE: 'stub', WORKERS: '2', FAULTS_FOLDER: folderWithFifo(), STATE_DIR: folder() }
  const start = async () =>
    startServerForTest({ ...env, SIDECAR_PORT: String(await freePort()) }, { faults: true })
  const [stuck, spinning, asked] = await Promise.all([start(), start(), start()])
  const ended = once(stuck.process, 'exit')
  const answers = await Promise.all([
    post(stuck.port, distinctWindow(0, FAULTS.stick), { deadlineMs: 300 }),
    post(spinning.port, distinctWindow(0, FAULTS.hang), { deadlineMs: 300 }),
    post(asked.port, distinctWindow(0, FAULTS.stick), { deadlineMs: 300 }),
  ])
  expect(answers.map(({ status }) => status)).toEqual([504, 504, 504])
  const drained = asked.stop('SIGTERM')
  const load = closedLoop({
    port: stuck.port,
    clients: 2,
    more: () => true, // until the port is closed
    async request(connection) {
      const answer = await connection.post(distinctWindow(1), { deadlineMs: 5000 })
      await sleep(5)
      return answer
    },
  })

  const [code, signal] = await ended
  expect(code ?? signal).toBe(AT_ONCE(75))
  expect(recordOf(env.STATE_DIR, stuck.port).last).toEqual({ code: 75, cause: 'thread_stuck' })
  expect(await drained).toBe(AT_ONCE(0)) // it was asked to before the thread was given up for good
  const { 200: answered = 0, 503: _, stale, ECONNREFUSED: closed, ...others } = tallyOf((await load).flat())
  expect(others).toEqual({})
  expect(answered).toBeGreaterThan(100)
  expect(closed).toBe(2)
  // A loop of JavaScript can be ended: the thread is gone, its successor serves, and there is nothing to end for.
  expect(await metric(spinning.port, 'hailo_worker_restarts_total', 'cause="stuck"')).toBe(1)
  expect(spinning.process.exitCode).toBeNull()
})

test('a drain that takes too long is cut short with 74, and the next one is told', async () => {
  const env = { STATE_DIR: folder(), SIDECAR_PORT: String(await freePort()), FAULTS_SHUTDOWN_MS: '300' }
  const server = await startFaultyServer({ ...env, LOG_LEVEL: 'error' })
  const { answer } = await server.hold()
  const unanswered = expect(answer).rejects.toThrow()
  expect(await server.stop('SIGTERM')).toBe(AT_ONCE(74))
  await unanswered
  expect(server.stdout + server.stderr).toContain('not drained in time')
  if (COMPILER !== null) {
    expect(recordOf(env.STATE_DIR, server.port).last).toEqual({ code: 74, cause: 'drain_cut_short' })
  }
})

test('a thread in a native call keeps process.exit() from ending, and waitForNoThread() lets it end', async () => {
  const program = join(PROJECT_FOLDER, 'dist/test/programs/stuck-thread.js')
  const run = (...args: string[]) => spawn(process.execPath, [program, folderWithFifo('stuck'), ...args])
  const [freed, waiting] = [run(), run('waits')]
  onTestFinished(() => void waiting.kill('SIGKILL'))
  const ended = once(freed, 'exit')
  const [heard] = await Promise.all([once(freed.stdout, 'data'), once(waiting.stdout, 'data')])
  expect(String(heard)).toBe('exit was heard of')
  const [code, signal] = await ended
  expect(code ?? signal).toBe(AT_ONCE(75))
  await sleep(500)
  expect(waiting.exitCode).toBeNull()
})

test.each([
  ['with a supervisor, another engine listens within a second after a kill -9', true],
  ['without one, nobody listens from then on', false],
])('%s', async (_, supervised) => {
  const port = await freePort()
  const state = folder()
  const startedMs = performance.now()
  const server = await startServerForTest(
    { SIDECAR_PORT: String(port), STATE_DIR: state, LOG_LEVEL: 'warn' },
    { args: supervised ? ['--supervised'] : [] },
  )
  const startMs = performance.now() - startedMs
  const pid = server.process.pid!
  if (supervised) await until(() => server.stderr.includes('a spare engine is loaded'))
  const [engine] = supervised ? childrenOf(pid) : [pid]

  const connects = new Connects(port)
  await until(() => connects.made > 20)
  process.kill(engine!, 'SIGKILL')
  await until(() => connects.failed > 0)
  if (!supervised) {
    await sleep(1500)
    connects.stop()
    expect(connects.sinceLastMs).toBeGreaterThan(1400)
    expect(recordOf(state, port).last).toEqual({ code: null, cause: 'killed' })
    return
  }
  await until(async () => (await get(port, '/readyz').catch(() => null))?.status === 200)
  connects.stop()
  // On a machine on which a start takes longer than that: sooner than one that begins from nothing.
  expect(connects.longestGapMs).toBeLessThan(Math.max(1000, startMs))
  expect((await post(port, windowOf(0), { deadlineMs: 1000 })).status).toBe(200)
  expect(await metric(port, 'hailo_last_exit_info', 'code="none",cause="killed"')).toBe(1)
  expect(await metric(port, 'hailo_starts_recent')).toBe(2)
  expect(await server.stop('SIGTERM')).toBe(0)
  expect(childrenOf(pid)).toEqual([])
  expect(recordOf(state, port).last).toEqual({ code: 0, cause: 'drained' })
})

test('a supervisor gives up where starting again will not help, and an engine does not outlive its supervisor', async () => {
  const wrong = startServer({ WORKERS: 'none' }, { args: ['--supervised'] })
  await expect(wrong).rejects.toThrow('ended with 78')
  const unknown = startServer({}, { args: ['--supervized'] })
  await expect(unknown).rejects.toThrow(/ended with 78.*\n.*\nUnknown option '--supervized'/)

  const server = await startServerForTest({ INFER_MODE: 'stub' }, { args: ['--supervised'] })
  const engines = childrenOf(server.process.pid!)
  server.process.kill('SIGHUP') // asks to read files again, and there are none
  await sleep(300)
  expect(childrenOf(server.process.pid!)).toEqual(expect.arrayContaining(engines))
  await server.stop('SIGKILL')
  await until(() =>
    get(server.port, '/healthz').then(
      () => false,
      () => true,
    ),
  )
})

test('a record tells how the process before ended, whatever it finds, and counts the starts of an hour', () => {
  const state = folder()
  expect(recordOf(state).last).toEqual({ code: null, cause: 'unknown' })
  recordOf(state).ended(0) // the one before was killed: it had not ended
  const drained = recordOf(state)
  expect(drained.last).toEqual({ code: 0, cause: 'drained' })
  expect(drained.recentStarts).toBe(3)

  const path = recordPath(state, '127.0.0.1', 9000)!
  const startsUnixMs = Array.from({ length: 100 }, (_, index) => Date.now() - 3_660_000 + index * 2000)
  const left = [
    [JSON.stringify({ startsUnixMs, exitCode: 70 }), 'internal_error', 70],
    [JSON.stringify({ startsUnixMs: startsUnixMs.fill(Date.now()), exitCode: 42 }), 'unknown', 100],
    [JSON.stringify({ startsUnixMs: [Date.now() + 60_000], exitCode: null }), 'killed', 1],
    [JSON.stringify({ startsUnixMs: [1], exitCode: 300 }), 'unknown', 1],
    ['{"startsUnixMs":[1', 'unknown', 1],
    ['', 'unknown', 1],
    [`{"startsUnixMs":[],"exitCode":0}${' '.repeat(4096)}`, 'unknown', 1],
  ] as const
  for (const [text, cause, starts] of left) {
    writeFileSync(path, text)
    const { last, recentStarts } = recordOf(state)
    expect({ text, cause: last.cause, recentStarts }).toEqual({ text, cause, recentStarts: starts })
  }
  // What others put in its way is neither waited for nor written through.
  rmSync(path)
  execFileSync('mkfifo', [path])
  symlinkSync(join(state, 'foreign'), `${path}.new`)
  expect(recordOf(state).last.cause).toBe('unknown')
  expect(existsSync(join(state, 'foreign'))).toBe(false)
  expect(recordOf(state).last.cause).toBe('killed')

  const errors: unknown[] = []
  const nowhere = new LifeRecord(join(path, 'below-a-file', 'record.json'), error => errors.push(error))
  nowhere.ended(0)
  expect(nowhere).toMatchObject({ last: { cause: 'unknown' }, recentStarts: 1 })
  expect(errors).toHaveLength(2)
})

/** A client that connects again and again. */
class Connects {
  made = 0
  failed = 0
  longestGapMs = 0
  #lastMs = performance.now()
  #stopped = false

  constructor(port: number) {
    void this.#run(port)
  }

  get sinceLastMs(): number {
    return performance.now() - this.#lastMs
  }

  stop(): void {
    this.#stopped = true
  }

  async #run(port: number): Promise<void> {
    while (!this.#stopped) {
      const socket = connect({ port, host: '127.0.0.1' })
      const connected = await once(socket, 'connect').then(
        () => true,
        () => false,
      )
      socket.destroy()
      if (connected) {
        this.longestGapMs = Math.max(this.longestGapMs, this.sinceLastMs)
        this.#lastMs = performance.now()
        this.made++
      } else this.failed++
      await sleep(5)
    }
  }
}

/** As the next process on this address would. */
function recordOf(state: string, port = 9000): LifeRecord {
  return new LifeRecord(recordPath(state, '127.0.0.1', port), error => {
    throw error
  })
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'supervision-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A FIFO that nobody writes to. @param name of it, to be told its path instead of its folder's */
function folderWithFifo(name?: string): string {
  const path = folder()
  execFileSync('mkfifo', [join(path, 'stuck')])
  return name === undefined ? path : join(path, name)
}
