import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { PROJECT_FOLDER } from '../src/project.ts'
import { TelemetryCounters } from '../src/telemetry/counters.ts'
import { dayOf } from '../src/telemetry/folder.ts'
import { Archive } from '../workers/telemetry/archive.ts'
import { bytesOf, Connection, OCTET_STREAM, postOf } from './http-client.ts'
import { get, metric, startServerForTest, until } from './load.ts'
import { COMPILER } from './native.ts'
import { startServer, type TestServer } from './server.ts'
import { filesIn, folderForTest, linesIn } from './telemetry-folder.ts'
import { windowOf } from './windows.ts'

const BINARY = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
const STUB = { INFER_MODE: 'stub', DEADLINE_MS: '5000', WORKERS: '1' }
const ROW_BYTES = 304

test('files are rotated, the oldest of all runs go when the budget is used up, and nobody else is touched', async () => {
  const folder = folderForTest()
  const old = join(folder, '2020-01-02')
  mkdirSync(old)
  writeFileSync(join(old, 'answers-001.ndjson'), '-'.repeat(600_000))
  writeFileSync(join(old, 'kept-007.ndjson'), '-'.repeat(1000))
  writeFileSync(join(old, 'kept-007.f32'), '-'.repeat(3600))
  writeFileSync(join(folder, 'notes.txt'), '-'.repeat(2_000_000))
  const server = await startServerForTest({ TELEMETRY_DIR: folder, TELEMETRY_MAX_MB: '1', ...STUB })
  expect(await metric(server.port, 'hailo_telemetry_disk_budget_bytes')).toBe(1e6)

  await postMany(server, 900)
  await untilLines(server, 900)
  const files = filesIn(folder, 'answers')
  const today = dayOf(Date.now())
  expect(files).toEqual(files.map((_, index) => `${today}/answers-00${index + 1}.ndjson`))
  expect(files.length).toBeGreaterThan(3)
  expect(filesIn(folder)).not.toContain('2020-01-02/answers-001.ndjson')
  expect(linesIn(folder)).toHaveLength(900)

  for (let lines = 1100; lines <= 2300; lines += 200) {
    await postMany(server, 200)
    await untilLines(server, lines)
    expect(bytesIn(folder)).toBeLessThanOrEqual(1e6)
  }
  expect(filesIn(folder)).not.toContain(files[0])
  // Lines drive out lines: the windows that were kept are fewer, and stay.
  expect(filesIn(folder)).toContain('2020-01-02/kept-007.f32')
  await until(async () => (await metric(server.port, 'hailo_telemetry_disk_bytes')) === bytesIn(folder))
  expect(await metric(server.port, 'hailo_telemetry_removed_files_total')).toBeGreaterThan(1)
  expect(readFileSync(join(folder, 'notes.txt'))).toHaveLength(2_000_000)
  expect(await metric(server.port, 'hailo_telemetry_dropped_total')).toBe(0)
})

test('after kill -9 the next run begins a file of its own, and half a line harms no reader', async () => {
  const folder = folderForTest()
  const env = { TELEMETRY_DIR: folder, ...STUB }
  const killed = await startServerForTest(env)
  await postMany(killed, 20)
  await untilLines(killed, 20)
  await killed.stop('SIGKILL')
  const [first] = filesIn(folder, 'answers')
  appendFileSync(join(folder, first!), '{"v":1,"time":"20')

  const next = await startServerForTest(env)
  await until(async () => (await metric(next.port, 'hailo_telemetry_disk_bytes')) === bytesIn(folder))
  await postMany(next, 5)
  expect(await next.stop()).toBe(0) // what is in the ring at a drain is written
  const [, second] = filesIn(folder, 'answers')
  expect(second).toMatch(/answers-002\.ndjson$/)
  const texts = readFileSync(join(folder, second!), 'utf8').trimEnd().split('\n')
  expect(texts.map(text => JSON.parse(text).sequence)).toEqual([0, 1, 2, 3, 4])
})

test('a full disk harms no answer, is counted, and is written to again when there is room', async context => {
  const folder = folderForTest()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', folder], { stdio: 'ignore' })
  } catch {
    context.skip('no right to mount a small disk')
  }
  onTestFinished(() => void execFileSync('umount', ['--lazy', folder]))
  const server = await startServerForTest({ TELEMETRY_DIR: folder, LOG_LEVEL: 'info', ...STUB })
  await postMany(server, 10)
  await untilLines(server, 10)

  const filler = join(folder, 'filler')
  writeFileSync(filler, Buffer.alloc(statfsSync(folder).bavail * statfsSync(folder).bsize))
  const dropped = () => metric(server.port, 'hailo_telemetry_dropped_total', 'disk_full')
  while ((await dropped()) === 0) await postMany(server, 50)
  await until(() => server.stderr.includes('"code":"ENOSPC"'))

  rmSync(filler)
  await until(async () => {
    await postMany(server, 1)
    return server.stderr.includes('telemetry is written again')
  })
  // All of them whole.
  await until(
    async () => linesIn(folder).length === (await metric(server.port, 'hailo_telemetry_lines_total')),
  )
  expect(await metric(server.port, 'hailo_telemetry_dropped_total', 'disk_error')).toBe(0)
  expect(filesIn(folder, 'answers')).toHaveLength(1)
})

test('what does not fit on the disk is counted, and the next lines go to a file of their own', async () => {
  const folder = folderForTest()
  const full = join(folder, 'full')
  symlinkSync('/dev/full', full)
  const env = { TELEMETRY_DIR: folder, LOG_LEVEL: 'info', ...STUB, ...otherDisk(full) }
  const server = await startServerForTest(env)
  await postMany(server, 10)
  await until(async () => (await metric(server.port, 'hailo_telemetry_dropped_total', 'disk_full')) === 10)
  await until(() => server.stderr.includes('"code":"ENOSPC"'))
  rmSync(full)
  await postMany(server, 5)
  await untilLines(server, 5)
  expect(linesIn(folder)).toHaveLength(5)
  await until(() => server.stderr.includes('telemetry is written again'))
})

test('a name that another server has taken meanwhile is passed over', () => {
  const folder = folderForTest()
  const today = join(folder, dayOf(Date.now()))
  mkdirSync(today)
  // Not seen where the files are listed, as those that are made a moment later.
  for (const name of ['answers-001.ndjson', 'kept-001.ndjson', 'kept-002.f32']) {
    symlinkSync('/dev/null', join(today, name))
  }
  const archive = new Archive(folder, 1e9, new TelemetryCounters())
  archive.addLines('a line\n', Date.now())
  archive.addKept(windowOf(0), row => `${row}\n`, Date.now())
  archive.close()
  expect(
    filesIn(folder)
      .map(name => name.slice(11))
      .sort(),
  ).toEqual(['answers-002.ndjson', 'kept-003.f32', 'kept-003.ndjson'])
})

test('nobody but this user and its group may read what is kept', () => {
  const folder = join(folderForTest(), 'telemetry')
  const archive = new Archive(folder, 1e9, new TelemetryCounters())
  archive.addKept(windowOf(0), row => `${row}\n`, Date.now())
  archive.close()
  const paths = [folder, join(folder, dayOf(Date.now())), ...filesIn(folder).map(name => join(folder, name))]
  expect(paths).toHaveLength(4)
  for (const path of paths) expect(statSync(path).mode & 0o007).toBe(0)
})

test('a disk that hangs harms no answer, and does not keep the server from ending', async () => {
  const folder = folderForTest()
  const pipe = join(folder, 'pipe')
  execFileSync('mkfifo', [pipe])
  // Somebody has it open and reads nothing: beyond 64 KB every write waits.
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK)
  onTestFinished(() => closeSync(reader))
  const env = { TELEMETRY_DIR: folder, LOG_LEVEL: 'info', ...STUB, ...otherDisk(pipe) }
  const server = await startServerForTest(env)
  const dropped = () => metric(server.port, 'hailo_telemetry_dropped_total', 'queue_full')
  while ((await dropped()) === 0) await postMany(server, 500)

  const askedMs = performance.now()
  // JavaScript alone has no other way to end a thread that is in a write.
  expect(await server.stop()).toBe(COMPILER === null ? 'SIGKILL' : 0)
  expect(performance.now() - askedMs).toBeLessThan(20_000)
  expect(server.stderr).toContain('telemetry hangs in the disk')
})

test('a folder that goes away while it is written to is made again', async () => {
  const parent = folderForTest()
  const folder = join(parent, 'deep', 'telemetry')
  const server = await startServerForTest({ TELEMETRY_DIR: folder, ...STUB })
  await postMany(server, 3)
  await untilLines(server, 3)
  renameSync(folder, join(parent, 'aside'))
  rmSync(join(parent, 'aside'), { recursive: true })
  await postMany(server, 2)
  await untilLines(server, 5)
  expect(linesIn(folder)).toHaveLength(2)
  await until(async () => (await metric(server.port, 'hailo_telemetry_disk_bytes')) === bytesIn(folder))
})

test('a folder that can never be written stops the start with a sentence', async () => {
  const file = join(folderForTest(), 'file')
  writeFileSync(file, '')
  await expect(startServer({ TELEMETRY_DIR: join(file, 'in'), ...STUB })).rejects.toThrow(
    /ended with 78 .*TELEMETRY_DIR: .*\/file\/in cannot be written \(ENOTDIR\), expected a folder/s,
  )
})

test('without TELEMETRY_DIR nothing is written, and the metrics are there all the same', async () => {
  const server = await startServerForTest(STUB)
  await postMany(server, 3)
  const { body } = await get(server.port, '/metrics')
  const rows = String(body).match(/^hailo_telemetry_\w+(\{.*\})? .*$/gm)!
  expect(rows).toHaveLength(1 + 5 + 5 + 1 + 1 + 1) // of kept windows one per reason, of lost records too
  expect(rows.filter(row => !row.endsWith(' 0'))).toEqual([])
})

/** Lines of answers go to that file, in place of files in the folder, while it is there. */
function otherDisk(path: string): Record<string, string> {
  const program = join(PROJECT_FOLDER, 'dist/test/programs/other-disk.js')
  return { OTHER_DISK: path, NODE_OPTIONS: `--import=${program}` }
}

/** In one request. Every one of them must be answered. */
async function postMany(server: TestServer, count: number): Promise<void> {
  const body = Buffer.concat(Array.from({ length: count }, (_, n) => bytesOf(windowOf(n % 64))))
  const connection = await Connection.open(server)
  connection.send(postOf(body, BINARY))
  const answer = await connection.answer()
  connection.close() // one that stays open would have the server wait when it drains
  expect(answer.status).toBe(200)
  expect(answer.body).toHaveLength(count * ROW_BYTES)
}

function untilLines(server: TestServer, count: number): Promise<void> {
  return until(async () => (await metric(server.port, 'hailo_telemetry_lines_total')) === count)
}

function bytesIn(folder: string): number {
  return filesIn(folder).reduce((sum, name) => sum + readFileSync(join(folder, name)).length, 0)
}
