import { setImmediate as nextTurn } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { distance, Ring } from '../../../src/core/ring.ts'
import { type Hop, type HopTask, WINDOW } from './hop.ts'

/** Our ring alone: the worker sleeps in Atomics.wait, the main thread in Atomics.waitAsync. */
export async function open({ depth, onResult }: HopTask): Promise<Hop> {
  const ring = Ring.create({ capacity: depth, motifCount: 12 })
  const worker = new Worker(new URL('./ring-worker.js', import.meta.url), { workerData: ring.buffer })
  return {
    async run(ms) {
      let over = false
      setTimeout(() => {
        over = true
      }, ms)
      while (!over || ring.inFlight > 0) {
        const { completed, released } = ring
        for (let sequence = released; sequence !== completed; sequence = (sequence + 1) | 0) {
          onResult(ring.slot(sequence).output)
        }
        ring.release(completed)
        for (let room = over ? 0 : depth - distance(completed, ring.published); room > 0; room--) {
          ring.nextSlot!.input.set(WINDOW)
          ring.publish()
        }
        ring.wakeWorker()
        if (ring.inFlight > 0) await (ring.untilBell(completed) ?? nextTurn())
      }
    },
    async close() {
      ring.stop()
      await worker.terminate()
    },
  }
}
