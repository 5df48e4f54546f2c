import { workerData } from 'node:worker_threads'
import { Ring } from '../../../src/core/ring.ts'
import { NOOP_RESULT } from '../../contenders/noop.ts'

const IDLE_WAIT_MS = 100

const ring = new Ring(workerData, 12)
let next = ring.completed
while (!ring.stopping) {
  for (let waiting = ring.waitForWindows(next, IDLE_WAIT_MS); waiting > 0; waiting--) {
    ring.slot(next).output.set(NOOP_RESULT)
    ring.complete(next)
    next = (next + 1) | 0
  }
}
