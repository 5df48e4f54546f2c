import type { BackendPlan } from '../../src/core/stream-task.ts'

/** What the first value of a window (ax of row 0, m/s²) orders the worker of `faults/main.ts` to do. */
export const FAULTS = {
  /** 100 + n: block the worker thread for n ms, 0 ≤ n < 300, then go on. */
  block: 100,
  throw: 401,
  /** End the worker thread without a word. */
  exit: 402,
  /** Spin for ever, deaf to every message. */
  hang: 403,
  /** Block the worker thread until it is released, see hold.ts. */
  hold: 404,
  /** Sit in a native call until somebody writes to the FIFO `stuck` of FAULTS_FOLDER, deaf even to the end of the thread. */
  stick: 405,
} as const

/** What a plan orders worker 1 to do when it opens a backend, see `ordering()`. */
export type Opening = 'fail' | 'exit' | 'hang' | 'slow'

/** The plan of a model that opens in its own way in worker 1, and as ever in all others. */
export function ordering(plan: BackendPlan, opening: Opening): BackendPlan {
  return Object.assign({ ...plan }, { opening })
}

export function openingOf(plan: BackendPlan): Opening | undefined {
  return (plan as { opening?: Opening }).opening
}
