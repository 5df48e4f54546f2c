import { BACKEND_FAILURES } from '../core/backend.ts'

/** Why a model has not taken over from the one that serves. A closed list: it is a label of metrics. */
export const REPLACE_FAILURES = [
  ...BACKEND_FAILURES,
  // A worker that was to run it ...
  'error', // ... threw
  'exit', // ... ended without a word
  'out_of_memory', // ... wanted more heap than it may have
  'stuck', // ... had nothing to show for too long
  'busy', // another replacement is under way
  'draining',
] as const

export type ReplaceFailure = (typeof REPLACE_FAILURES)[number]

/** The device's, and not the model's: the same model may be opened later. */
const PASSING: readonly ReplaceFailure[] = [
  'no_device',
  'device_in_use',
  'device_lost',
  'device_hot',
  'timeout',
  'aborted',
]

/** A model cannot take over: the one that served goes on, as if nobody had asked. */
export class ReplaceError extends Error {
  override readonly cause: ReplaceFailure

  constructor(cause: ReplaceFailure, detail: string) {
    super(detail)
    this.name = 'ReplaceError'
    this.cause = cause
  }

  get detail(): string {
    return this.message
  }

  get mayPass(): boolean {
    return PASSING.includes(this.cause)
  }
}
