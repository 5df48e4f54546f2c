import { monotonicMs } from '../clock.ts'
import { hasRoomForBulk, refusal } from '../core/admission.ts'
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
  #retry: NodeJS.Timeout | undefined
  #lastRoomMs = 0
  #pumping = false

  constructor(streams: readonly Stream[]) {
    this.#streams = streams
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
      const endMs = monotonicMs() + TURN_MS
      let room = this.#room()
      while (room !== null && this.#sources.length > 0) {
        const source = this.#sources.shift()!
        if (source.submitNext(room)) this.#sources.push(source)
        room = monotonicMs() < endMs ? this.#room() : null
      }
    } finally {
      this.#pumping = false
    }
    if (this.#sources.length > 0) this.#retry ??= setTimeout(() => this.#again(), RETRY_MS)
  }

  #again(): void {
    this.#retry = undefined
    const starvedMs = monotonicMs() - this.#lastRoomMs
    for (let count = 0; starvedMs > STARVED_MS && count < STARVED_WINDOWS; count++) {
      const stream = this.#leastLoaded(load => refusal(load, Number.POSITIVE_INFINITY) === null)
      const source = stream && this.#sources.shift()
      if (!stream || !source) break
      if (source.submitNext(stream)) this.#sources.push(source)
      this.#lastRoomMs = monotonicMs()
    }
    this.pump()
  }

  #room(): Stream | null {
    const stream = this.#leastLoaded(hasRoomForBulk)
    if (stream !== null) this.#lastRoomMs = monotonicMs()
    return stream
  }

  #leastLoaded(admits: (load: ReturnType<Stream['load']>) => boolean): Stream | null {
    const nowMs = monotonicMs()
    let best: Stream | null = null
    for (const stream of this.#streams) {
      if (stream.ring.serving === null || !admits(stream.load(nowMs))) continue
      if (best === null || stream.ring.inFlight < best.ring.inFlight) best = stream
    }
    return best
  }
}
