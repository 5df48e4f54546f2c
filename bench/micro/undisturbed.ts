import type { Observer } from '../../src/engine/observer.ts'

/** Of an engine that is measured: what it loses ends the measurement. */
export const UNDISTURBED: Observer = {
  inferenceEnded() {},
  cancelled() {},
  refused() {},
  workerLost(_worker, { error, fault }) {
    throw error ?? new Error(fault?.detail)
  },
  workerServing() {},
  poolFailed(error) {
    throw error
  },
  fallbackStarted() {},
  fallbackEnded() {},
  deviceChanged() {},
}
