import { InferenceError, StreamClient, type StreamFailure, type StreamResult } from '../../client/index.ts'
import { CHANNELS, TIMESTEPS } from '../../src/core/window.ts'

const HOP = 50
const FEED_INTERVAL_MS = 50
/** A browser may not let us run for long: what was missed by more than this is not caught up with. */
const MOST_BEHIND_MS = 500

/** Windows that are remembered until their answer, the newest. */
const MOST_SENT = 1024

export interface Recording {
  readonly sampleRateHz: number
  /** float32[samples][9] */
  readonly samples: Float32Array
  /** The true motif of each sample, an index into `motifs`. */
  readonly labels: Uint8Array
  readonly motifs: readonly string[]
  /** Continuous pieces: no window spans two. */
  readonly segments: readonly { readonly start: number; readonly length: number }[]
}

export interface Replayed {
  readonly predicted: number
  /** What most samples of the window are labelled with. */
  readonly truth: number
  /** From when its last sample was handed to the client until its answer. */
  readonly roundTripMs: number
}

/** Null when this server has no recording. @throws TypeError when it cannot be reached */
export async function loadRecording(): Promise<Recording | null> {
  const responses = await Promise.all(['json', 'f32', 'u8'].map(ending => fetch(`page/recording.${ending}`)))
  if (responses.some(({ ok }) => !ok)) return null
  const [about, samples, labels] = responses as [Response, Response, Response]
  const { labels: motifs, sample_rate_hz, segments } = await about.json()
  return {
    sampleRateHz: sample_rate_hz,
    samples: new Float32Array(await samples.arrayBuffer()),
    labels: new Uint8Array(await labels.arrayBuffer()),
    motifs,
    segments,
  }
}

interface ReplayOptions {
  readonly speed: number
  readonly apiKey: string | null
  onAnswer(answer: Replayed): void
  onFailure(failure: StreamFailure): void
  /** Told once. @param why null after stop() */
  onEnd(why: string | null): void
}

/** Plays a recording to the server again and again, as a sensor would, until it is stopped. */
export class Replay {
  readonly #recording: Recording
  readonly #options: ReplayOptions
  readonly #client: StreamClient
  readonly #timer: ReturnType<typeof setInterval>
  /** Windows that were sent, by their sequence: their truth, and when their last sample left. */
  readonly #sent = new Map<number, { truth: number; sentMs: number }>()
  #fedMs = performance.now()
  /** Samples that are due and were not fed yet. */
  #due = 0
  #segment = 0
  /** Samples fed of the segment, and of all since the start, those that were skipped among them. */
  #position = 0
  #index = 0
  #nextWindow = 0

  constructor(recording: Recording, options: ReplayOptions) {
    this.#recording = recording
    this.#options = options
    const url = new URL('stream', location.href)
    url.protocol = url.protocol.replace('http', 'ws')
    this.#client = new StreamClient(url, {
      mode: 'samples',
      hop: HOP,
      ...(options.apiKey !== null && { apiKey: options.apiKey }),
      onAnswer: answer => this.#answered(answer),
      onEnd: error => {
        clearInterval(this.#timer)
        options.onEnd(error === null ? null : error.detail)
      },
    })
    this.#timer = setInterval(() => this.#feed(), FEED_INTERVAL_MS)
  }

  stop(): void {
    void this.#client.close({ now: true })
  }

  #feed(): void {
    const nowMs = performance.now()
    const elapsedMs = Math.min(MOST_BEHIND_MS, nowMs - this.#fedMs)
    this.#fedMs = nowMs
    this.#due += (elapsedMs / 1000) * this.#recording.sampleRateHz * this.#options.speed
    while (this.#due >= 1) this.#feedSegment(nowMs)
  }

  /** What is due of one segment. Behind its end some samples are left out, so that no window spans two. */
  #feedSegment(nowMs: number): void {
    const { samples, segments } = this.#recording
    const { start, length } = segments[this.#segment]!
    const count = Math.min(Math.floor(this.#due), length - this.#position)
    const from = start + this.#position
    this.#note(count, from, nowMs)
    this.#push(samples.subarray(from * CHANNELS, (from + count) * CHANNELS))
    this.#due -= count
    this.#position += count
    this.#index += count
    if (this.#position < length) return
    this.#segment = (this.#segment + 1) % segments.length
    this.#position = 0
    this.#client.skip(HOP)
    this.#index += HOP
    this.#nextWindow = Math.ceil(this.#index / HOP)
  }

  /** A server that has no model for long makes the client's buffer full: what does not fit counts as skipped. */
  #push(samples: Float32Array): void {
    try {
      this.#client.push(samples)
    } catch (error) {
      if (!(error instanceof InferenceError && error.code === 'queue_full')) throw error
    }
  }

  /** Remembers the windows that end within the next `count` samples, which lie at `from` in the recording. */
  #note(count: number, from: number, nowMs: number): void {
    for (;;) {
      const end = this.#nextWindow * HOP + TIMESTEPS
      if (end > this.#index + count) return
      const endAt = from + end - this.#index
      const truth = mostFrequent(this.#recording.labels.subarray(endAt - TIMESTEPS, endAt))
      this.#sent.set(this.#nextWindow++, { truth, sentMs: nowMs })
      // Windows that were lost on their way get no answer.
      if (this.#sent.size > MOST_SENT) this.#sent.delete(this.#sent.keys().next().value!)
    }
  }

  #answered(answer: StreamResult | StreamFailure): void {
    const sent = this.#sent.get(answer.sequence)
    this.#sent.delete(answer.sequence)
    if ('error' in answer) return this.#options.onFailure(answer)
    if (sent === undefined) return
    const predicted = answer.motifScores.indexOf(Math.max(...answer.motifScores))
    this.#options.onAnswer({ predicted, truth: sent.truth, roundTripMs: performance.now() - sent.sentMs })
  }
}

function mostFrequent(labels: Uint8Array): number {
  const counts = new Map<number, number>()
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1)
  return [...counts].reduce((best, next) => (next[1] > best[1] ? next : best))[0]
}
