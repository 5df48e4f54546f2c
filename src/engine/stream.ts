import { setImmediate as nextTurn } from 'node:timers/promises'
import { monotonicMs } from '../clock.ts'
import { ServiceEstimate, type StreamLoad } from '../core/admission.ts'
import { WorkerCounters } from '../core/counters.ts'
import type { Outcome } from '../core/outcome.ts'
import { distance, Ring } from '../core/ring.ts'
import type { Slot } from '../core/slot.ts'
import type { Origin, StreamObserver } from './observer.ts'

/** Whoever waits for one window. Told its outcome once, or cancels before that. */
export interface Waiter {
  /** Absent: the engine itself, which is no client. */
  readonly origin?: Origin
  /** @param slot holds the result when the outcome is 'ok', for the length of this call only */
  settle(outcome: Outcome, slot: Slot): void
}

/** Of one window, ms on the monotonic clock. */
export interface WindowTimes {
  /** Of the first byte of its request. */
  readonly arrivedMs: number
  readonly deadlineMs: number
}

/** One window between its admission and its outcome. */
export class InFlight {
  readonly #stream: Stream
  readonly sequence: number
  readonly arrivedMs: number
  readonly deadlineMs: number
  readonly waiter: Waiter

  constructor(stream: Stream, sequence: number, { arrivedMs, deadlineMs }: WindowTimes, waiter: Waiter) {
    this.#stream = stream
    this.sequence = sequence
    this.arrivedMs = arrivedMs
    this.deadlineMs = deadlineMs
    this.waiter = waiter
  }

  /** The client is gone: if the window still waits, the worker will pass over it. */
  cancel(): void {
    this.#stream.cancel(this)
  }
}

/** The main thread's end of one ring: publishes windows into it and settles what comes out. */
export class Stream {
  readonly ring: Ring
  readonly counters = new WorkerCounters()
  /** Windows admitted whose waiter has not been told an outcome. */
  unsettled = 0
  /** The most that were in flight at once since takePeak(). */
  peakInFlight = 0
  readonly #waiting: (InFlight | null)[]
  /** Each slot's window: its place among those that the worker had not completed when it was published. */
  readonly #positions: Int32Array
  readonly #observer: StreamObserver
  readonly #estimate = new ServiceEstimate()
  /** When the worker finished the last window that was settled, ms. */
  #finishedMs = 0
  #closed = false

  constructor(options: { capacity: number; motifCount: number; observer: StreamObserver }) {
    this.ring = Ring.create(options)
    this.#waiting = new Array(options.capacity).fill(null)
    this.#positions = new Int32Array(options.capacity)
    this.#observer = options.observer
  }

  /** Measured time per window, ms. */
  get serviceMs(): number {
    return this.#estimate.serviceMs
  }

  load(nowMs: number): StreamLoad {
    // What the worker has completed holds nobody up, however long this thread has not come to settle it.
    const { inFlight, capacity, completed, published } = this.ring // read once: the worker moves on
    const ahead = distance(completed, published)
    const { serviceMs, overheadMs } = this.#estimate
    const ageMs = ahead === 0 ? 0 : nowMs - this.ring.slot(completed).publishedMs
    const stalledMs = this.#estimate.stalledMs(ageMs, this.#positions[completed & (capacity - 1)]!)
    return { inFlight, ahead, capacity, serviceMs, overheadMs, stalledMs }
  }

  /** Hands the window that was written into `ring.nextSlot` to the worker. */
  publish(times: WindowTimes, waiter: Waiter): InFlight {
    this.ring.nextSlot!.prepare(monotonicMs(), times.deadlineMs)
    const sequence = this.ring.publish()
    const index = sequence & (this.ring.capacity - 1)
    const inFlight = new InFlight(this, sequence, times, waiter)
    this.#waiting[index] = inFlight
    this.#positions[index] = distance(this.ring.completed, this.ring.published)
    this.peakInFlight = Math.max(this.peakInFlight, this.ring.inFlight)
    this.unsettled++
    return inFlight
  }

  /** Returns the peak, and begins a new one with what is in flight now. */
  takePeak(): number {
    const peak = this.peakInFlight
    this.peakInFlight = this.ring.inFlight
    return peak
  }

  /** Settles what the worker completes, until closed. */
  async listen(): Promise<void> {
    while (!this.#closed) {
      this.settleCompleted()
      // No bell means that there is more already: let the sockets have a turn first.
      await (this.ring.untilBell(this.ring.released) ?? nextTurn())
    }
  }

  settleCompleted(): void {
    const completed = this.ring.completed
    let sequence = this.ring.released
    if (sequence === completed) return
    let nowMs = monotonicMs()
    this.#measure(sequence, completed, nowMs)
    for (; sequence !== completed; sequence = (sequence + 1) | 0) {
      const inFlight = this.#at(sequence)
      if (inFlight === null) continue
      const slot = this.ring.slot(sequence)
      const late = slot.outcome === 'ok' && nowMs > inFlight.deadlineMs
      nowMs = this.#settle(inFlight, late ? 'deadline_exceeded' : slot.outcome, nowMs, slot)
    }
    this.ring.release(completed)
    this.#observer.settled()
  }

  /**
   * Settles the windows whose deadline has passed, wherever they are: a stuck worker cannot.
   * @returns the nearest deadline among the others, Infinity when there are none
   */
  expire(nowMs: number): number {
    let nearestMs = Number.POSITIVE_INFINITY
    for (const inFlight of this.#waiting) {
      if (inFlight === null) continue
      if (inFlight.deadlineMs > nowMs) nearestMs = Math.min(nearestMs, inFlight.deadlineMs)
      else {
        this.ring.slot(inFlight.sequence).drop()
        this.#settle(inFlight, 'deadline_exceeded', nowMs, null)
      }
    }
    return nearestMs
  }

  cancel(inFlight: InFlight): void {
    if (this.#at(inFlight.sequence) !== inFlight) return
    this.ring.slot(inFlight.sequence).drop()
    this.#forget(inFlight)
    this.#observer.cancelled()
  }

  /**
   * The worker is gone. What it had in its hands is settled now, as nobody can say whether it
   * would kill the next one too; what still waits is left to its successor.
   * @param epoch of the worker
   */
  workerLost(epoch = this.ring.epoch): void {
    this.ring.supersede(epoch)
    this.settleCompleted()
  }

  close(): void {
    this.#closed = true
    this.ring.stop()
  }

  /** Learns from the windows that the worker ran, whether anybody still waits for them or not. */
  #measure(from: number, to: number, nowMs: number): void {
    let count = 0
    let busyMs = 0 // without the pauses between them
    let last = from
    for (let sequence = from; sequence !== to; sequence = (sequence + 1) | 0) {
      const slot = this.ring.slot(sequence)
      if (!slot.taken) continue
      count++
      const takenMs = slot.publishedMs + slot.queueWaitMs
      const finishedMs = takenMs + slot.inferenceMs
      busyMs += Math.max(0, finishedMs - Math.max(this.#finishedMs, takenMs))
      this.#finishedMs = finishedMs
      last = sequence
    }
    if (count === 0) return
    this.#estimate.update({
      count,
      busyMs,
      latencyMs: nowMs - this.ring.slot(last).publishedMs,
      position: this.#positions[last & (this.ring.capacity - 1)]!,
    })
  }

  #at(sequence: number): InFlight | null {
    return this.#waiting[sequence & (this.ring.capacity - 1)]!
  }

  /** Returns what time it is then. */
  #settle(inFlight: InFlight, outcome: Outcome, nowMs: number, slot: Slot | null): number {
    const { waiter } = inFlight
    const isClients = waiter.origin !== undefined
    this.#forget(inFlight)
    if (isClients) this.#observer.inferenceEnded(outcome, nowMs - inFlight.arrivedMs, slot)
    waiter.settle(outcome, slot ?? this.ring.slot(inFlight.sequence))
    const answeredMs = monotonicMs()
    if (isClients && outcome === 'ok') this.#observer.windowAnswered(inFlight, slot!, nowMs, answeredMs)
    return answeredMs
  }

  #forget(inFlight: InFlight): void {
    this.#waiting[inFlight.sequence & (this.ring.capacity - 1)] = null
    this.unsettled--
  }
}
