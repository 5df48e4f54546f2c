import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { CONFIG_KEYS } from '../src/config.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { type ReportedService, ServiceReport } from '../src/service-report.ts'
import { LONGEST_SHUTDOWN_MS } from '../src/shutdown.ts'
import { EXITS } from '../src/supervisor/exits.ts'
import { Systemd } from '../src/supervisor/systemd.ts'
import { writeDevice } from './faults/device.ts'
import { hefFolder } from './hef-file.ts'
import { get, startServerForTest, until } from './load.ts'
import { childrenOf } from './server.ts'

const needed = ['python3 --version', 'systemd-notify --version'].map(line => line.split(' '))
const HAS_SYSTEMD_NOTIFY = needed.every(
  ([program, ...args]) => spawnSync(program!, args, { stdio: 'ignore' }).status === 0,
)

const { PATH } = process.env
const STUB = { INFER_MODE: 'stub', WORKERS: '1' }

test.skipIf(!HAS_SYSTEMD_NOTIFY)(
  'systemd is told what answers, that the server is ready, reads its files again, and stops',
  async () => {
    const systemd = await pretendedSystemd()
    const server = await startServerForTest({ ...STUB, ...systemd.env })
    await until(() => systemd.told.includes('READY=1'))
    expect(systemd.told[systemd.told.indexOf('READY=1') - 1]).toMatch(
      /^STATUS=ready: .* by stub on none \(stub\)$/,
    )
    const atStart = systemd.told.length

    server.process.kill('SIGHUP')
    const since = () => systemd.told.slice(atStart).filter(word => !word.startsWith('STATUS='))
    await until(() => since().length === 2)
    expect(since()).toEqual(['RELOADING=1', 'READY=1'])

    expect(await server.stop()).toBe(0)
    await until(() => systemd.told.includes('STOPPING=1'))
    expect(systemd.told.slice(-2)).toEqual(['STATUS=draining', 'STOPPING=1'])
    expect(since()).toEqual(['RELOADING=1', 'READY=1', 'STOPPING=1'])
  },
)

test.skipIf(!HAS_SYSTEMD_NOTIFY)(
  'the watchdog hears of the server at half its time, and no more when its main thread stands still',
  async () => {
    const systemd = await pretendedSystemd(400)
    const server = await startServerForTest({ ...STUB, ...systemd.env })
    const beats = () => systemd.told.filter(word => word === 'WATCHDOG=1').length
    await until(() => beats() >= 3)
    server.process.kill('SIGSTOP')
    // What was written before may still be told.
    let before = -1
    await until(async () => {
      if (before === beats()) return true
      before = beats()
      await new Promise(resolve => setTimeout(resolve, 600))
      return false
    })
    server.process.kill('SIGCONT')
    await until(() => beats() > before + 1)
  },
)

test.skipIf(!HAS_SYSTEMD_NOTIFY)(
  'a server whose device is not there has started, tells what it waits for, and then what answers',
  async () => {
    const systemd = await pretendedSystemd(400)
    const { folder, hefPath } = hefFolder()
    const path = join(folder, 'device.json')
    writeDevice(path, { fault: { cause: 'no_device', detail: 'nothing on the bus' } })
    const env = { ...systemd.env, HEF_PATH: hefPath, HAILO_DEVICE_ID: path, WORKERS: '1' }
    await startServerForTest(env, { faults: true, ready: false })
    await until(() => systemd.told.includes('READY=1'))
    expect(systemd.told.findLast(word => word.startsWith('STATUS='))).toMatch(
      /^STATUS=not ready: .*no_device: nothing on the bus$/,
    )
    const before = systemd.told.length
    await until(() => systemd.told.slice(before).filter(word => word === 'WATCHDOG=1').length >= 2)
    writeDevice(path, { fault: null })
    await until(() => systemd.told.some(word => / by hailo on /.test(word)))
    expect(systemd.told.filter(word => word === 'READY=1')).toHaveLength(1)
  },
)

test.skipIf(!HAS_SYSTEMD_NOTIFY)(
  'under --supervised the engine that serves tells systemd, and so does the one after it',
  async () => {
    const systemd = await pretendedSystemd()
    const server = await startServerForTest({ ...STUB, ...systemd.env }, { args: ['--supervised'] })
    const readyTimes = () => systemd.told.filter(word => word === 'READY=1').length
    await until(() => readyTimes() === 1)
    const [engine] = childrenOf(server.process.pid!)
    process.kill(engine!, 'SIGKILL')
    await until(() => readyTimes() === 2)
    expect((await get(server.port, '/readyz')).status).toBe(200)
    expect(await server.stop()).toBe(0)
    await until(() => systemd.told.at(-1) === 'STOPPING=1')
  },
)

test.skipIf(!HAS_SYSTEMD_NOTIFY)(
  'a signal for the whole service leaves what tells systemd, and when that is killed another tells all again',
  async () => {
    const systemd = await pretendedSystemd(3_600_000)
    const server = await startServerForTest({ ...STUB, ...systemd.env })
    const readyTimes = () => systemd.told.filter(word => word === 'READY=1').length
    await until(() => readyTimes() === 1)
    expect(systemd.told.filter(word => word === 'WATCHDOG=1')).toHaveLength(1)
    const [helper] = childrenOf(server.process.pid!)
    for (const pid of [helper!, server.process.pid!]) process.kill(pid, 'SIGHUP')
    await until(() => readyTimes() === 2)
    expect(childrenOf(server.process.pid!)).toEqual([helper])

    process.kill(helper!, 'SIGKILL')
    await until(() => readyTimes() === 3 && systemd.told.at(-1) === 'WATCHDOG=1')
    expect(systemd.told.slice(-3)).toEqual([
      expect.stringMatching(/^STATUS=ready: /),
      'READY=1',
      'WATCHDOG=1',
    ])
    expect(server.stderr).toContain('What tells systemd ended with SIGKILL; another is started\n')
  },
)

test('without systemd nothing is started to tell it', async () => {
  const server = await startServerForTest(STUB)
  expect(childrenOf(server.process.pid!)).toEqual([])
})

test.skipIf(!HAS_SYSTEMD_NOTIFY)('nothing that is started later finds the way to systemd', async () => {
  const { env } = await pretendedSystemd(400)
  const left: NodeJS.ProcessEnv = { ...env, WATCHDOG_PID: '1', PATH }
  expect(Systemd.takeFrom(left)?.watchdogMs).toBe(400)
  expect(left).toEqual({ PATH })
  expect(Systemd.takeFrom(left)).toBeNull()
})

test.skipIf(!HAS_SYSTEMD_NOTIFY)('a line break in what is told makes no second word of it', async () => {
  const systemd = await pretendedSystemd()
  const words = Systemd.takeFrom({ ...systemd.env, PATH })!
  words.status('one\nREADY=1')
  words.alive()
  await until(() => systemd.told.length === 2)
  expect(systemd.told).toEqual(['STATUS=one READY=1', 'WATCHDOG=1'])
})

test.skipIf(!HAS_SYSTEMD_NOTIFY)(
  'a service that stops is not told to be ready when a reload ends',
  async () => {
    const systemd = await pretendedSystemd()
    const words = Systemd.takeFrom({ ...systemd.env, PATH })!
    words.reloading()
    words.stopping()
    words.ready()
    words.status('ready: a model')
    words.alive()
    await until(() => systemd.told.includes('WATCHDOG=1'))
    expect(systemd.told).toEqual(['RELOADING=1', 'STATUS=draining', 'STOPPING=1', 'WATCHDOG=1'])
  },
)

test('the watchdog hears of an engine at once, and nothing of one without hope', () => {
  vi.useFakeTimers({ toFake: ['setInterval'] })
  onTestFinished(() => void vi.useRealTimers())
  const systemd = { watchdogMs: 20_000, alive: vi.fn(), ready: vi.fn(), status: vi.fn() }
  const engine = { hopeless: false, backends: { answering: [], fault: null } }
  const service = { engine, models: { current: {} }, readiness: { phase: 'ready' } }
  new ServiceReport(systemd as unknown as Systemd, service as unknown as ReportedService)
  expect(systemd.alive).toHaveBeenCalledTimes(1)
  vi.advanceTimersByTime(9999)
  expect(systemd.alive).toHaveBeenCalledTimes(1)
  vi.advanceTimersByTime(1)
  expect(systemd.alive).toHaveBeenCalledTimes(2)
  engine.hopeless = true
  vi.advanceTimersByTime(60_000)
  expect(systemd.alive).toHaveBeenCalledTimes(2)
})

test('what fails the golden check at the start is not ready, and says so', () => {
  const systemd = { watchdogMs: null, ready: vi.fn(), status: vi.fn() }
  const engine = { backends: { answering: ['onnx'], fault: null } }
  const service = { engine, models: { current: {} }, readiness: { phase: 'golden_check_failed' } }
  new ServiceReport(systemd as unknown as Systemd, service as unknown as ReportedService)
  expect(systemd.status.mock.calls).toEqual([['not ready: golden check failed']])
  expect(systemd.ready).not.toHaveBeenCalled()
})

test('the unit leaves a drain its time, and starts nothing again that must not be', () => {
  const unit = packaging('systemd/hailo-inference.service')
  const set = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(unit)![1]
  expect(Number(set('TimeoutStopSec')) * 1000).toBeGreaterThan(LONGEST_SHUTDOWN_MS)
  expect(set('RestartPreventExitStatus')).toBe(`${EXITS.drain_cut_short} ${EXITS.config}`)
})

test('what the configuration file of the package proposes are keys that there are', () => {
  const proposed = [...packaging('debian/hailo-inference.env').matchAll(/^#(\w+)=/gm)].map(([, key]) => key)
  expect(proposed.length).toBeGreaterThan(5)
  expect(CONFIG_KEYS).toEqual(expect.arrayContaining(proposed))
})

function packaging(file: string): string {
  return readFileSync(join(PROJECT_FOLDER, 'packaging', file), 'utf8')
}

/** What systemd gives to a service, and all that it has been told, the oldest first. */
async function pretendedSystemd(watchdogMs?: number) {
  const folder = mkdtempSync(join(tmpdir(), 'systemd-'))
  const NOTIFY_SOCKET = join(folder, 'notify')
  const program = join(PROJECT_FOLDER, 'test', 'programs', 'datagrams.py')
  const receiver = spawn('python3', [program, NOTIFY_SOCKET], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => {
    receiver.kill()
    rmSync(folder, { recursive: true, force: true })
  })
  let printed = ''
  receiver.stdout.setEncoding('utf8').on('data', text => (printed += text))
  await until(() => printed.startsWith('listening\n'))
  const env = { NOTIFY_SOCKET, ...(watchdogMs && { WATCHDOG_USEC: String(watchdogMs * 1000) }) }
  return {
    env,
    /** BARRIER=1 is a question of systemd-notify, whether it may go. */
    get told() {
      return printed
        .split('\n')
        .slice(1, -1)
        .filter(word => word !== 'BARRIER=1')
    },
  }
}
