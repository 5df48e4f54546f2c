import { monotonicMs } from '../clock.ts'
import { roomForBulk, type StreamLoad } from '../core/admission.ts'
import type { Stream } from './stream.ts'

/** Somebody with many windows and time: a bulk upload, a batch of low priority. */
export interface BulkSource {
  /**
   * Puts the next window into `stream.ring.nextSlot` and submits it. Called when there is room.
   * @returns whether there are windows left that could go now; else offer() brings the source back
   */
  submitNext(stream: Stream): boolean
}

/** Looked again so often while nothing is in flight that could make room, ms. */
const RETRY_MS = 2
/** So long at a time windows are let in, ms: live requests come in between. */
const TURN_MS = 2
/** Windows that are let in between two looks at how full the rings are. */
const STEP_WINDOWS = 8
/** For so long after a live window more of them are expected, ms. */
const LIVE_MS = 1000
/** After so long without any room, bulk gets ... */
const STARVED_MS = 100
/** ... so many windows in between live traffic. */
const STARVED_WINDOWS = 4

/**
 * Lets bulk work in behind live traffic. Rings are first in, first out, so bulk goes only as far ahead
 * as a live window that comes now can afford to wait behind; what is beyond that waits with its sender.
 * Sources take turns, a window each. Live traffic that leaves no room at all still yields a few windows
 * ten times a second: bulk becomes slow, never stuck.
 */
export class BulkLane {
  readonly #streams: readonly Stream[]
  readonly #sources: BulkSource[] = []
  /** What each ring had published when the lane looked away: what has been published since is live. */
  readonly #published: number[]
  #liveMs = Number.NEGATIVE_INFINITY
  #retry: NodeJS.Timeout | undefined
  #lastRoomMs = 0
  #pumping = false

  constructor(streams: readonly Stream[]) {
    this.#streams = streams
    this.#published = streams.map(({ ring }) => ring.published)
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
      this.#letIn()
    } finally {
      this.#pumping = false
    }
    if (this.#sources.length > 0) this.#retry ??= setTimeout(() => this.#again(), RETRY_MS)
  }

  #letIn(): void {
    const startedMs = monotonicMs()
    this.#lookForLive(startedMs)
    const expectsLive = startedMs - this.#liveMs < LIVE_MS
    const roomOf = (load: StreamLoad) => roomForBulk(load, expectsLive)
    for (let nowMs = startedMs; nowMs < startedMs + TURN_MS; nowMs = monotonicMs()) {
      const stream = this.#leastLoaded(nowMs, roomOf)
      if (stream === null) break
      this.#submit(stream, Math.min(STEP_WINDOWS, roomOf(stream.load(nowMs))))
      this.#lastRoomMs = nowMs
      if (this.#sources.length === 0) break
    }
    // Not at the end of the turn: while sockets are read the workers could idle.
    for (const { ring } of this.#streams) ring.wakeWorker()
  }

  #again(): void {
    this.#retry = undefined
    const nowMs = monotonicMs()
    if (nowMs - this.#lastRoomMs > STARVED_MS) {
      this.#lookForLive(nowMs)
      const roomOf = ({ capacity, inFlight }: StreamLoad) => capacity - inFlight
      const stream = this.#leastLoaded(nowMs, roomOf)
      if (stream !== null) {
        this.#submit(stream, Math.min(STARVED_WINDOWS, roomOf(stream.load(nowMs))))
        this.#lastRoomMs = monotonicMs()
      }
    }
    this.pump()
  }

  /** Sources take turns, a window each. A bad window takes no slot. */
  #submit(stream: Stream, count: number): void {
    for (let left = count; left > 0 && this.#sources.length > 0; left--) {
      const source = this.#sources.shift()!
      if (source.submitNext(stream)) this.#sources.push(source)
    }
    this.#published[this.#streams.indexOf(stream)] = stream.ring.published
  }

  #lookForLive(nowMs: number): void {
    this.#streams.forEach(({ ring }, index) => {
      if (ring.published !== this.#published[index]) this.#liveMs = nowMs
      this.#published[index] = ring.published
    })
  }

  #leastLoaded(nowMs: number, roomOf: (load: StreamLoad) => number): Stream | null {
    let best: Stream | null = null
    for (const stream of this.#streams) {
      if (stream.ring.serving === null || roomOf(stream.load(nowMs)) < 1) continue
      if (best === null || stream.ring.inFlight < best.ring.inFlight) best = stream
    }
    return best
  }
}
