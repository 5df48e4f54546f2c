import { monotonicMs } from './clock.ts'
import { type Config, loadConfig } from './config.ts'
import type { StreamModel } from './core/stream-task.ts'
import { Engine } from './engine/engine.ts'
import { goldenParity, SMALLEST_COSINE } from './engine/golden.ts'
import { isConfigOk } from './http/health.ts'
import { FrontDoor } from './http/server.ts'
import type { Readiness, Service } from './http/service.ts'
import { createLogger } from './log.ts'
import { Metrics } from './metrics.ts'
import { loadModel, type Model } from './model.ts'
import { VERSION } from './project.ts'

const WORKER_URL = new URL('../workers/serve.js', import.meta.url)

/**
 * Starts the service: configuration, model, engine, front door; ready once the model has shown that
 * it answers rightly and the path is warm. SIGTERM and SIGINT drain it.
 * @param workerUrl another worker, for tests of what happens when one fails
 */
export async function start(env: NodeJS.ProcessEnv, workerUrl = WORKER_URL): Promise<void> {
  const startedMs = monotonicMs()
  const config = loadConfig(env)
  const model = loadModel(config)
  const log = createLogger(config.logLevel)
  for (const key of config.unused) log.warn({ key }, 'set, but without effect in this release')

  const device = config.mode === 'stub' ? 'none (stub)' : 'cpu'
  const metrics = new Metrics(
    {
      model: model.name,
      modelVersion: model.version,
      modelPath: model.path ?? '',
      modelSha256: model.sha256,
      expectedSha256: config.expectedSha256,
      configOk: isConfigOk({ config, model }),
      motifCount: config.motifCount,
      device,
      mode: config.mode,
      version: VERSION,
      configVersion: config.configVersion,
    },
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
  const service: Service = {
    config,
    model,
    engine,
    metrics,
    readiness,
    log,
    version: VERSION,
    device,
    startedMs,
  }
  const frontDoor = new FrontDoor(service, {
    backend: config.mode,
    modelSha256: model.sha256.slice(0, 12),
    configVersion: config.configVersion,
  })
  const port = await frontDoor.listen(config.host, config.port)
  const url = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${port}`

  let stopping = false
  const stop = async (signal: string) => {
    if (stopping) return
    stopping = true
    log.info({ signal }, 'draining')
    await engine.drain()
    await frontDoor.close()
    await engine.close()
    log.info('drained, bye')
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, stop)

  await engine.start()
  readiness.phase = 'warming'
  if (model.golden) {
    const parity = await goldenParity(engine, model.golden)
    metrics.goldenChecked(parity.cosine)
    log.info(parity, 'golden parity')
    if (parity.cosine < SMALLEST_COSINE || parity.topMotifMisses > 0) {
      readiness.phase = 'golden_check_failed'
      log.fatal(parity, 'the backend does not answer like the trained model: no client will be served')
      return
    }
  } else log.warn('the model brings no golden vectors: its answers are not checked')
  engine.open()
  readiness.phase = 'ready'
  metrics.warmedUp((monotonicMs() - startedMs) / 1000)
  process.stdout.write(banner({ config, model, url }))
}

/** The part of the model that crosses to the workers; null runs the stub. */
function streamModelOf(model: Model): StreamModel | null {
  const { bytes, normalisation, inputName, latentName, motifName, motifActivation } = model
  if (bytes === null || normalisation === null) return null
  return { bytes, normalisation, inputName, latentName, motifName, motifActivation }
}

function banner({ config, model, url }: { config: Config; model: Model; url: string }): string {
  const rows = {
    mode: config.mode,
    model: model.name,
    version: model.version,
    sha256: model.sha256,
    workers: config.workers,
    'ring slots': `${config.ringSlots} per worker`,
    deadline: `${config.deadlineMs} ms`,
    url,
  }
  const lines = Object.entries(rows).map(([name, value]) => `  ${name.padEnd(12)}${value}\n`)
  return `hailo-inference ${VERSION}\n${lines.join('')}`
}
