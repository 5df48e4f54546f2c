import { LEVELS } from '../../src/core/degradation.ts'
import { LONGEST_SHUTDOWN_MS } from '../../src/shutdown.ts'
import { start } from '../../src/start.ts'

const { FAULTS_LEVELS = '', FAULTS_SHUTDOWN_MS = '' } = process.env
// Gives nothing up, however hard it is pressed.
if (FAULTS_LEVELS === 'none') for (const row of LEVELS) Object.assign(row, { enter: [] })
if (FAULTS_SHUTDOWN_MS !== '') {
  const { setTimeout } = globalThis
  const sooner = (call: () => void, ms?: number) =>
    setTimeout(call, ms === LONGEST_SHUTDOWN_MS ? Number(FAULTS_SHUTDOWN_MS) : ms)
  globalThis.setTimeout = Object.assign(sooner, setTimeout) as typeof setTimeout
}
// The real server with a worker that fails on order.
await start(process.env, new URL('./worker.js', import.meta.url))
