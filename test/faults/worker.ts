import { openSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../../src/clock.ts'
import { WorkerCounters } from '../../src/core/counters.ts'
import type { StreamTask, TaskEnd } from '../../src/core/stream-task.ts'
import { type Backend, BackendError } from '../../workers/backends/backend.ts'
import { openBackend, serveWith } from '../../workers/serve.ts'
import { openPretendedHailo } from './device.ts'
import { FAULTS, type Opening, openingOf } from './faults.ts'
import { block, Hold } from './hold.ts'

const { FAULTS_FOLDER = '' } = process.env
const SLOW_MS = 400

/**
 * The real worker around the real backends, but a window can ask it to fail (see FAULTS), and the
 * device is a file that the test writes (see device.ts).
 */
export default function serveFaulty(task: StreamTask): Promise<TaskEnd> {
  const counters = new WorkerCounters(task.counters)
  const beat = () => counters.beat(monotonicMs())
  return serveWith(task, {
    open: async (plan, motifCount, onDevice) => {
      if (task.worker === 1) await carryOut(openingOf(plan))
      if (plan.kind === 'hailo')
        return faulty(await openPretendedHailo(plan.model, motifCount, onDevice), beat)
      return faulty(await openBackend(plan, motifCount, onDevice), beat)
    },
  })
}

async function carryOut(order: Opening | undefined): Promise<void> {
  if (order === 'fail') throw new BackendError('device_in_use', 'a plan asked for this failure')
  if (order === 'exit') process.exit(1)
  if (order === 'hang') while (true);
  if (order === 'slow') await sleep(SLOW_MS)
}

function faulty(backend: Backend, beat: () => void): Backend {
  const orders: number[] = []
  return {
    depth: backend.depth,
    get batchSize() {
      return backend.batchSize
    },
    // What is ordered of the next window may take for ever.
    ready: 0,
    get failure() {
      return backend.failure
    },
    submit(input) {
      orders.push(input[0]!)
      backend.submit(input)
    },
    collect(output) {
      const order = orders.shift()!
      if (order === FAULTS.throw) throw new Error('a window asked for this failure')
      if (order === FAULTS.exit) process.exit(1)
      if (order === FAULTS.hang) while (true);
      if (order === FAULTS.stick) openSync(join(FAULTS_FOLDER, 'stuck'), 'r')
      if (order === FAULTS.exhaust) exhaustHeap()
      if (order === FAULTS.hold) new Hold(FAULTS_FOLDER).block(beat)
      if (order >= FAULTS.block && order < FAULTS.block + 300) block(order - FAULTS.block)
      return backend.collect(output)
    },
    reportDevice: () => backend.reportDevice?.(),
    close: () => backend.close(),
  }
}

/** Integers take 8 bytes each, in arrays that lie in the heap. */
function exhaustHeap(): void {
  const held: number[][] = []
  while (held.length < 48) held.push(new Array(2 ** 20).fill(0))
}
