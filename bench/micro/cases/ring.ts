import { Ring } from '../../../src/core/ring.ts'
import { repeated } from '../case.ts'

const DEADLINE_MS = Number.MAX_VALUE

const ring = Ring.create({ capacity: 256, motifCount: 12 })

/** Both ends on one thread: what the atomics cost without anybody to wait for. */
export const RING_CASES = [
  repeated('ring: prepare, publish, take, finish, complete, release', 1000, () => {
    ring.nextSlot!.prepare(0, DEADLINE_MS)
    const sequence = ring.publish()
    ring.wakeWorker()
    const slot = ring.slot(sequence)
    slot.take(0)
    slot.finish('ok', 'stub', 0)
    ring.complete(sequence)
    ring.release((sequence + 1) | 0)
  }),
]
