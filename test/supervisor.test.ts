import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { PROJECT_FOLDER } from '../src/project.ts'
import { type Running, shutDownOf } from '../src/shutdown.ts'
import type { ExitCause } from '../src/supervisor/exits.ts'
import { get, startServerForTest, until } from './load.ts'
import { childrenOf } from './server.ts'

vi.mock('../src/supervisor/end.ts', () => ({ waitForNoThread() {} }))

test.each<[ExitCause, number]>([
  ['drained', 74],
  ['thread_stuck', 75],
])(
  'a shutdown that is cut short after 20 s does not pass for a drain: %s ends with %i',
  async (cause, code) => {
    vi.useFakeTimers()
    const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never)
    onTestFinished(() => {
      vi.useRealTimers()
      exit.mockRestore()
    })
    const quiet = { info() {}, error() {}, fatal() {} }
    const neverDrained = { drain: () => new Promise(() => {}) }
    const reloads = { drain: vi.fn() }
    const running = {
      engine: neverDrained,
      frontDoor: { drain() {} },
      reloads,
      witness: {},
      systemd: null,
      log: quiet,
    }
    void shutDownOf(running as unknown as Running)(cause, {})
    expect(reloads.drain).toHaveBeenCalledTimes(1) // nothing else will be served any more
    await vi.advanceTimersByTimeAsync(19_999)
    expect(exit).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(1)
    expect(exit.mock.calls).toEqual([[code]])
  },
)

test('a supervisor starts no engine again that was asked to end, drained or cut short', async () => {
  expect(await run('drained')).toEqual({ code: 0, served: 1 })
  expect(await run('drain_cut_short')).toEqual({ code: 74, served: 1 })
})

test('a supervisor starts an engine again that crashes, ten times in a row, and gives up with 69', async () => {
  expect(await run('internal_error')).toEqual({ code: 69, served: 11 })
}, 60_000)

test('a spare that dies is replaced, each time later, and the engine goes on without one', async () => {
  const server = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1' }, { args: ['--supervised'] })
  const pid = server.process.pid!
  const [engine] = childrenOf(pid)
  for (const delayMs of [2000, 4000]) {
    await until(() => childrenOf(pid).length === 2)
    process.kill(childrenOf(pid)[1]!, 'SIGKILL')
    await until(() => server.stderr.includes(`"nextDelayMs":${delayMs}`))
  }
  expect(childrenOf(pid)).toEqual([engine])
  process.kill(engine!, 'SIGKILL')
  await until(() => server.stderr.includes('the engine has ended, starting another'))
  await until(async () => (await get(server.port, '/readyz').catch(() => null))?.status === 200)
  expect(await server.stop()).toBe(0)
  expect(childrenOf(pid)).toEqual([])
})

/** A supervisor whose engines end for that cause as soon as they serve: its own end, and how many did. */
async function run(cause: ExitCause) {
  const program = join(PROJECT_FOLDER, 'dist/test/programs/supervised.js')
  const supervisor = spawn(process.execPath, [program, cause])
  onTestFinished(() => void supervisor.kill('SIGKILL'))
  let output = ''
  supervisor.stdout.setEncoding('utf8').on('data', text => (output += text))
  const [code] = await once(supervisor, 'close')
  return { code, served: output.split('serving').length - 1 }
}
