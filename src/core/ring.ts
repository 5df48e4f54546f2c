import { BACKENDS, type BackendKind } from './backend.ts'
import { SLOT_STRIDE_BYTES, Slot } from './slot.ts'

/**
 * The header of a ring: one int32 word per 128 bytes, because a SharedArrayBuffer's base is not
 * aligned to a cache line and two neighbours in one line would slow each other down.
 *
 *   word   0   published      front door   the sequence the next window will get
 *   word  32   completed      worker       all windows below have their result
 *   word  64   released       front door   all windows below have been answered
 *   word  96   bell           worker       counts the wakes sent to the front door
 *   word 128   front asleep   both         1 while the front door waits for the bell
 *   word 160   worker parked  both         1 while the worker waits for a window and nobody has woken it
 *   word 192   serving        worker       1 + index into BACKENDS of what is open, 0 while nothing is
 *   word 224   stop           front door   1 when the worker shall end after the last window
 *   word 256   epoch          both         of the worker whose ring it is; each worker has one of its own
 *   word 288   condemned      both         1 + index into BACKENDS of what answers wrongly, 0 while nothing does
 *   word 320   successor      front door   the epoch of the worker that waits for its turn, 0 while none does
 *   word 352   handover       front door   the epoch of the worker that the present one shall let go to; its own, or 0: to none
 */
const PUBLISHED = 0
const COMPLETED = 32
const RELEASED = 64
const BELL = 96
const FRONT_ASLEEP = 128
const WORKER_PARKED = 160
const SERVING = 192
const STOP = 224
const EPOCH = 256
const CONDEMNED = 288
const SUCCESSOR = 320
const HANDOVER = 352
const HEADER_WORDS = 384

/** How far `to` is ahead of `from`. Sequences are int32 and wrap. */
export function distance(from: number, to: number): number {
  return (to - from) | 0
}

/**
 * The slots of one stream: single producer (front door), single consumer (worker), in shared memory.
 * Invariant: `released ≤ completed ≤ published ≤ released + capacity`; one writer per cursor, but for
 * `completed`, which the front door moves past what a lost worker had taken.
 *
 * The ring is one worker's at a time: of the one whose epoch stands in it. That one lets go when a *successor* is
 * called, or the front door takes it away.
 *
 * A worker that was given up may still sit in native code and come back when its successor serves.
 * Its end of the ring is of an older epoch, so it is *superseded*: it asks before it writes.
 */
export class Ring {
  readonly buffer: SharedArrayBuffer
  readonly capacity: number
  readonly #header: Int32Array<SharedArrayBuffer>
  readonly #slots: readonly Slot[]
  readonly #epoch: number
  /** What the front door has stored last as `published` and `released`: nobody else does, so it need not load them. */
  #nextSequence: number
  #released: number
  /** The last that the front door has given to a worker. */
  #lastEpoch: number

  /**
   * @param motifCount motif scores in each result; both sides pass the same number.
   * @param epoch for a worker: that of its task. Without it, the present one.
   */
  constructor(buffer: SharedArrayBuffer, motifCount: number, epoch?: number) {
    this.buffer = buffer
    this.capacity = (buffer.byteLength - HEADER_WORDS * 4) / SLOT_STRIDE_BYTES
    this.#header = new Int32Array(buffer, 0, HEADER_WORDS)
    const cells = {
      float64: new Float64Array(buffer),
      float32: new Float32Array(buffer),
      int32: new Int32Array(buffer),
    }
    this.#slots = Array.from(
      { length: this.capacity },
      (_, index) => new Slot(buffer, HEADER_WORDS * 4 + index * SLOT_STRIDE_BYTES, motifCount, cells),
    )
    this.#nextSequence = this.#header[PUBLISHED]!
    this.#released = this.#header[RELEASED]!
    this.#lastEpoch = this.epoch
    this.#epoch = epoch ?? this.#lastEpoch
  }

  /** @param capacity slots, a power of two. @param firstSequence where the cursors start. */
  static create(options: { capacity: number; motifCount: number; firstSequence?: number }): Ring {
    const buffer = new SharedArrayBuffer(HEADER_WORDS * 4 + options.capacity * SLOT_STRIDE_BYTES)
    const ring = new Ring(buffer, options.motifCount)
    for (const cursor of [PUBLISHED, COMPLETED, RELEASED]) ring.#header[cursor] = options.firstSequence ?? 0
    ring.#nextSequence = ring.#released = options.firstSequence ?? 0
    return ring
  }

  slot(sequence: number): Slot {
    return this.#slots[sequence & (this.capacity - 1)]!
  }

  get published(): number {
    return Atomics.load(this.#header, PUBLISHED)
  }

  get completed(): number {
    return Atomics.load(this.#header, COMPLETED)
  }

  get released(): number {
    return this.#released
  }

  /** Windows published and not yet released. */
  get inFlight(): number {
    return distance(this.#released, this.#nextSequence)
  }

  // What only the front door calls.

  /** The slot that the next publish() hands over, to be filled in place. Null when the ring is full. */
  get nextSlot(): Slot | null {
    return this.inFlight === this.capacity ? null : this.slot(this.#nextSequence)
  }

  /** Hands the filled `nextSlot` to the worker. Returns its sequence. */
  publish(): number {
    const sequence = this.#nextSequence
    this.#nextSequence = (sequence + 1) | 0
    // Stored after the slot was filled: Atomics are sequentially consistent, so a worker that sees
    // the new cursor sees the whole window.
    Atomics.store(this.#header, PUBLISHED, this.#nextSequence)
    return sequence
  }

  /** Wakes the worker if it is parked. Waking an awake thread would cost more than a whole request. */
  wakeWorker(): void {
    // Read after the publish: a worker that says "parked" after this read looks at the cursor once more.
    if (Atomics.load(this.#header, WORKER_PARKED) === 0) return
    // Taken, not only read: a worker that is being woken has not cleared it yet, and is not woken twice.
    if (Atomics.exchange(this.#header, WORKER_PARKED, 0) === 1) Atomics.notify(this.#header, WORKER_PARKED, 1)
  }

  /** Gives the slots below `sequence` back. Slots are released in order. */
  release(sequence: number): void {
    this.#released = sequence
    Atomics.store(this.#header, RELEASED, sequence)
  }

  /**
   * Waits, without blocking, until the worker has rung the bell. Null when results beyond `seen`
   * are there already. An event count, not a flag on the cursor: a late wake for an earlier
   * window must not use up the wake of a later one.
   */
  untilBell(seen: number): Promise<unknown> | null {
    const bell = Atomics.load(this.#header, BELL)
    Atomics.store(this.#header, FRONT_ASLEEP, 1)
    // Looked at after saying "asleep": a worker that completes from here on rings.
    if (this.completed === seen) {
      const wait = Atomics.waitAsync(this.#header, BELL, bell)
      if (wait.async) return wait.value
    }
    Atomics.store(this.#header, FRONT_ASLEEP, 0)
    return null
  }

  /** What the worker runs windows on at the moment. Null while it has nothing open. */
  get serving(): BackendKind | null {
    return BACKENDS[Atomics.load(this.#header, SERVING) - 1] ?? null
  }

  /** Resolves once the worker has a backend open, with that. */
  async untilServing(): Promise<BackendKind> {
    while (true) {
      const { serving } = this
      if (serving !== null) return serving
      // Woken also by a worker that says once more that nothing is open.
      await Atomics.waitAsync(this.#header, SERVING, 0).value
    }
  }

  /** Tells the worker to end once it has answered everything published, and who waits for a turn to end at once. */
  stop(): void {
    Atomics.store(this.#header, STOP, 1)
    Atomics.store(this.#header, WORKER_PARKED, 0)
    Atomics.notify(this.#header, WORKER_PARKED)
    Atomics.notify(this.#header, EPOCH)
  }

  /** Tells the worker to give `backend` up, as if it were lost: its answers are wrong. */
  condemn(backend: BackendKind): void {
    Atomics.store(this.#header, CONDEMNED, 1 + BACKENDS.indexOf(backend))
    this.wakeWorker()
  }

  get epoch(): number {
    return Atomics.load(this.#header, EPOCH)
  }

  /** Returns the epoch of a worker that shall wait for its turn beside the one that serves. */
  nameSuccessor(): number {
    this.#lastEpoch++
    Atomics.store(this.#header, SUCCESSOR, this.#lastEpoch)
    return this.#lastEpoch
  }

  /** The successor that was named is not wanted any more. Not after handOver(). */
  dismissSuccessor(): void {
    Atomics.store(this.#header, SUCCESSOR, 0)
    Atomics.notify(this.#header, EPOCH)
  }

  /**
   * Calls the successor: the worker that serves ends what it has taken, and lets go. What is published
   * from here on is the successor's.
   */
  handOver(): void {
    Atomics.store(this.#header, HANDOVER, Atomics.load(this.#header, SUCCESSOR))
    this.wakeWorker()
  }

  /**
   * Gives a worker up: from here on it writes nothing more. What it had looked at has no result and is
   * passed. A successor that was called begins with a window that still waits, and so does any later one.
   * @param epoch of the worker; nothing happens when it has let go
   */
  supersede(epoch = this.epoch): void {
    // Nobody's at first: a successor must not take what passTaken() would then pass.
    this.#lastEpoch++
    if (Atomics.compareExchange(this.#header, EPOCH, epoch, this.#lastEpoch) !== epoch) return
    Atomics.store(this.#header, SERVING, 0)
    // After the epoch: a worker that asked before it may complete one window more, but none beyond.
    this.passTaken()
    // A worker that died between taking the "asleep" word and ringing has left the front door asleep.
    this.#ring()
    const called = Atomics.exchange(this.#header, HANDOVER, 0)
    if (called === 0 || called === epoch) return
    Atomics.store(this.#header, EPOCH, called)
    Atomics.notify(this.#header, EPOCH)
  }

  // What only the worker calls.

  /** The worker has been given up: nothing here is its own any more. */
  get superseded(): boolean {
    return this.epoch !== this.#epoch
  }

  /** Tells what is open, null when nothing is. */
  setServing(backend: BackendKind | null): void {
    if (this.superseded) return
    // What was said of the last one is not said of this one.
    Atomics.store(this.#header, CONDEMNED, 0)
    Atomics.store(this.#header, SERVING, backend === null ? 0 : 1 + BACKENDS.indexOf(backend))
    Atomics.notify(this.#header, SERVING)
  }

  /** What the front door has condemned since the last setServing(). */
  get condemned(): BackendKind | null {
    return BACKENDS[Atomics.load(this.#header, CONDEMNED) - 1] ?? null
  }

  /** A successor was called: this worker shall take nothing more, and let go. */
  get handingOver(): boolean {
    const called = Atomics.load(this.#header, HANDOVER)
    return called !== 0 && called !== this.#epoch
  }

  /** Lets the successor have its turn, which was called. Nothing of this worker may be in flight. */
  letGo(): void {
    const called = Atomics.load(this.#header, HANDOVER)
    // Compared, because the front door may have given this worker up this very moment.
    if (Atomics.compareExchange(this.#header, EPOCH, this.#epoch, called) !== this.#epoch) return
    Atomics.notify(this.#header, EPOCH)
  }

  /** Blocks until it is this worker's turn, at most `timeoutMs`. `dismissed`: its turn will not come. */
  waitForTurn(timeoutMs: number): 'turn' | 'waiting' | 'dismissed' {
    const { epoch } = this
    if (epoch === this.#epoch) return 'turn'
    if (this.stopping || Atomics.load(this.#header, SUCCESSOR) !== this.#epoch) return 'dismissed'
    Atomics.wait(this.#header, EPOCH, epoch, timeoutMs)
    return 'waiting'
  }

  get stopping(): boolean {
    return Atomics.load(this.#header, STOP) === 1
  }

  /** Blocks until windows from `sequence` on are there, at most `timeoutMs`. Returns how many. */
  waitForWindows(sequence: number, timeoutMs: number): number {
    if (timeoutMs > 0 && this.published === sequence) {
      Atomics.store(this.#header, WORKER_PARKED, 1)
      // Looked at after saying "parked": who publishes from here on takes that word, and then the wait does not begin.
      if (this.published === sequence && !this.handingOver)
        Atomics.wait(this.#header, WORKER_PARKED, 1, timeoutMs)
      Atomics.store(this.#header, WORKER_PARKED, 0)
    }
    return distance(sequence, this.published)
  }

  /**
   * Hands the oldest result to the front door, and wakes it if it sleeps.
   * @param moreFollow at once, and the last of them wakes the front door for all: not each of a batch
   */
  complete(sequence: number, moreFollow = false): void {
    // Stored after output and outcome, for the same reason as in publish(). Compared, because a
    // worker that was given up this very moment finds the cursor moved past its window.
    const found = Atomics.compareExchange(this.#header, COMPLETED, sequence, (sequence + 1) | 0)
    if (found !== sequence || moreFollow) return
    // Looked at before it is written: mostly it is not set, and to look leaves its cache line with the front door.
    if (Atomics.load(this.#header, FRONT_ASLEEP) === 0) return
    if (Atomics.exchange(this.#header, FRONT_ASLEEP, 0) === 1) this.#ring()
  }

  /**
   * Passes what a lost backend had taken: it has no result and is not tried again. What waits is left.
   * Called by a worker that is not superseded, and by supersede().
   */
  passTaken(): void {
    for (let sequence = this.completed; sequence !== this.published; sequence = this.completed) {
      if (!this.slot(sequence).abandon()) return
      this.complete(sequence)
    }
  }

  #ring(): void {
    Atomics.add(this.#header, BELL, 1)
    Atomics.notify(this.#header, BELL, 1)
  }
}
