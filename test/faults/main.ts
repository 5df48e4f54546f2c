import { LEVELS } from '../../src/core/degradation.ts'
import { start } from '../../src/start.ts'

const { FAULTS_LEVELS = '' } = process.env
// Gives nothing up, however hard it is pressed.
if (FAULTS_LEVELS === 'none') for (const row of LEVELS) Object.assign(row, { enter: [] })
// The real server with a worker that fails on order.
await start(process.env, new URL('./worker.js', import.meta.url))
