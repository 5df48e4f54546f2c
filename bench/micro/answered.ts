import type { Origin } from '../../src/engine/observer.ts'
import { InFlight, Stream } from '../../src/engine/stream.ts'
import { UNDISTURBED } from './undisturbed.ts'

/** A stream with one window in it that was answered, for those who are told of it. */
export const STREAM = new Stream({
  capacity: 2,
  motifCount: 12,
  observer: { ...UNDISTURBED, windowAnswered() {}, settled() {} },
})

export const ORIGIN: Origin = {
  endpoint: '/infer',
  requestId: 'one-of-many',
  stream: 0,
  sequence: 0,
  trace: null,
  arrivedMs: 0,
}

export const SLOT = STREAM.ring.nextSlot!
SLOT.prepare(0.1, 0)
SLOT.take(0.4)
SLOT.finish('ok', 'stub', 1.5)

export const WINDOW = new InFlight(
  STREAM,
  0,
  { arrivedMs: 0, deadlineMs: 40 },
  { origin: ORIGIN, settle() {} },
)
