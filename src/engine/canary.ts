import { monotonicMs } from '../clock.ts'
import type { BackendKind } from '../core/backend.ts'
import { LEVEL } from '../core/degradation.ts'
import { type GoldenOf, type GoldenVectors, goldenWindow, Parity } from '../core/golden.ts'
import { LATENT_DIMS } from '../core/window.ts'
import { type Engine, type Inferred, NoResult } from './engine.ts'
import type { CanaryObserver, GoldenCheck } from './observer.ts'
import type { Stream } from './stream.ts'

/** Windows of one check, the next ones the next time: those of a usual model have all had their turn after eight. */
const WINDOWS_PER_CHECK = 8
/** A check that is due is tried so often, ms, and so often one of a stream that was found wrong. */
const LOOK_INTERVAL_MS = 1000
/** After so many tries in a row in which clients needed the stream, one window goes in between all the same. */
const MOST_SKIPS = 10
/** Longer than any client would wait: what is slow is not wrong. */
const TIMEOUT_MS = 5000

export interface CanaryOptions {
  readonly engine: Engine
  /** Of the models that serve when it is called. */
  readonly goldenOf: GoldenOf
  /** Between two checks of a stream. */
  readonly intervalMs: number
  readonly observer: CanaryObserver
}

/**
 * Sends golden windows through every stream while it serves, when nobody else has work for it. A stream
 * whose backend does not give the trained model's answers any more is condemned: its worker closes that
 * backend as one that was lost, and serves again with what answers all golden windows rightly.
 */
export class Canary {
  readonly #options: CanaryOptions
  readonly #watches: readonly StreamWatch[]

  constructor(options: CanaryOptions) {
    this.#options = options
    this.#watches = options.engine.streams.map((stream, worker) => new StreamWatch(stream, worker))
  }

  /** From here on until the engine drains. */
  watch(): void {
    setInterval(() => this.#look(), Math.min(this.#options.intervalMs, LOOK_INTERVAL_MS)).unref()
  }

  #look(): void {
    const nowMs = monotonicMs()
    for (const watch of this.#watches) {
      if (watch.condemned || nowMs - watch.checkedMs >= this.#options.intervalMs) void this.#check(watch)
    }
  }

  /** @param urgent what it is asked for cannot wait until clients leave room */
  async #check(watch: StreamWatch, urgent = watch.condemned): Promise<void> {
    const { engine, goldenOf, observer } = this.#options
    const { generation } = engine
    const { ring } = watch.stream
    const { serving } = ring
    const golden = serving && goldenOf(serving)
    const isChecked = golden !== null && Parity.of(serving!, golden) !== null
    if (watch.checking || !isChecked || engine.draining) return
    const nowMs = monotonicMs()
    const isIdle = ring.inFlight === 0 && engine.level < LEVEL.degraded
    if (!isIdle && !urgent && ++watch.skips <= MOST_SKIPS) {
      return observer.goldenChecked(watch.worker, SKIPPED)
    }
    watch.checking = true
    const round = new Round(serving!, golden, generation)
    const examined = await this.#examine(watch, round, isIdle ? WINDOWS_PER_CHECK : 1)
    watch.checking = false
    const check = generation === engine.generation ? examined : SKIPPED

    if (check.result === 'failed') ring.condemn(check.backend!)
    observer.goldenChecked(watch.worker, check)
    if (check.result === 'skipped') return
    watch.checkedMs = nowMs
    watch.skips = 0
    watch.condemned = check.result === 'failed'
    if (!watch.condemned) return
    // What is wrong with one may be wrong with all: they share the device, or the processor.
    for (const other of this.#watches) if (!other.condemned) void this.#check(other, true)
  }

  /** @param most windows; fewer when clients come meanwhile */
  async #examine(watch: StreamWatch, round: Round, most: number): Promise<GoldenCheck> {
    const { ring } = watch.stream
    const { count } = round.golden
    try {
      do {
        await this.#ask(watch, round, watch.next % count)
        watch.next = (watch.next + 1) % count
      } while (round.windows < most && ring.inFlight === 0)
      if (round.parity.holds) return round.told('passed')
      // A few may fall short in their mean where all together do not: that decides, as it did at the start.
      round.restart()
      for (let index = 0; index < count; index++) await this.#ask(watch, round, index)
      return round.told(round.parity.holds ? 'passed' : 'failed')
    } catch (error) {
      if (!(error instanceof NoResult)) throw error
      return round.told('skipped')
    }
  }

  async #ask({ stream }: StreamWatch, round: Round, index: number): Promise<void> {
    const { engine } = this.#options
    const { golden } = round
    const askedMs = monotonicMs()
    const inferred = await engine.infer(goldenWindow(golden, index), TIMEOUT_MS, stream).catch(error => {
      const backend = stream.ring.serving
      const isNoNumber = error instanceof NoResult && error.outcome === 'model_unavailable'
      if (!isNoNumber || backend === null) throw error
      // It still serves, so this was an answer that is no number. If it has just been lost, the next ones will tell.
      return {
        output: new Float32Array(LATENT_DIMS + golden.motifScores.length / golden.count).fill(Number.NaN),
        backend,
        generation: engine.generation,
      }
    })
    round.add(inferred, index, monotonicMs() - askedMs)
  }
}

const SKIPPED: GoldenCheck = { result: 'skipped', windows: 0, tookMs: 0, backend: null, parity: null }

/** What the canary knows of one stream. */
class StreamWatch {
  readonly stream: Stream
  readonly worker: number
  /** The golden window that is next. */
  next = 0
  /** Since the last check that was not skipped. */
  skips = 0
  /** The last check failed. */
  condemned = false
  checking = false
  /** When golden windows were last sent through it. */
  checkedMs = monotonicMs()

  constructor(stream: Stream, worker: number) {
    this.stream = stream
    this.worker = worker
  }
}

/** The answers of one backend to golden windows, asked one after the other. */
class Round {
  parity: Parity
  windows = 0
  #tookMs = 0
  readonly golden: GoldenVectors
  readonly #backend: BackendKind
  readonly #generation: number

  /** @param backend one of which something is asked @param generation of the model whose golden vectors these are */
  constructor(backend: BackendKind, golden: GoldenVectors, generation: number) {
    this.golden = golden
    this.#backend = backend
    this.#generation = generation
    this.parity = Parity.of(backend, golden)!
  }

  restart(): void {
    this.parity = Parity.of(this.#backend, this.golden)!
  }

  /** @throws NoResult when another backend or model has taken over */
  add({ output, backend, generation }: Inferred, index: number, tookMs: number): void {
    if (generation !== this.#generation) throw new NoResult('another model answers')
    this.windows++
    this.#tookMs += tookMs
    if (backend !== this.#backend) throw new NoResult(`${backend} answers in place of ${this.#backend}`)
    this.parity.add(output, index)
  }

  told(result: GoldenCheck['result']): GoldenCheck {
    return {
      result,
      windows: this.windows,
      tookMs: this.#tookMs,
      backend: this.#backend,
      parity: this.parity,
    }
  }
}
