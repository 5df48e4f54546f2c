import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { PROJECT_FOLDER } from '../src/project.ts'
import { FAULTS } from './faults/faults.ts'
import { closedLoop, distinctWindow, metric, post, startServerForTest, tallyOf } from './load.ts'
import { COMPILER } from './native.ts'

/** Where the native part cannot be compiled, JavaScript has no way to end without waiting but this. */
const AT_ONCE = (code: number) => (COMPILER === null ? 'SIGKILL' : code)

test('a thread in a native call that never returns ends the process with 75, once what can be is answered', async () => {
  const env = { INFER_MODE: 'stub', WORKERS: '2', FAULTS_FOLDER: folderWithFifo() }
  const start = () => startServerForTest(env, { faults: true })
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
      const answer = await connection.post(distinctWindow(1), { deadlineMs: 1000 })
      await sleep(5)
      return answer
    },
  })

  const [code, signal] = await ended
  expect(code ?? signal).toBe(AT_ONCE(75))
  expect(await drained).toBe(AT_ONCE(0)) // it was asked to before the thread was given up for good
  const { 200: answered = 0, 503: _, stale, ECONNREFUSED: closed, ...others } = tallyOf((await load).flat())
  expect(others).toEqual({})
  expect(answered).toBeGreaterThan(100)
  expect(closed).toBe(2)
  // A loop of JavaScript can be ended: the thread is gone, its successor serves, and there is nothing to end for.
  expect(await metric(spinning.port, 'hailo_worker_restarts_total', 'cause="stuck"')).toBe(1)
  expect(spinning.process.exitCode).toBeNull()
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

/** A FIFO that nobody writes to. @param name of it, to be told its path instead of its folder's */
function folderWithFifo(name?: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'stuck-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  execFileSync('mkfifo', [join(folder, 'stuck')])
  return name === undefined ? folder : join(folder, name)
}
