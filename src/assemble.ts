import { servedPath } from './artifacts/current.ts'
import { type Certificate, certificateOf, readCertificateFiles, UnusableKeyError } from './certificate.ts'
import { monotonicMs } from './clock.ts'
import { type Config, ConfigError, type TlsConfig } from './config.ts'
import type { GoldenOf } from './core/golden.ts'
import { deviceName } from './engine/backend-status.ts'
import { Canary } from './engine/canary.ts'
import { Engine, NoResult } from './engine/engine.ts'
import type { Threads } from './engine/threads.ts'
import { goldenParity } from './engine/warm-up.ts'
import { onHangup } from './hangup.ts'
import { CertificateWatch } from './http/certificate-watch.ts'
import { codec } from './http/codec.ts'
import { FRAMES_IN, FRAMES_OUT } from './http/frame.ts'
import { assertFree } from './http/free-port.ts'
import { CONTRACT_MOTIFS } from './http/health.ts'
import { REPLY } from './http/reply.ts'
import type { FrontDoor } from './http/server.ts'
import type { Readiness } from './http/service.ts'
import { LiveFeed } from './live/feed.ts'
import { createLogger, type Logger } from './log.ts'
import { addLifeMetrics } from './metrics/life.ts'
import { Metrics } from './metrics.ts'
import { loadFallback, loadModel, type Model } from './model.ts'
import { VERSION } from './project.ts'
import { LinkWatch } from './reload/link-watch.ts'
import { Reloading, taskOf } from './reloading.ts'
import { ServedModels } from './served-models.ts'
import { ServiceReport } from './service-report.ts'
import { shutDownOf } from './shutdown.ts'
import { waitForNoThread } from './supervisor/end.ts'
import { LifeRecord, recordPath } from './supervisor/life-record.ts'
import type { Systemd } from './supervisor/systemd.ts'
import { tellListening } from './supervisor/under-supervisor.ts'
import { Witnesses } from './witnesses.ts'

/** What kept the service from starting, in words for the operator. */
export class StartError extends Error {
  readonly code = 'ERR_START'
}

/** What start.ts has before all the rest is loaded. */
interface Beginning {
  readonly config: Config
  readonly threads: Threads
  /** Monotonic ms of the start. */
  readonly startedMs: number
  /** Null: nobody is told how it goes. */
  readonly systemd: Systemd | null
}

/**
 * Puts the service together: model, engine, front door. It is ready when this resolves, if the model
 * has shown that it answers rightly.
 * @throws ConfigError, ModelError, StartError
 */
export async function assemble({ config, threads, startedMs, systemd }: Beginning): Promise<void> {
  const cannotListen = (cause: unknown) => {
    throw new StartError(`Cannot listen on ${config.host} port ${config.port}: ${reasonOf(cause)}`)
  }
  const certificate = config.tls && (await certificateAtStart(config.tls))
  const link = new LinkWatch(servedPath(config))
  await link.reading()
  const model = await loadModel(config)
  const fallback = loadFallback(config, model)
  const models = new ServedModels(model, fallback)
  const log = createLogger(config.logLevel)
  if (config.motifCount !== CONTRACT_MOTIFS) {
    log.warn(
      { motifs: config.motifCount },
      `EdgeInfer takes ${CONTRACT_MOTIFS} motif scores and no other number`,
    )
  }
  if (config.mode === 'stub') log.warn('stub mode: the answers are made up from the bytes of each window')
  for (const key of config.unused) log.warn({ key }, 'set, but without effect in this release or this mode')

  // The stub is never the model that somebody expects.
  const configOk = config.expectedSha256 === null || config.expectedSha256 === model.sha256
  const metrics = new Metrics(
    {
      config,
      models,
      configOk,
      version: VERSION,
      errorCodes: Object.keys(REPLY),
      frameTypes: { in: [...FRAMES_IN, 'unknown'], out: FRAMES_OUT },
    },
    log,
  )
  const live = new LiveFeed()
  const witness = await Witnesses.open({ config, models, metrics, live, log })
  let threadStuck = (_leavingMs: number) => {} // until there is a front door to close
  const engine = new Engine({
    threads,
    ringSlots: config.ringSlots,
    task: { ...taskOf({ model, fallback }), motifCount: config.motifCount },
    observer: metrics,
    witness,
    threadStuck: leavingMs => threadStuck(leavingMs),
  })
  models.watch(engine)
  metrics.watch(engine)
  live.watch(engine)
  witness.watch(engine)

  const goldenOf: GoldenOf = backend => models.of(models.source(backend)).golden
  if (model.golden === null && model.path !== null) {
    log.warn('the model brings no golden vectors: its answers are not checked')
  }
  const readiness: Readiness = { phase: 'starting' }
  // Another server may listen there, and have the device: then nobody else should open it.
  await assertFree(config.host, config.port).catch(cannotListen)
  // Begun before the front door is loaded, which takes as long as to open a backend.
  const answersRightly = engine.start().then(() => {
    readiness.phase = 'warming'
    return answersLikeTheModel(engine, goldenOf, metrics, log)
  })
  answersRightly.catch(() => {}) // told below: what keeps us from listening comes first

  const reloads = new Reloading({ config, link, models, engine, metrics, witness, readiness, log })
  const { FrontDoor } = await import('./http/server.ts')
  const service = {
    config,
    models,
    reloads,
    engine,
    metrics,
    witness,
    live,
    beginTrace: witness.beginTrace,
    readiness,
    log,
    configOk,
    version: VERSION,
    startedMs,
  }
  const frontDoor = doorOf(() => new FrontDoor(service))
  if (!frontDoor.hasPage) log.warn('the live page was not built, npm run build does that')
  const port = await frontDoor.listen(config.host, config.port).catch(cannotListen)
  tellListening(port)
  addLifeMetrics(metrics.registry, keepRecord(config, log))
  if (config.socketPath !== null) {
    await frontDoor.listenOnPath(config.socketPath).catch(cause => {
      throw new StartError(`Cannot listen on ${config.socketPath}: ${reasonOf(cause)}`)
    })
  }
  if (certificate !== null) watchCertificate(certificate, frontDoor, metrics, log)
  const report = systemd && new ServiceReport(systemd, { config, engine, models, readiness })
  const reload = () => reloads.reload('signal')
  onHangup(() => void (report === null ? reload() : report.reloading(reload)))
  witness.start()
  const shutDown = shutDownOf({ engine, frontDoor, reloads, witness, systemd, log })
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => shutDown('drained', { signal }))
  threadStuck = leavingMs => shutDown('thread_stuck', { leavingMs })

  try {
    if (!(await answersRightly)) {
      readiness.phase = 'golden_check_failed'
      return
    }
  } catch (cause) {
    if (engine.draining) return
    await engine.close()
    await witness.close()
    if (engine.threadsLeft > 0) waitForNoThread('must')
    throw new StartError(`Cannot run ${model.path ?? 'the stub'}: ${reasonOf(cause)}. The log may tell more`)
  }
  if (engine.draining) return
  engine.open()
  engine.loadWatch.watch({
    deadlineMs: config.deadlineMs,
    connections: () => frontDoor.fullness,
    observer: metrics,
  })
  if (config.goldenIntervalMs > 0) {
    new Canary({ engine, goldenOf, intervalMs: config.goldenIntervalMs, observer: metrics.golden }).watch()
  }
  readiness.phase = 'ready'
  reloads.watch()
  metrics.warmedUp((monotonicMs() - startedMs) / 1000)
  report?.look()
  process.stdout.write(banner(config, model, deviceName(config.mode, engine.backends), port))
}

/** Whether the backends give the trained model's own results, as far as the model brings any to compare. */
async function answersLikeTheModel(
  engine: Engine,
  goldenOf: GoldenOf,
  metrics: Metrics,
  log: Logger,
): Promise<boolean> {
  const parities = await untilAnswered(engine, () => goldenParity(engine, goldenOf), log)
  const good = [...parities.values()].every(({ holds }) => holds)
  if (parities.size > 0) {
    const cosines = [...parities.values()].map(({ cosine }) => cosine)
    metrics.golden.checkedAtStart(Math.min(...cosines), good)
  }
  for (const [backend, parity] of parities) {
    if (parity.holds) continue
    const found = { backend, cosine: parity.cosine, topMotifMisses: parity.topMotifMisses }
    log.fatal(found, `not like the trained model, so no client will be served: ${parity}`)
  }
  return good
}

/** A device may be lost while it is asked for the first time: then it is asked again. */
async function untilAnswered<Result>(
  engine: Engine,
  ask: () => Promise<Result>,
  log: Logger,
): Promise<Result> {
  while (true) {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof NoResult) || engine.draining || engine.backends.fault === null) throw error
      log.warn({ outcome: error.message }, 'the backend was lost while it was checked, checking again')
      await engine.untilServing()
    }
  }
}

interface ShownCertificate {
  readonly tls: TlsConfig
  readonly certificate: Certificate
  readonly sha256: string
}

/** @throws ConfigError */
async function certificateAtStart(tls: TlsConfig): Promise<ShownCertificate> {
  try {
    const files = await readCertificateFiles(tls)
    return { tls, certificate: certificateOf(files), sha256: files.sha256 }
  } catch (cause) {
    throw new ConfigError([`TLS_CERT, TLS_KEY: ${reasonOf(cause)}`])
  }
}

/** @throws ConfigError when the front door cannot use the certificate */
function doorOf(make: () => FrontDoor): FrontDoor {
  try {
    return make()
  } catch (cause) {
    throw cause instanceof UnusableKeyError ? new ConfigError([`TLS_CERT, TLS_KEY: ${cause.message}`]) : cause
  }
}

/** Another one may come into the files; SIGHUP says that it has. */
function watchCertificate(
  { tls, certificate, sha256 }: ShownCertificate,
  frontDoor: FrontDoor,
  metrics: Metrics,
  log: Logger,
): void {
  const tally = metrics.tls!
  tally.shown(certificate)
  const watch = new CertificateWatch({ tls, sha256, show: () => frontDoor.renewCertificate(), tally, log })
  watch.watch()
  onHangup(() => void watch.reload())
}

/** Tells how the last process on this address ended, and notes how this one does. */
function keepRecord(config: Config, log: Logger): LifeRecord {
  const path = recordPath(config.stateFolder, config.host, config.port)
  const record = new LifeRecord(path, error =>
    log.warn(
      { err: error },
      'the next start will not know how this one ended: STATE_DIR cannot be written to',
    ),
  )
  const { last, recentStarts } = record
  if (last.cause !== 'drained' && last.cause !== 'unknown') {
    log.warn({ ...last, recentStarts }, 'the last process on this address was not asked to end')
  }
  process.once('exit', code => record.ended(code))
  return record
}

function banner(config: Config, model: Model, device: string, port: number): string {
  const host = config.host.includes(':') ? `[${config.host}]` : config.host
  const rows = {
    mode: config.fallback === null ? config.mode : `${config.mode}, else ${config.fallback}`,
    device,
    model: model.name,
    version: model.version,
    sha256: model.sha256,
    workers: config.workers,
    'ring slots': `${config.ringSlots} per worker`,
    deadline: `${config.deadlineMs} ms`,
    codec: codec.description,
    url: `http${config.tls === null ? '' : 's'}://${host}:${port}`,
    ...(config.socketPath !== null && { socket: config.socketPath }),
  }
  const lines = Object.entries(rows).map(([name, value]) => `  ${name.padEnd(12)}${value}\n`)
  return `hailo-inference ${VERSION}\n${lines.join('')}`
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
