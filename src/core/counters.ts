import { SENSORS } from './window.ts'

/** Upper edges of the batch-size histogram; the last bucket is open. */
export const BATCH_SIZE_EDGES = [1, 2, 4, 8, 16, 32, 64] as const

/**
 * What one worker counts, in shared memory: a scrape reads it without sending the worker a message.
 *
 *   float64  0       heartbeat, ms on the monotonic clock
 *   float64  1       windows that the model gave a result for
 *   float64  2       windows passed over: expired or dropped while they waited
 *   float64  3       ms with windows in hand
 *   float64  4 –  6  windows in suspect units, per sensor
 *   float64  7       windows handed to the model
 *   float64  8 – 15  batches per bucket of BATCH_SIZE_EDGES
 */
const HEARTBEAT_MS = 0
const INFERRED = 1
const PASSED_OVER = 2
const BUSY_MS = 3
const SUSPECT = 4
const BATCHED = SUSPECT + SENSORS.length
const BATCHES = BATCHED + 1
const LENGTH = BATCHES + BATCH_SIZE_EDGES.length + 1

/** Written by one worker (and by its successor after its end), read by the main thread. */
export class WorkerCounters {
  readonly buffer: SharedArrayBuffer
  readonly #cells: Float64Array

  constructor(buffer = new SharedArrayBuffer(LENGTH * 8)) {
    this.buffer = buffer
    this.#cells = new Float64Array(buffer)
  }

  /** Starts counting anew. Only while the worker has nothing in flight. */
  reset(): void {
    this.#cells.fill(0, INFERRED)
  }

  beat(nowMs: number): void {
    this.#cells[HEARTBEAT_MS] = nowMs
  }

  countInferred(): void {
    this.#cells[INFERRED]!++
  }

  countPassedOver(): void {
    this.#cells[PASSED_OVER]!++
  }

  countBusy(milliseconds: number): void {
    this.#cells[BUSY_MS]! += milliseconds
  }

  countBatch(size: number): void {
    const bucket = BATCH_SIZE_EDGES.findIndex(edge => size <= edge)
    this.#cells[BATCHES + (bucket === -1 ? BATCH_SIZE_EDGES.length : bucket)]!++
    this.#cells[BATCHED]! += size
  }

  /** @param mask a bit per sensor, see suspectSensors() */
  countSuspect(mask: number): void {
    for (let sensor = 0; mask !== 0; sensor++, mask >>= 1) this.#cells[SUSPECT + sensor]! += mask & 1
  }

  get heartbeatMs(): number {
    return this.#cells[HEARTBEAT_MS]!
  }

  get inferred(): number {
    return this.#cells[INFERRED]!
  }

  get passedOver(): number {
    return this.#cells[PASSED_OVER]!
  }

  get busyMs(): number {
    return this.#cells[BUSY_MS]!
  }

  suspect(sensor: number): number {
    return this.#cells[SUSPECT + sensor]!
  }

  /** Windows in all batches: the sum of the batch-size histogram. */
  get batched(): number {
    return this.#cells[BATCHED]!
  }

  /** Batches per bucket, not cumulative. */
  get batches(): Float64Array {
    return this.#cells.slice(BATCHES, LENGTH)
  }
}
