import { monotonicMs } from '../clock.ts'
import { roomForBulk, type StreamLoad } from '../core/admission.ts'
import { LEVEL } from '../core/degradation.ts'
import type { LoadWatch } from './load-watch.ts'
import type { Stream } from './stream.ts'

/** Somebody with many windows and time: a bulk upload, a batch of low priority. */
export interface BulkSource {
  /**
   * Puts the next window into `stream.ring.nextSlot` and submits it. Called when there is room.
   * @returns whether there are windows left that could go now; else offer() brings the source back
   */
  submitNext(stream: Stream, nowMs: number): boolean
}

/** What the lane goes by. */
type Load = Pick<LoadWatch, 'level' | 'deadlineMs' | 'expectsLive'>

/** Looked again so often while nothing is in flight that could make room, ms. */
const RETRY_MS = 2
/** So long at a time windows are let in, ms: live requests come in between. */
const TURN_MS = 2
/** After so long without any room, bulk gets ... */
const STARVED_MS = 100
/** ... so many windows in between live traffic. */
const STARVED_WINDOWS = 4

/**
 * Lets bulk work in behind live traffic. Rings are first in, first out, so bulk goes only as far ahead
 * as a live window that comes now can afford to wait behind; what is beyond that waits with its sender.
 * Sources take turns, a window each. Live traffic that leaves no room at all still yields a few windows
 * ten times a second: bulk becomes slow, never stuck. From DEGRADED on that is all it gets.
 */
export class BulkLane {
  readonly #streams: readonly Stream[]
  readonly #load: Load
  readonly #sources: BulkSource[] = []
  #retry: NodeJS.Timeout | undefined
  #lastRoomMs = 0
  #pumping = false

  constructor(streams: readonly Stream[], load: Load) {
    this.#streams = streams
    this.#load = load
  }

  /** The source has windows to submit: it is called as there is room for them, maybe at once. */
  offer(source: BulkSource): void {
    if (this.#sources.length === 0) this.#lastRoomMs = monotonicMs()
    if (!this.#sources.includes(source)) this.#sources.push(source)
    this.pump()
  }

  /** The source has nothing any more, or nobody waits for it. */
  withdraw(source: BulkSource): void {
    const index = this.#sources.indexOf(source)
    if (index !== -1) this.#sources.splice(index, 1)
  }

  /** Uploads and batches that wait for room. */
  get waiting(): number {
    return this.#sources.length
  }

  /** Fills what room there is. Called when windows have ended. */
  pump(): void {
    if (this.#pumping || this.#sources.length === 0) return
    this.#pumping = true
    try {
      const nowMs = monotonicMs()
      const { level, deadlineMs } = this.#load
      const expectsLive = this.#load.expectsLive(nowMs)
      if (level < LEVEL.degraded) this.#fill(nowMs, load => roomForBulk(load, { deadlineMs, expectsLive }))
    } finally {
      this.#pumping = false
    }
    if (this.#sources.length > 0) this.#retry ??= setTimeout(() => this.#again(), RETRY_MS)
  }

  #again(): void {
    this.#retry = undefined
    const nowMs = monotonicMs()
    if (nowMs - this.#lastRoomMs > STARVED_MS) {
      this.#fill(nowMs, ({ capacity, inFlight }) => Math.min(STARVED_WINDOWS, capacity - inFlight))
    }
    this.pump()
  }

  /** Sources take turns, a window each. */
  #fill(startedMs: number, roomOf: (load: StreamLoad) => number): void {
    const rooms: Room[] = []
    for (const stream of this.#streams) {
      const windows = stream.ring.serving === null ? 0 : roomOf(stream.load(startedMs))
      if (windows > 0) rooms.push({ stream, until: stream.ring.inFlight + windows })
    }
    if (rooms.length === 0) return
    this.#lastRoomMs = startedMs
    let nowMs = startedMs
    while (this.#sources.length > 0 && nowMs < startedMs + TURN_MS) {
      const room = rooms.reduce((most, room) => (leftOf(room) > leftOf(most) ? room : most))
      if (leftOf(room) === 0) break
      const source = this.#sources.shift()!
      if (source.submitNext(room.stream, nowMs)) this.#sources.push(source)
      nowMs = monotonicMs()
    }
    // Not at the end of the turn: the workers would idle while the other sockets are read.
    for (const { stream } of rooms) stream.ring.wakeWorker()
  }
}

/** What bulk may put into a ring in one turn. */
interface Room {
  readonly stream: Stream
  /** So many are in flight when it is full. */
  readonly until: number
}

function leftOf({ stream, until }: Room): number {
  return until - stream.ring.inFlight
}
