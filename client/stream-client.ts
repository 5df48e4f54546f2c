import { encodeFrame, HELLO_FLAGS, type Head, STREAM_VERSION } from '../src/http/frame.ts'
import { STREAM_MODES, type StreamMode } from '../src/http/stream-words.ts'
import { AnswerQueue } from './answer-queue.ts'
import type { Backlog, Frame, StreamFailure, StreamResult } from './backlog.ts'
import { backoffMs } from './backoff.ts'
import { InferenceError } from './error.ts'
import { type Gap, SampleBacklog } from './sample-backlog.ts'
import { readFailure, readResult, readServerFrame, type ServerFrame } from './server-frame.ts'
import { startTimer, type Timer } from './timer.ts'
import { globalWebSocket, protocolsOf, type WebSocketConstructor, type WebSocketLike } from './web-socket.ts'
import { WindowBacklog } from './window-backlog.ts'

export interface StreamOptions {
  /** `windows`: each is sent with `send()`. `samples`: a recording is pushed and the server cuts it. Default `windows`. */
  readonly mode?: StreamMode
  /** In samples mode: from one window to the next, in samples. Default 50. */
  readonly hop?: number
  /**
   * In samples mode: under load, the server may leave out windows that overlap the one before. Each of them is answered
   * with the error `thinned`, so that the numbers stay those of the samples. Default false.
   */
  readonly allowThinning?: boolean
  /**
   * Goes to the server as a subprotocol: letters, digits and !#$%&'*+-.^_`|~ alone. One with other characters needs a
   * header, which a browser cannot set and others can, with a `webSocket` such as
   * `class extends WebSocket { constructor(url) { super(url, { headers: { 'X-API-Key': key } }) } }`.
   */
  readonly apiKey?: string
  /** Default: the global one. Node.js 20 has none: that of the package `ws` fits. */
  readonly webSocket?: WebSocketConstructor
  /** Windows that may wait to be sent, default 1,024; in samples mode samples that are kept, default 60,000. */
  readonly capacity?: number
  /** Failures to connect in a row after which it gives up. Default 10, about 20 s. */
  readonly maxReconnects?: number
  /** A server that says nothing for so long while something is due is left, and connected to anew. Default 10,000. */
  readonly timeoutMs?: number
  /** In samples mode, instead of the iterator. It must not throw: that would reach the WebSocket, and end a process of Node.js. */
  readonly onAnswer?: (answer: StreamResult | StreamFailure) => void
  /** In samples mode: samples that were skipped, or that did not fit. Told once each. */
  readonly onGap?: (gap: Gap) => void
  /** The server is shutting down. What was sent is answered; the rest waits for its successor. */
  readonly onDraining?: () => void
  /** Told once: null after `close()`, else why it gave up. */
  readonly onEnd?: (error: InferenceError | null) => void
}

/** With so many answers unread nothing more is sent: a slow reader slows the stream, and no memory grows. */
const MOST_UNREAD = 64
/** A connection that lasted so long was a good one: the next failure is the first. */
const GOOD_AFTER_MS = 5000

/**
 * A conversation over `/stream` that outlives its connections: after a lost one it connects anew and sends again what
 * has no answer, with the same numbers.
 *
 * Invariant: whatever was given to it ends once, with its answer or with an error; and no window is sent that the
 * server has not given a credit for.
 */
export class StreamClient implements AsyncIterable<StreamResult | StreamFailure> {
  readonly #url: string
  readonly #options: StreamOptions
  readonly #WebSocket: WebSocketConstructor
  readonly #protocols: string[] | undefined
  readonly #windows: WindowBacklog | null = null
  readonly #samples: SampleBacklog | null = null
  readonly #backlog: Backlog
  readonly #answers = new AnswerQueue<StreamResult | StreamFailure>(() => this.#pump())
  /** Null between two connections. */
  #socket: WebSocketLike | null = null
  /** Null until the server has said it. */
  #welcome: Head<'welcome'> | null = null
  #welcomedMs = 0
  #credits = 0
  #draining = false
  /** The server has no model, and said when it wants to be asked again. */
  #paused = false
  #pauseTimer: Timer | undefined
  /** The server was told that nothing more will come. */
  #byeSaid = false
  /** What the server said last about the connection itself. */
  #complaint: StreamFailure | null = null
  /** In a row, of connections. */
  #failures = 0
  /** Until the next connection, or while a frame of the server is due. */
  #timer: Timer | undefined
  #gapsTold = 0
  #flushing: { resolve(): void; reject(error: InferenceError): void }[] = []
  #closing = false
  #ended: { readonly error: InferenceError | null } | null = null
  #whenEnded: (() => void)[] = []

  /**
   * Connects at once.
   * @param url such as `ws://127.0.0.1:9000/stream`
   * @throws TypeError when there is no WebSocket or the key cannot be sent, SyntaxError when the URL is none
   */
  constructor(url: string | URL, options: StreamOptions = {}) {
    this.#url = String(url)
    this.#options = options
    this.#WebSocket = options.webSocket ?? globalWebSocket()
    const { mode = 'windows', hop = 50, capacity, apiKey } = options
    this.#protocols = apiKey === undefined ? undefined : protocolsOf(apiKey)
    if (mode === 'samples') {
      const deliver = options.onAnswer ?? (answer => this.#answers.push(answer))
      this.#samples = new SampleBacklog({ hop, capacity: capacity ?? 60_000 }, deliver)
      this.#backlog = this.#samples
    } else {
      this.#windows = new WindowBacklog(capacity ?? 1024)
      this.#backlog = this.#windows
    }
    this.#connect()
  }

  /** The number that the next window gets, of those that are given to `send()`. They count from 0. */
  get nextSequence(): number {
    return this.#modeOf(this.#windows, 'windows').nextSequence
  }

  /**
   * Sends a window as soon as there is a credit for it. Windows are sent in the order of the calls.
   * @param window float32[100][9], raw: m/s² ×3, rad/s ×3, µT ×3. Copied.
   * @throws InferenceError `queue_full` when more windows wait than `capacity`: wait for `flushed()` before
   */
  async send(window: Float32Array, { deadlineMs, signal }: SendOptions = {}): Promise<StreamResult> {
    const windows = this.#modeOf(this.#windows, 'windows')
    this.#refuseWhenOver()
    signal?.throwIfAborted()
    const sequence = windows.nextSequence
    const result = windows.add(window, deadlineMs)
    this.#pump()
    if (signal === undefined) return result
    return new Promise((resolve, reject) => {
      const giveUp = () => {
        this.cancel(sequence)
        reject(signal.reason)
      }
      signal.addEventListener('abort', giveUp)
      result.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp))
    })
  }

  /**
   * Adds to the recording. Window k is its samples from k × hop up to, not including, k × hop + 100; the answers are read
   * by iterating over this client, or come to `onAnswer`.
   * @param samples float32[n][9]. Copied.
   * @throws InferenceError `queue_full` when the recording is `capacity` samples ahead of its answers. They are
   *   lost then, as if skipped; a sender that can wait does so with `flushed()`.
   */
  push(samples: Float32Array): void {
    const recording = this.#modeOf(this.#samples, 'samples')
    this.#refuseWhenOver()
    recording.push(samples)
    this.#pump()
  }

  /** Tells that `count` samples of the recording were lost before they came here. No window will span them. */
  skip(count: number): void {
    this.#modeOf(this.#samples, 'samples').skip(count)
  }

  /**
   * Asks for no answer any more. The window ends all the same: `cancelled`, or with its result if that was on its way.
   * With a `signal`, `send()` does this and does not wait for the end.
   * @param sequence what `nextSequence` was before `send()`; in samples mode k of the window
   */
  cancel(sequence: number): void {
    const frame = this.#backlog.cancel(sequence)
    if (frame !== null && this.#welcome !== null) this.#socket!.send(frame)
    this.#pump()
  }

  /** Resolves when nothing waits to be sent. @throws InferenceError when the stream ends before */
  flushed(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#flushing.push({ resolve, reject })
      if (this.#ended) this.#settleFlushed()
      else this.#pump()
    })
  }

  /**
   * Takes nothing more, and resolves when everything is answered and the connection closed, or given up. In samples
   * mode the answers can be read on.
   */
  close({ now = false }: CloseOptions = {}): Promise<void> {
    this.#closing = true
    return new Promise(resolve => {
      this.#whenEnded.push(resolve)
      if (this.#ended) this.#settleEnded()
      else if (now || (this.#welcome === null && this.#isIdle)) this.#end(null)
      else this.#pump()
    })
  }

  /** In samples mode: the answers, in order. Whoever reads them slowly slows the stream. Ends with `close()`. */
  [Symbol.asyncIterator](): AsyncIterator<StreamResult | StreamFailure, undefined> {
    this.#modeOf(this.#samples, 'samples')
    return this.#answers
  }

  #connect(): void {
    const socket =
      this.#protocols === undefined
        ? new this.#WebSocket(this.#url)
        : new this.#WebSocket(this.#url, this.#protocols)
    this.#socket = socket
    this.#welcome = null
    this.#credits = 0
    this.#draining = this.#byeSaid = false
    this.#complaint = null
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => {
      const { mode = 'windows', hop = 50, allowThinning = false } = this.#options
      const head = {
        version: STREAM_VERSION,
        mode: STREAM_MODES.indexOf(mode),
        flags: allowThinning ? HELLO_FLAGS.thin : 0,
        hop,
        first: this.#backlog.rewind(),
      }
      socket.send(encodeFrame('hello', head))
    }
    socket.onmessage = ({ data }: { data: unknown }) => this.#receive(data)
    socket.onclose = ({ code }: { code: number }) => this.#lost(`the connection was closed with ${code}`)
    // Node.js 20 and 22 tell no close behind it when they fail to connect. Browsers have no message.
    socket.onerror = ({ message }: { message?: string }) => {
      this.#lost(message ? `the connection failed: ${message}` : 'the connection failed')
    }
    this.#expectFrame()
  }

  #receive(data: unknown): void {
    let take: () => void
    try {
      take = this.#read(readServerFrame(data))
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      return this.#lost(error.message)
    }
    take()
    this.#pump()
    this.#expectFrame()
  }

  /** @returns what to do about the frame. @throws RangeError when it makes no sense */
  #read(frame: ServerFrame): () => void {
    const welcome = this.#welcome
    if (frame.name === 'welcome') {
      if (welcome !== null) throw new RangeError('the server sent welcome twice')
      return () => this.#onWelcome(frame.head)
    }
    if (frame.name === 'error') {
      const failure = readFailure(frame)
      return () => (frame.head.hasSequence ? this.#onAnswer(failure) : this.#onComplaint(failure))
    }
    if (welcome === null) throw new RangeError(`the server sent ${frame.name} before welcome`)
    switch (frame.name) {
      case 'result': {
        const result = readResult(frame, welcome)
        return () => this.#onAnswer(result)
      }
      case 'credit':
        return () => {
          this.#credits += frame.head.count
        }
      case 'draining':
        return () => this.#onDraining()
      case 'gap':
        return () => this.#onGap(frame.head)
    }
  }

  #onWelcome(welcome: Head<'welcome'>): void {
    this.#welcome = welcome
    this.#welcomedMs = performance.now()
    this.#credits = welcome.credits
  }

  #onDraining(): void {
    if (this.#draining) return
    this.#draining = true
    this.#options.onDraining?.()
  }

  #onAnswer(answer: StreamResult | StreamFailure): void {
    if (!('error' in answer)) this.#resume()
    else if (answer.error === 'model_unavailable' && answer.retryAfterMs !== null) {
      // One window has found out for all.
      this.#pause(answer.retryAfterMs)
    } else if (answer.error === 'draining') {
      // The window and the server's word crossed on their way. It is as if it had not been sent: its successor gets it.
      return this.#onDraining()
    }
    this.#failures = 0
    this.#backlog.answer(answer.sequence, answer)
  }

  #onComplaint(complaint: StreamFailure): void {
    this.#complaint = complaint
    // A hello that is refused once is refused for ever.
    if (this.#welcome === null && complaint.error === 'invalid_request') {
      this.#end(new InferenceError(complaint.error, complaint.detail))
    }
  }

  #onGap({ missing, index, sequence }: Gap): void {
    const gap = { missing, index, sequence }
    this.#samples?.lose(gap)
    // Sent again after a lost connection, the samples around it show the same gap again.
    if (index <= this.#gapsTold) return
    this.#gapsTold = index
    this.#options.onGap?.(gap)
  }

  /** Sends what may be sent. Called after everything that may allow more. */
  #pump(): void {
    if (this.#ended) return
    if (this.#welcome !== null && !this.#draining && !this.#paused) {
      // While it closes, the backlog is the bound: who has closed a stream may read no more.
      while (this.#closing || this.#answers.size < MOST_UNREAD) {
        const parcel = this.#backlog.next(this.#credits)
        if (parcel === null) break
        this.#credits -= parcel.windows
        this.#say(parcel.frame)
      }
    }
    if (this.#backlog.waiting) return
    this.#settleFlushed()
    if (this.#closing && this.#welcome !== null && !this.#byeSaid) {
      this.#byeSaid = true
      this.#say(encodeFrame('bye', {}))
    }
  }

  #pause(forMs: number): void {
    this.#resume()
    this.#paused = true
    this.#pauseTimer = startTimer(() => {
      this.#resume()
      this.#pump()
    }, forMs)
  }

  #resume(): void {
    clearTimeout(this.#pauseTimer)
    this.#paused = false
  }

  #say(frame: Frame): void {
    this.#socket!.send(frame)
    if (this.#timer === undefined) this.#expectFrame()
  }

  /** A server that has vanished closes nothing: the time tells. */
  #expectFrame(): void {
    if (this.#socket === null) return
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#welcome !== null && this.#backlog.unanswered === 0 && !this.#byeSaid) return
    const { timeoutMs = 10_000 } = this.#options
    this.#timer = startTimer(() => this.#lost(`the server said nothing for ${timeoutMs} ms`), timeoutMs)
  }

  #lost(reason: string): void {
    const lasted = this.#welcome !== null && performance.now() - this.#welcomedMs >= GOOD_AFTER_MS
    this.#failures = lasted ? 1 : this.#failures + 1
    this.#leaveSocket()
    if (this.#closing && this.#isIdle) return this.#end(null)
    this.#backlog.rewind() // from now on a window can expire here: nobody else knows of it
    if (this.#failures > (this.#options.maxReconnects ?? 10)) {
      const said =
        this.#complaint === null ? '' : `; it said ${this.#complaint.error}: ${this.#complaint.detail}`
      const detail = `Gave up after ${this.#failures} connections in a row: ${reason}${said}`
      return this.#end(new InferenceError('disconnected', detail))
    }
    this.#timer = startTimer(() => this.#connect(), backoffMs(this.#failures))
  }

  #leaveSocket(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#resume()
    const socket = this.#socket
    this.#socket = null
    this.#welcome = null
    if (socket === null) return
    socket.onopen = socket.onmessage = socket.onclose = null // what it still tells is about the past
    socket.onerror = () => {} // not null: when nobody listens, the package `ws` throws what comes of closing too early
    socket.close()
  }

  #end(error: InferenceError | null): void {
    this.#ended = { error }
    this.#leaveSocket()
    if (this.#backlog.waiting) {
      for (const { reject } of this.#flushing.splice(0)) reject(error ?? closedError())
    }
    this.#backlog.end(error ?? closedError())
    this.#answers.end(error)
    this.#settleFlushed()
    this.#settleEnded()
    this.#options.onEnd?.(error)
  }

  #settleFlushed(): void {
    const error = this.#ended?.error
    for (const { resolve, reject } of this.#flushing.splice(0)) error ? reject(error) : resolve()
  }

  #settleEnded(): void {
    for (const resolve of this.#whenEnded.splice(0)) resolve()
  }

  get #isIdle(): boolean {
    return !this.#backlog.waiting && this.#backlog.unanswered === 0
  }

  #refuseWhenOver(): void {
    if (this.#ended?.error) throw this.#ended.error
    if (this.#closing) throw closedError()
  }

  #modeOf<Mode>(backlog: Mode | null, mode: StreamMode): Mode {
    if (backlog !== null) return backlog
    throw new TypeError(`This is for a stream in mode ${mode}`)
  }
}

export interface SendOptions {
  /** When an answer stops being useful, counted from the call. Default: the server's own, counted there. */
  readonly deadlineMs?: number
  /** Gives the window up: the promise rejects at once with the signal's reason. */
  readonly signal?: AbortSignal
}

export interface CloseOptions {
  /** Waits for nothing: what has no answer rejects with `closed`, or in samples mode gets none. Default false. */
  readonly now?: boolean
}

function closedError(): InferenceError {
  return new InferenceError('closed', 'The stream was closed')
}
