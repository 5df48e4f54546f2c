import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { FAULTS } from './faults/faults.ts'
import { SOFT_HEF, softDevice, startHailo } from './hailo.ts'
import { hefFolder } from './hef-file.ts'
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
import { freePort, startServer } from './server.ts'
import { folderForTest } from './telemetry-folder.ts'
import { windowOf } from './windows.ts'

const PATIENT = { deadlineMs: 5000 }

test('a worker out of memory takes its own windows with it, and nothing else', async () => {
  const server = await startFaultyServer({ WORKERS: '2' })
  const { port } = server
  server.release()
  let stopped = false
  let sequence = 0
  const load = closedLoop({
    port,
    clients: 2,
    more: () => !stopped,
    request: connection => connection.post(distinctWindow(sequence++), PATIENT),
  })
  await until(() => sequence > 20)
  const killing = await post(port, distinctWindow(0, FAULTS.exhaust), PATIENT)
  expect(killing).toMatchObject({ status: 503, headers: { 'retry-after': '1' } })
  await until(async () => (await metric(port, 'hailo_worker_restarts_total', 'cause="out_of_memory"')) === 1)
  const answered = sequence
  await until(() => sequence > answered + 100)
  stopped = true

  const { 200: _, 503: lost = 0, ...others } = tallyOf((await load).flat())
  expect(others).toEqual({})
  expect(lost).toBeLessThanOrEqual(2) // each client had one window out at a time
  await until(async () => (await get(port, '/readyz')).status === 200)
  expect(await metric(port, 'hailo_worker_restarts_total')).toBe(1)
  expect(server.process.exitCode).toBeNull()
})

test.skipIf(COMPILER === null)(
  'a HEF that is corrupted on disk is read no second time while it serves',
  async () => {
    const head = readFileSync(join(dirname(SOFT_HEF), 'motif_head.f32'))
    const { hefPath } = hefFolder(readFileSync(SOFT_HEF), { files: { 'motif_head.f32': head } })
    const { server, device } = await startHailo({ HEF_PATH: hefPath, WORKERS: '1' })
    const { port } = server
    const before = await post(port, windowOf(3), PATIENT)
    expect(before.status).toBe(200)

    const corrupted = readFileSync(hefPath)
    corrupted[corrupted.length >> 1]! ^= 1
    writeFileSync(hefPath, corrupted)
    await device('unplug')
    await until(async () => (await post(port, windowOf(3), { deadlineMs: 150 })).status === 503)
    expect(await metric(port, 'hailo_worker_restarts_total')).toBeGreaterThan(0)
    await device('')
    await until(async () => (await get(port, '/readyz')).status === 200)
    await until(async () => (await post(port, windowOf(3), PATIENT)).body.equals(before.body))

    // Who starts now is told.
    await expect(startServer({ ...softDevice().env, HEF_PATH: hefPath })).rejects.toThrow(
      /ended with 78 .*\/model\.hef: .+, expected /s,
    )
  },
)

// One that the system chose is refused by the kernel too; one that was asked for would be shared without a word.
test('an engine does not start on the port that another was told to serve, which serves on', async () => {
  const env = { INFER_MODE: 'stub', WORKERS: '1', SIDECAR_PORT: String(await freePort()) }
  const { port } = await startServerForTest(env)
  await expect(startServerForTest(env)).rejects.toThrow(
    new RegExp(`ended with 1 .*cannot start:\\n.*127\\.0\\.0\\.1 port ${port}`, 's'),
  )
  expect((await post(port, windowOf(0), PATIENT)).status).toBe(200)
  expect(await metric(port, 'hailo_starts_recent')).toBe(1)
})

test.for([
  { where: 'below a file', stateFolder: () => join(fileForTest(), 'state') },
  { where: 'on a full disk', stateFolder: fullDisk },
])(
  'a state folder $where costs the record of the last end, and nothing else',
  async ({ stateFolder }, context) => {
    const folder = stateFolder()
    if (folder === null) return context.skip('no right to mount a small disk')
    const env = { INFER_MODE: 'stub', WORKERS: '1', STATE_DIR: folder, LOG_LEVEL: 'warn' }
    const starting = startServerForTest({ ...env, SIDECAR_PORT: String(await freePort()) })
    await expect(starting).resolves.toBeDefined()
    const server = await starting
    const { port } = server
    expect((await post(port, windowOf(0), PATIENT)).status).toBe(200)
    expect(await metric(port, 'hailo_last_exit_info', 'code="none",cause="unknown"')).toBe(1)
    expect(await metric(port, 'hailo_starts_recent')).toBe(1)
    await until(() => server.stderr.includes('STATE_DIR cannot be written to'))
    expect(await server.stop()).toBe(0)
  },
)

function fileForTest(): string {
  const path = join(folderForTest(), 'file')
  writeFileSync(path, '')
  return path
}

/** Null where none can be had. */
function fullDisk(): string | null {
  const folder = folderForTest()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder], { stdio: 'ignore' })
  } catch {
    return null
  }
  onTestFinished(() => void execFileSync('umount', ['--lazy', folder]))
  const state = join(folder, 'state')
  mkdirSync(state)
  const { bavail, bsize } = statfsSync(folder)
  writeFileSync(join(folder, 'filler'), Buffer.alloc(bavail * bsize))
  return state
}
