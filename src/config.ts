import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { gather } from './config/gather.ts'
import { CIRCUMSTANCES, type Circumstance, keysFor, type Settings } from './config/keys.ts'
import { notValid, parse } from './config/parse.ts'
import { defaultWorkers } from './config/workers.ts'
import type { BackendKind } from './core/backend.ts'
import { SHIPPED_MODELS_FOLDER } from './project.ts'

export { CONFIG_KEYS } from './config/keys.ts'

/** Everything that a start can be told, parsed once at the start and passed down. Frozen. */
export interface Config {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** A Unix-domain socket beside the port, absolute. Null: none. */
  readonly socketPath: string | null
  readonly mode: BackendKind
  /** What answers while the device cannot. Null, and nothing does. */
  readonly fallback: 'onnx' | 'stub' | null
  /** Null in the other modes. */
  readonly hailo: HailoConfig | null
  /** Has the versions of a model, see artifacts.md. Absolute, as all paths. */
  readonly modelsFolder: string
  /** Null: that of the current version in `modelsFolder`. Opened only where ONNX is the mode or the fallback. */
  readonly onnxPath: string | null
  /** Of the model that the mode runs. Null: beside it, as that of a fallback always is. */
  readonly manifestPath: string | null
  /** 64 lower-case hex digits that the model must hash to. Null: the hash in its manifest is enough. */
  readonly expectedSha256: string | null
  /** Motif scores per window. EdgeInfer takes 12 and nothing else. */
  readonly motifCount: number
  /** Worker threads, each with one ring and one stream. */
  readonly workers: number
  /** Per worker, a power of two. */
  readonly ringSlots: number
  /** For requests that name no deadline, counted from their first byte. */
  readonly deadlineMs: number
  /** The longest deadline that a request may name, at least `deadlineMs`. */
  readonly maxDeadlineMs: number
  /** In one bulk request. */
  readonly maxWindowsPerRequest: number
  /** Clients that may be connected to `/stream` at once. */
  readonly streamConnections: number
  /** Null: none is kept. */
  readonly telemetry: TelemetryConfig | null
  /** Connections that may be open at once for all else. */
  readonly maxConnections: number
  readonly logLevel: Settings['LOG_LEVEL']
  /** Between two golden checks of a stream that serves. 0: none after the start. */
  readonly goldenIntervalMs: number
  /** Printable ASCII, fit for a header, as is `modelVersion`. */
  readonly configVersion: string
  /** Replaces the version in the manifest, as `modelAccuracy`, 0 to 1, replaces the accuracy. */
  readonly modelVersion: string | null
  readonly modelAccuracy: number | null
  readonly testEndpoints: boolean
  /** Whether a client may close the only model to everybody. */
  readonly allowModelUnload: boolean
  /** Where it is kept how the last process ended. May not be there yet. */
  readonly stateFolder: string
  /** Where spans go. Null: nothing is traced. */
  readonly tracing: TracingConfig | null
  /** Secrets, never to be logged. Empty: clients need no key. */
  readonly apiKeys: readonly string[]
  /** Whether `/metrics` needs a key too, where clients need one. */
  readonly metricsKey: boolean
  readonly rateLimits: RateLimitConfig
  /** Null: plain HTTP. */
  readonly tls: TlsConfig | null
  /** Origins whose pages may call us, or `*`. Empty: none. */
  readonly corsOrigins: readonly string[]
  /** Keys that are set but have no effect, in this release or in this mode. Each deserves a warning. */
  readonly unused: readonly string[]
}

/** Which compiled model runs where. */
export interface HailoConfig {
  /** Null: that of the current version in `modelsFolder`. */
  readonly hefPath: string | null
  /** Null for any device. */
  readonly deviceId: string | null
  /** Path or name of libhailort, null for where the system keeps it. */
  readonly library: string | null
  readonly io: 'async' | 'vstream'
  readonly scheduler: 'round_robin' | 'none'
}

/** What one client may send. Null: as much as it likes. */
export interface RateLimitConfig {
  readonly perKey: Rate | null
  readonly perAddress: Rate | null
  /** Whether a proxy before us tells the addresses of clients. */
  readonly trustProxy: boolean
}

/** Windows. */
export interface Rate {
  readonly perSecond: number
  /** At once, after a pause; at least 1. */
  readonly burst: number
}

/** PEM files, absolute. */
export interface TlsConfig {
  readonly certPath: string
  readonly keyPath: string
}

/** What of OpenTelemetry's own keys is heeded. */
export interface TracingConfig {
  /** Of an OTLP/HTTP receiver. */
  readonly url: string
  /** Sent with each export. Secrets, never to be logged. */
  readonly headers: Readonly<Record<string, string>>
  readonly serviceName: string
  /** Of requests whose caller does not say whether it traces: 0 none, 1 all. */
  readonly sampleRatio: number
}

/** What is kept of answers, and where. */
export interface TelemetryConfig {
  /** Absolute. */
  readonly folder: string
  /** The share of answers that get a line, 0 to 1. */
  readonly sample: number
  /** Of all that lies in the folder. */
  readonly budgetBytes: number
}

/** The configuration cannot be used. `main.ts` prints the message, one problem per line, and exits with 78. */
export class ConfigError extends Error {
  readonly code = 'ERR_CONFIG'
  readonly problems: string[]

  constructor(problems: string[]) {
    super(problems.join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/**
 * @param env `process.env`. Empty values count as unset, keys that are not ours are ignored.
 * @throws ConfigError listing everything that is wrong, not only the first
 */
export function loadConfig(env: Record<string, string | undefined>): Config {
  const problems: string[] = []
  const values = gather(env, problems)
  // Platforms set these for all that they run, and to what other SDKs understand: no reason not to start.
  const traces = 'OTEL_EXPORTER_OTLP_ENDPOINT' in values || 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT' in values
  const checked = { ...values }
  if (!traces) for (const key of keysFor('traces')) delete checked[key]
  const { set, wrong } = parse(checked, problems)

  const { INFER_MODE, USE_REAL_MODEL, HEF_PATH, ONNX_PATH, MODEL_DIR } = set
  const implied = USE_REAL_MODEL === undefined ? undefined : USE_REAL_MODEL ? 'hailo' : 'stub'
  // onnx runs a real model too: USE_REAL_MODEL=true does not contradict it.
  if (INFER_MODE && USE_REAL_MODEL === (INFER_MODE === 'stub')) {
    const { USE_REAL_MODEL: value } = values
    problems.push(
      `USE_REAL_MODEL: ${value} means ${implied}, but INFER_MODE is ${INFER_MODE}. Unset USE_REAL_MODEL`,
    )
  }
  const mode = INFER_MODE ?? implied ?? (HEF_PATH === undefined ? 'onnx' : 'hailo')
  if (mode === 'hailo' && HEF_PATH === undefined && MODEL_DIR === undefined) {
    const key = INFER_MODE ? 'INFER_MODE' : 'USE_REAL_MODEL'
    problems.push(
      `HEF_PATH: is not set, but ${key}=${values[key]} runs a compiled model. Set it to a HEF that the Hailo Dataflow Compiler has made, or MODEL_DIR to a folder of versions that have one, or try it without a device: npm run start:softhailo`,
    )
  }
  const fallback = set.FALLBACK === 'none' ? null : set.FALLBACK
  if (mode !== 'hailo' && fallback !== null && fallback !== mode) {
    problems.push(
      `FALLBACK: ${fallback} is for a device that may be lost, but the mode is ${mode}, which needs none. Unset FALLBACK`,
    )
  }

  const { DEADLINE_MS: deadlineMs, MAX_DEADLINE_MS: maxDeadlineMs } = set
  if (maxDeadlineMs < deadlineMs && !wrong.has('DEADLINE_MS') && !wrong.has('MAX_DEADLINE_MS')) {
    problems.push(notValid('MAX_DEADLINE_MS', maxDeadlineMs, `at least DEADLINE_MS, which is ${deadlineMs}`))
  }
  for (const [key, other] of [
    ['TLS_CERT', 'TLS_KEY'],
    ['TLS_KEY', 'TLS_CERT'],
  ] as const) {
    if (set[key] !== undefined && set[other] === undefined) {
      problems.push(
        `${other}: is not set, but ${key} is: TLS needs a certificate and its key. Set both or none`,
      )
    }
  }
  if (problems.length > 0) throw new ConfigError(problems)

  /** Whether every model that the mode may open has a path of its own, or it opens none. */
  const isNamed = {
    hailo: HEF_PATH !== undefined && ONNX_PATH !== undefined,
    onnx: ONNX_PATH !== undefined,
    stub: true,
  }
  const heeded: Record<Circumstance, boolean> = {
    never: false,
    telemetry: set.TELEMETRY_DIR !== undefined,
    device: mode === 'hailo',
    traces,
    apiKeys: set.API_KEY !== undefined,
    addresses: set.RATE_LIMIT_PER_ADDRESS !== undefined,
    versions: !isNamed[mode],
  }
  const unused = (Object.keys(CIRCUMSTANCES) as Circumstance[])
    .filter(circumstance => !heeded[circumstance])
    .flatMap(keysFor)
    .filter(key => (key === 'FALLBACK' ? fallback !== null : key in values))
  const hailo: HailoConfig | null =
    mode === 'hailo'
      ? Object.freeze({
          hefPath: absolute(HEF_PATH),
          deviceId: set.HAILO_DEVICE_ID ?? null,
          library: set.HAILORT_LIB ?? null,
          io: set.HAILO_IO,
          scheduler: set.HAILO_SCHEDULER,
        })
      : null
  const telemetry: TelemetryConfig | null =
    set.TELEMETRY_DIR === undefined
      ? null
      : Object.freeze({
          folder: resolve(set.TELEMETRY_DIR),
          sample: set.TELEMETRY_SAMPLE,
          budgetBytes: set.TELEMETRY_MAX_MB * 1e6,
        })
  return Object.freeze({
    host: set.SIDECAR_HOST,
    port: set.SIDECAR_PORT,
    socketPath: absolute(set.SIDECAR_SOCKET),
    mode,
    fallback: mode === 'hailo' ? fallback : null,
    hailo,
    modelsFolder: resolve(MODEL_DIR ?? SHIPPED_MODELS_FOLDER),
    onnxPath: absolute(ONNX_PATH),
    manifestPath: absolute(set.MODEL_MANIFEST),
    expectedSha256: set.EXPECTED_SHA256 ?? null,
    motifCount: set.NUM_MOTIFS,
    workers: set.WORKERS ?? defaultWorkers(),
    ringSlots: set.RING_SLOTS,
    deadlineMs,
    maxDeadlineMs,
    maxWindowsPerRequest: set.MAX_WINDOWS_PER_REQUEST,
    streamConnections: set.WS_MAX_CONNECTIONS,
    telemetry,
    maxConnections: set.MAX_CONNECTIONS,
    logLevel: set.LOG_LEVEL,
    goldenIntervalMs: set.GOLDEN_INTERVAL_S * 1000,
    configVersion: set.CONFIG_VERSION,
    modelVersion: set.MODEL_VERSION ?? null,
    modelAccuracy: set.MODEL_ACCURACY ?? null,
    testEndpoints: set.ENABLE_TEST_ENDPOINTS,
    allowModelUnload: set.ALLOW_MODEL_UNLOAD,
    stateFolder: resolve(set.STATE_DIR ?? join(tmpdir(), `hailo-inference-${process.getuid?.() ?? 0}`)),
    tracing: tracingOf(set),
    apiKeys: Object.freeze(set.API_KEY ?? []),
    metricsKey: set.METRICS_KEY,
    rateLimits: Object.freeze({
      perKey: set.RATE_LIMIT_PER_KEY ?? null,
      perAddress: set.RATE_LIMIT_PER_ADDRESS ?? null,
      trustProxy: set.TRUST_PROXY,
    }),
    tls: tlsOf(set),
    corsOrigins: Object.freeze(set.CORS_ORIGINS ?? []),
    unused: Object.freeze(unused),
  })
}

/** On where spans have somewhere to go. */
function tracingOf(set: Settings): TracingConfig | null {
  const base = set.OTEL_EXPORTER_OTLP_ENDPOINT
  const url =
    set.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? (base && `${base.endsWith('/') ? base : `${base}/`}v1/traces`)
  if (url === undefined) return null
  return Object.freeze({
    url,
    headers: Object.freeze(set.OTEL_EXPORTER_OTLP_HEADERS ?? {}),
    serviceName: set.OTEL_SERVICE_NAME,
    sampleRatio: set.OTEL_TRACES_SAMPLER_ARG,
  })
}

function tlsOf({ TLS_CERT, TLS_KEY }: Settings): TlsConfig | null {
  if (TLS_CERT === undefined || TLS_KEY === undefined) return null
  return Object.freeze({ certPath: resolve(TLS_CERT), keyPath: resolve(TLS_KEY) })
}

function absolute(path: string | undefined): string | null {
  return path === undefined ? null : resolve(path)
}
