import type { Origin } from '../src/engine/observer.ts'

/** A client's request, for tests below the front door. */
export const ORIGIN: Origin = {
  endpoint: '/infer',
  requestId: 'one-of-a-test',
  stream: 0,
  sequence: 0,
  trace: null,
  arrivedMs: 0,
}
