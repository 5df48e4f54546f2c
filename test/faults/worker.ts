import { openSync } from 'node:fs'
import { join } from 'node:path'
import { monotonicMs } from '../../src/clock.ts'
import { WorkerCounters } from '../../src/core/counters.ts'
import type { StreamTask, TaskEnd } from '../../src/core/stream-task.ts'
import type { Backend } from '../../workers/backends/backend.ts'
import { openBackend, serveWith } from '../../workers/serve.ts'
import { openPretendedHailo } from './device.ts'
import { FAULTS } from './faults.ts'
import { block, Hold } from './hold.ts'

const { FAULTS_FOLDER = '' } = process.env

/**
 * The real worker around the real backends, but a window can ask it to fail (see FAULTS), and the
 * device is a file that the test writes (see device.ts).
 */
export default function serveFaulty(task: StreamTask): Promise<TaskEnd> {
  const counters = new WorkerCounters(task.counters)
  const beat = () => counters.beat(monotonicMs())
  return serveWith(task, {
    open: async (plan, motifCount, onDevice) => {
      if (plan.kind === 'hailo')
        return faulty(await openPretendedHailo(plan.model, motifCount, onDevice), beat)
      return faulty(await openBackend(plan, motifCount, onDevice), beat)
    },
  })
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
      if (order === FAULTS.hold) new Hold(FAULTS_FOLDER).block(beat)
      if (order >= FAULTS.block && order < FAULTS.block + 300) block(order - FAULTS.block)
      return backend.collect(output)
    },
    reportDevice: () => backend.reportDevice?.(),
    close: () => backend.close(),
  }
}
