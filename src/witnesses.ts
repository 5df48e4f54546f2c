import type { Config } from './config.ts'
import { perBackend } from './core/backend.ts'
import type { Slot } from './core/slot.ts'
import type { Engine } from './engine/engine.ts'
import type { BeginTrace, Origin, Witness } from './engine/observer.ts'
import type { InFlight } from './engine/stream.ts'
import { FailureLog } from './failure-log.ts'
import { REPLY } from './http/reply.ts'
import type { LiveFeed } from './live/feed.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import { loadReference } from './model.ts'
import { VERSION } from './project.ts'
import type { Loaded } from './reload/model-loader.ts'
import type { ServedModels } from './served-models.ts'
import { waitForNoThread } from './supervisor/end.ts'
import { TelemetryCounters } from './telemetry/counters.ts'
import type { Telemetry, TelemetryFacts } from './telemetry/telemetry.ts'
import type { Tracing } from './tracing/tracing.ts'

/** At the end of a drain, spans that wait have so long to reach the collector. */
const LONGEST_FLUSH_MS = 1000

/** What those who want to know are told of the service. */
export interface WitnessFacts {
  readonly config: Config
  readonly models: ServedModels
  readonly metrics: Metrics
  readonly live: LiveFeed
  readonly log: Logger
}

/** Tells everybody who wants to know what each client got: who counts, shows or logs it, and who keeps or traces it where that is wanted. */
export class Witnesses implements Witness {
  readonly #facts: WitnessFacts
  readonly #failures: FailureLog
  readonly #telemetry: Telemetry | null
  readonly #tracing: Tracing | null
  readonly #all: readonly Witness[]

  /** @throws ConfigError when what is to be kept cannot be */
  static async open(facts: WitnessFacts): Promise<Witnesses> {
    return new Witnesses(facts, await openTelemetry(facts), await openTracing(facts))
  }

  constructor(facts: WitnessFacts, telemetry: Telemetry | null, tracing: Tracing | null) {
    const { metrics, live, log } = facts
    this.#facts = facts
    this.#failures = new FailureLog(log)
    this.#telemetry = telemetry
    this.#tracing = tracing
    const wanted = [telemetry?.recorder, tracing].filter(witness => witness != null)
    this.#all = [metrics, live, this.#failures, ...wanted]
  }

  /** Null: nobody traces. */
  get beginTrace(): BeginTrace | null {
    const tracing = this.#tracing
    return tracing && (traceparent => tracing.begin(traceparent))
  }

  /** From here on less is kept when the engine is pressed. */
  watch(engine: Engine): void {
    this.#telemetry?.recorder.watch(engine)
  }

  /** Begins to write what is kept. */
  start(): void {
    this.#telemetry?.start()
  }

  /** The model that was prepared is about to give answers. @param reference see loadReference() */
  expect(reference: Loaded['reference']): void {
    this.#telemetry?.expect(telemetryFacts(this.#facts, this.#facts.models.generation + 1, reference))
  }

  windowAnswered(window: InFlight, slot: Slot, settledMs: number, answeredMs: number): void {
    for (const witness of this.#all) witness.windowAnswered(window, slot, settledMs, answeredMs)
  }

  windowFailed(code: string, origin: Origin): void {
    for (const witness of this.#all) witness.windowFailed(code, origin)
  }

  /** Nothing more will be told: writes and sends what waits, as far as that takes no longer than a second. */
  async close(): Promise<void> {
    this.#failures.close()
    const [written] = await Promise.all([this.#telemetry?.close(), this.#tracing?.flush(LONGEST_FLUSH_MS)])
    if (written !== false) return
    this.#facts.log.error('telemetry hangs in the disk, what was not written is lost')
    waitForNoThread('must')
  }
}

/** Its packages are loaded only where spans have somewhere to go. */
async function openTracing({ config, models, metrics, log }: WitnessFacts): Promise<Tracing | null> {
  if (config.tracing === null) return null
  const { Tracing } = await import('./tracing/tracing.ts')
  return new Tracing({
    config: config.tracing,
    configVersion: config.configVersion,
    version: VERSION,
    modelSha256: slot => models.of(slot).sha256.slice(0, 12),
    httpStatus: REPLY,
    tally: metrics,
    log,
  })
}

/** Loaded only where it is wanted. Its counts are there all the same. */
async function openTelemetry({ config, models, metrics, log }: WitnessFacts): Promise<Telemetry | null> {
  const counters = new TelemetryCounters()
  metrics.watchTelemetry(counters)
  if (config.telemetry === null) return null
  const { Telemetry } = await import('./telemetry/telemetry.ts')
  const { current, generation } = models
  const facts = telemetryFacts({ config, models, log }, generation, loadReference(config, current))
  return new Telemetry(config.telemetry, { facts, counters, log })
}

function telemetryFacts(
  { config, models, log }: Pick<WitnessFacts, 'config' | 'models' | 'log'>,
  generation: number,
  reference: Loaded['reference'],
): TelemetryFacts {
  const { motifLabels, normalisation } = models.of({ backend: config.mode, generation })
  const isMissing = typeof reference === 'string'
  if (isMissing) log.warn({ reason: reference }, 'telemetry cannot compare the device with the float model')
  return {
    generation,
    motifLabels,
    configVersion: config.configVersion,
    sha256: perBackend(backend => models.of({ backend, generation }).sha256),
    normalisation,
    reference: isMissing ? null : reference,
  }
}
