/** Why a window is kept with its samples. A closed list: it is a label of metrics, and its order that of the cells. */
export const KEPT_REASONS = [
  'low_margin',
  'high_entropy',
  'far_latent',
  'suspect_units',
  'reference_disagrees',
] as const

export type KeptReason = (typeof KEPT_REASONS)[number]

/** Why a line was not written; `sampled`: on purpose, under load. A closed list, as above. */
export const DROP_REASONS = ['queue_full', 'disk_full', 'disk_error', 'thread_failed', 'sampled'] as const

export type DropReason = (typeof DROP_REASONS)[number]

/**
 * What telemetry counts, in shared memory: a scrape reads it without sending the thread a message.
 *
 *   float64  0       lines written
 *   float64  1       bytes of our files
 *   float64  2       bytes that they may have, 0 while there is no telemetry
 *   float64  3       files removed to stay within that
 *   float64  4 –  8  windows kept, per reason of KEPT_REASONS
 *   float64  9 – 13  records dropped, per reason of DROP_REASONS
 */
const LINES = 0
const DISK_BYTES = 1
const BUDGET_BYTES = 2
const REMOVED_FILES = 3
const KEPT = 4
const DROPPED = KEPT + KEPT_REASONS.length
const LENGTH = DROPPED + DROP_REASONS.length

/**
 * Each cell has one writer: `queue_full`, `sampled` and the budget the main thread, all others the thread that writes, and once
 * there is none `thread_failed` the main thread.
 */
export class TelemetryCounters {
  readonly buffer: SharedArrayBuffer
  readonly #cells: Float64Array

  constructor(buffer = new SharedArrayBuffer(LENGTH * 8)) {
    this.buffer = buffer
    this.#cells = new Float64Array(buffer)
  }

  get lines(): number {
    return this.#cells[LINES]!
  }

  countLines(count: number): void {
    this.#cells[LINES]! += count
  }

  get diskBytes(): number {
    return this.#cells[DISK_BYTES]!
  }

  set diskBytes(bytes: number) {
    this.#cells[DISK_BYTES] = bytes
  }

  get budgetBytes(): number {
    return this.#cells[BUDGET_BYTES]!
  }

  set budgetBytes(bytes: number) {
    this.#cells[BUDGET_BYTES] = bytes
  }

  get removedFiles(): number {
    return this.#cells[REMOVED_FILES]!
  }

  countRemovedFiles(count: number): void {
    this.#cells[REMOVED_FILES]! += count
  }

  kept(reason: KeptReason): number {
    return this.#cells[KEPT + KEPT_REASONS.indexOf(reason)]!
  }

  countKept(reason: KeptReason): void {
    this.#cells[KEPT + KEPT_REASONS.indexOf(reason)]!++
  }

  dropped(reason: DropReason): number {
    return this.#cells[DROPPED + DROP_REASONS.indexOf(reason)]!
  }

  countDropped(reason: DropReason, count = 1): void {
    this.#cells[DROPPED + DROP_REASONS.indexOf(reason)]! += count
  }
}
