import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { PROJECT_FOLDER } from '../src/project.ts'
import { FAULTS } from './faults/faults.ts'
import {
  Connection,
  closedLoop,
  distinctWindow,
  openLoop,
  post,
  residentMegabytes,
  startServerForTest,
  tallyOf,
  until,
} from './load.ts'
import { windowOf } from './windows.ts'

/** Every window keeps the only worker busy for so long: the capacity is known, whatever the machine. */
const SERVICE_MS = 25
const CAPACITY_PER_SECOND = 1000 / SERVICE_MS
const DEADLINE_MS = 100
/** Of each of two loads. */
const SECONDS = 2
const UPLOADER = join(PROJECT_FOLDER, 'dist/test/programs/uploader.js')

test('four times the load that it can bear takes neither goodput, deadlines nor memory', async () => {
  const server = await startServerForTest(
    { INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: String(DEADLINE_MS) },
    { faults: true },
  )
  const { port } = server
  const overload = () =>
    openLoop({
      port,
      perSecond: 4 * CAPACITY_PER_SECOND,
      seconds: SECONDS,
      window: index => distinctWindow(index, FAULTS.block + SERVICE_MS),
    })
  const firstHalf = await overload()
  const megabytesAtHalf = residentMegabytes(server.process.pid!)
  const secondHalf = await overload()
  expect(residentMegabytes(server.process.pid!)).toBeLessThan(megabytesAtHalf + 25)

  const answers = [...firstHalf, ...secondHalf]
  const { 200: answered = 0, 429: shed = 0, 504: late = 0 } = tallyOf(answers.map(({ status }) => status))
  expect(answered + shed + late).toBe(answers.length)
  expect(answered).toBeGreaterThan((2 * SECONDS * CAPACITY_PER_SECOND) / 2)
  const inTime = answers.filter(({ status, tookMs }) => status === 200 && tookMs < 2 * DEADLINE_MS)
  expect(inTime.length).toBeGreaterThan(0.95 * answered)

  for (let sequence = 0; sequence < 20; sequence++) {
    expect((await post(port, distinctWindow(sequence), { deadlineMs: 1000 })).status).toBe(200)
  }
})

test('the model answers 2,000 windows over 8 connections without a failure', async () => {
  const { port } = await startServerForTest()
  let sequence = 0
  const outcomes = await closedLoop({
    port,
    clients: 8,
    more: () => sequence < 2000,
    request: connection => connection.post(distinctWindow(sequence++), { deadlineMs: 1000 }),
  })
  expect(tallyOf(outcomes.flat())).toEqual({ 200: 2000 })
})

// The uploads are another process's: what is measured is the server, not a client that is busy itself.
test("live windows are answered within EdgeInfer's 45 ms while uploads run at full speed", async () => {
  // A ring so long that a window behind a full one would come too late.
  const { port } = await startServerForTest({ WORKERS: '1', RING_SLOTS: '512' })
  const connection = new Connection(port)
  const alone = await liveP95Ms(connection)
  const uploader = spawn(process.execPath, [UPLOADER, String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void uploader.kill())
  let uploads = ''
  uploader.stdout.on('data', text => (uploads += text))
  await until(() => uploads.includes('\n'))
  const beside = await liveP95Ms(connection)
  connection.close()
  expect(new Set(uploads.trim().split('\n'))).toEqual(new Set(['failed 0']))
  // On a machine that is busy with other things, neither is.
  console.log(`live p95 ${alone.toFixed(1)} ms alone, ${beside.toFixed(1)} ms beside uploads`)
  expect(beside).toBeLessThan(Math.max(45, 4 * alone))
})

/** Of 120 windows, one every 20 ms, the time within which 95 % were answered. */
async function liveP95Ms(connection: Connection): Promise<number> {
  const tookMs: number[] = []
  for (let count = 0; count < 120; count++) {
    const answer = await connection.post(windowOf(count % 64), { deadlineMs: 1000 })
    expect(answer.status).toBe(200)
    tookMs.push(answer.tookMs)
    await sleep(Math.max(0, 20 - answer.tookMs))
  }
  return tookMs.sort((a, b) => a - b)[113]!
}
