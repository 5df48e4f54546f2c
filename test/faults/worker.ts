import type { StreamTask } from '../../src/core/stream-task.ts'
import type { Backend } from '../../workers/backends/backend.ts'
import { openBackend, serveWith } from '../../workers/serve.ts'
import { FAULTS } from './faults.ts'

/** The real worker around the real backend, but a window can ask it to fail. See FAULTS. */
export default function serveFaulty(task: StreamTask): Promise<'stopped' | 'stream_lost'> {
  return serveWith(task, async task => faulty(await openBackend(task)))
}

function faulty(backend: Backend): Backend {
  const orders: number[] = []
  return {
    depth: backend.depth,
    get batchSize() {
      return backend.batchSize
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
      if (order >= FAULTS.block && order < FAULTS.block + 300) block(order - FAULTS.block)
      return backend.collect(output)
    },
    close: () => backend.close(),
  }
}

function block(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}
