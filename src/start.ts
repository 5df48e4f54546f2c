import { monotonicMs } from './clock.ts'
import { type Config, loadConfig } from './config.ts'
import type { StreamModel } from './core/stream-task.ts'
import { Engine } from './engine/engine.ts'
import { goldenParity, SMALLEST_COSINE, warmUp } from './engine/warm-up.ts'
import { CONTRACT_MOTIFS } from './http/health.ts'
import { REPLY } from './http/reply.ts'
import { FrontDoor } from './http/server.ts'
import type { Readiness } from './http/service.ts'
import { createLogger, type Logger } from './log.ts'
import { Metrics } from './metrics.ts'
import { loadModel, type Model } from './model.ts'
import { VERSION } from './project.ts'

const WORKER_URL = new URL('../workers/serve.js', import.meta.url)

/** What kept the service from starting, in words for the operator. */
export class StartError extends Error {
  readonly code = 'ERR_START'
}

/**
 * Puts the service together and starts it: configuration, model, engine, front door. It is ready
 * once the model has shown that it answers rightly. SIGTERM and SIGINT drain it.
 * @param workerUrl another worker, for tests of what happens when one fails
 * @throws ConfigError, ModelError, StartError
 */
export async function start(env: NodeJS.ProcessEnv, workerUrl = WORKER_URL): Promise<void> {
  const startedMs = monotonicMs()
  const config = loadConfig(env)
  const model = loadModel(config)
  const log = createLogger(config.logLevel)
  if (config.motifCount !== CONTRACT_MOTIFS) {
    log.warn(
      { motifs: config.motifCount },
      `EdgeInfer takes ${CONTRACT_MOTIFS} motif scores and no other number`,
    )
  }
  if (config.mode === 'stub') log.warn('stub mode: the answers are made up from the bytes of each window')
  for (const key of config.unused) log.warn({ key }, 'set, but without effect in this release')

  const device = config.mode === 'stub' ? 'none (stub)' : 'cpu'
  // The stub is never the model that somebody expects.
  const configOk = config.expectedSha256 === null || config.expectedSha256 === model.sha256
  const metrics = new Metrics(
    { config, model, device, configOk, version: VERSION, errorCodes: Object.keys(REPLY) },
    log,
  )
  const engine = new Engine({
    workerUrl,
    workers: config.workers,
    ringSlots: config.ringSlots,
    motifCount: config.motifCount,
    model: streamModelOf(model),
    observer: metrics,
  })
  metrics.watch(engine)

  const readiness: Readiness = { phase: 'starting' }
  const frontDoor = new FrontDoor({
    config,
    model,
    engine,
    metrics,
    readiness,
    log,
    device,
    configOk,
    version: VERSION,
    startedMs,
  })
  const port = await frontDoor.listen(config.host, config.port).catch(cause => {
    throw new StartError(`Cannot listen on ${config.host} port ${config.port}: ${reasonOf(cause)}`)
  })
  drainOnSignal(engine, frontDoor, log)

  try {
    await engine.start()
    readiness.phase = 'warming'
    if (!(await answersLikeTheModel(engine, model, metrics, log))) {
      readiness.phase = 'golden_check_failed'
      return
    }
  } catch (cause) {
    if (engine.draining) return
    await engine.close()
    throw new StartError(`Cannot run ${model.path ?? 'the stub'}: ${reasonOf(cause)}. The log may tell more`)
  }
  if (engine.draining) return
  engine.open()
  readiness.phase = 'ready'
  metrics.warmedUp((monotonicMs() - startedMs) / 1000)
  process.stdout.write(banner(config, model, port))
}

/** Whether the backend gives the trained model's own results, as far as the model brings any to compare. */
async function answersLikeTheModel(
  engine: Engine,
  model: Model,
  metrics: Metrics,
  log: Logger,
): Promise<boolean> {
  if (model.golden === null) {
    if (model.path !== null) log.warn('the model brings no golden vectors: its answers are not checked')
    await warmUp(engine)
    return true
  }
  const parity = await goldenParity(engine, model.golden)
  metrics.goldenChecked(parity.cosine)
  if (parity.cosine >= SMALLEST_COSINE && parity.topMotifMisses === 0) return true
  log.fatal(parity, 'the backend does not answer like the trained model: no client will be served')
  return false
}

function drainOnSignal(engine: Engine, frontDoor: FrontDoor, log: Logger): void {
  let draining = false
  const drain = async (signal: string) => {
    if (draining) return
    draining = true
    log.info({ signal }, 'draining')
    await engine.drain()
    await frontDoor.close()
    await engine.close()
    log.info('drained')
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, drain)
}

/** The part of the model that crosses to the workers; null runs the stub. */
function streamModelOf(model: Model): StreamModel | null {
  const { bytes, normalisation, inputName, latentName, motifName, motifActivation } = model
  if (bytes === null || normalisation === null) return null
  return { bytes, normalisation, inputName, latentName, motifName, motifActivation }
}

function banner(config: Config, model: Model, port: number): string {
  const host = config.host.includes(':') ? `[${config.host}]` : config.host
  const rows = {
    mode: config.mode,
    model: model.name,
    version: model.version,
    sha256: model.sha256,
    workers: config.workers,
    'ring slots': `${config.ringSlots} per worker`,
    deadline: `${config.deadlineMs} ms`,
    url: `http://${host}:${port}`,
  }
  const lines = Object.entries(rows).map(([name, value]) => `  ${name.padEnd(12)}${value}\n`)
  return `hailo-inference ${VERSION}\n${lines.join('')}`
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
