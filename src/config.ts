import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { BACKENDS, type BackendKind } from './core/backend.ts'
import { MAX_MOTIFS } from './core/window.ts'
import { SHIPPED_MODEL_FOLDER } from './project.ts'

const require = createRequire(import.meta.url)

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
  /** Absolute, as all paths. Opened only where ONNX is the mode or the fallback. */
  readonly onnxPath: string
  /** Of the model that the mode runs. Not opened in stub mode. */
  readonly manifestPath: string
  /** Of the model in `onnxPath`; in onnx mode the same as `manifestPath`. */
  readonly onnxManifestPath: string
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
  readonly logLevel: (typeof LOG_LEVELS)[number]
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
  readonly hefPath: string
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

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const
const PYTHON_LOG_LEVELS = new Map([
  ['warning', 'warn'],
  ['critical', 'fatal'],
])

/** A drain lasts as long as the longest deadline, and containers are killed 10 s after they were asked to stop. */
const LONGEST_DEADLINE_MS = 9000

const DAY_S = 86_400
/** More would leave the model little time for others. */
const SHORTEST_GOLDEN_INTERVAL_S = 0.05

/** sun_path of Linux has 108 bytes, the last of which is 0; uWebSockets would write beyond them. */
const LONGEST_SOCKET_PATH_BYTES = 107

const text = z.string().describe('text')
const decimal = z
  .string()
  .regex(/^\d+(\.\d+)?$/)
  .transform(Number)
const integer = (min: number, max: number) =>
  decimal.pipe(z.int().min(min).max(max)).describe(`a whole number from ${min} to ${max}`)
const milliseconds = decimal
  .pipe(z.number().positive().max(LONGEST_DEADLINE_MS))
  .describe(`a number above 0, at most ${LONGEST_DEADLINE_MS}`)
const socketPath = z
  .string()
  .refine(path => Buffer.byteLength(resolve(path)) <= LONGEST_SOCKET_PATH_BYTES)
  .describe(`a path of at most ${LONGEST_SOCKET_PATH_BYTES} bytes, counted from /`)
const toggle = z.stringbool({ truthy: ['true', '1'], falsy: ['false', '0'] }).describe('true or false')
const list = z
  .union([z.string(), z.array(z.string())])
  .transform(items => [items].flat().flatMap(item => item.split(',')))
  .transform(items => items.map(item => item.trim()).filter(item => item !== ''))
  .describe('text separated by commas')
const MAX_RATE = 1_000_000
/** `20` or `20:100`. The burst is what comes in a second, unless it is told. */
const rate = z
  .string()
  .regex(/^\d+(\.\d+)?(:\d+)?$/)
  .transform(text => text.split(':').map(Number))
  .transform(([perSecond, burst]) => ({ perSecond: perSecond!, burst: burst ?? Math.max(1, perSecond!) }))
  .refine(({ perSecond, burst }) => perSecond > 0 && burst >= 1 && Math.max(perSecond, burst) <= MAX_RATE)
  .describe(`windows per second, or with a burst as 20:100, each at most ${MAX_RATE}`)
const url = z.url({ protocol: /^https?$/ }).describe('a URL, as http://127.0.0.1:4318')
/** As OpenTelemetry has them: `name=value,name=value`, percent-encoded. */
const headers = z
  .string()
  .regex(/^ *[!#$%&'*+.^`|~\w-]+ *=[^,]*(, *[!#$%&'*+.^`|~\w-]+ *=[^,]*)*$/)
  .transform(text => text.split(',').map(pair => pair.split(/=(.*)/, 2).map(part => part.trim())))
  .refine(pairs => pairs.every(([, value]) => decoded(value!) !== null))
  .transform(pairs => Object.fromEntries(pairs.map(([name, value]) => [name!, decoded(value!)!])))
  .describe('name=value, … with percent-encoded values')
const oneOf = <Word extends string>(words: readonly Word[]) =>
  z.enum(words).describe(`one of ${words.join(' ')}`)
const headerValue = z
  .string()
  .regex(/^[!-~]([ -~]{0,62}[!-~])?$/)
  .describe('1 to 64 characters of printable ASCII with no space at either end')

/** Values arrive as text. A description ends the sentence "… is not valid, expected …". Defaults: `loadConfig`. */
const KEYS = {
  SIDECAR_HOST: text,
  FASTAPI_HOST: text,
  SIDECAR_PORT: integer(0, 65_535),
  FASTAPI_PORT: integer(0, 65_535),
  PORT: integer(0, 65_535),
  SIDECAR_SOCKET: socketPath,
  INFER_MODE: oneOf(BACKENDS),
  USE_REAL_MODEL: toggle,
  FALLBACK: oneOf(['none', 'onnx', 'stub']),
  HEF_PATH: text,
  ONNX_PATH: text,
  MODEL_MANIFEST: text,
  EXPECTED_SHA256: z.hash('sha256').toLowerCase().describe('64 hex digits'),
  NUM_MOTIFS: integer(1, MAX_MOTIFS),
  WORKERS: integer(1, 32),
  RING_SLOTS: decimal
    .pipe(z.int().min(2).max(4096))
    .refine(slots => (slots & (slots - 1)) === 0)
    .describe('a power of two from 2 to 4096'),
  DEADLINE_MS: milliseconds,
  MAX_DEADLINE_MS: milliseconds,
  MAX_WINDOWS_PER_REQUEST: integer(1, 1_000_000),
  WS_MAX_CONNECTIONS: integer(1, 100_000),
  MAX_CONNECTIONS: integer(1, 100_000),
  LOG_LEVEL: z
    .string()
    .toLowerCase()
    .transform(level => PYTHON_LOG_LEVELS.get(level) ?? level)
    .pipe(z.enum(LOG_LEVELS))
    .describe(`one of ${LOG_LEVELS.join(' ')}`),
  GOLDEN_INTERVAL_S: decimal
    .pipe(z.number().max(DAY_S))
    .refine(seconds => seconds === 0 || seconds >= SHORTEST_GOLDEN_INTERVAL_S)
    .describe(`0, or a number of seconds from ${SHORTEST_GOLDEN_INTERVAL_S} to ${DAY_S}`),
  CONFIG_VERSION: headerValue,
  MODEL_VERSION: headerValue,
  MODEL_ACCURACY: decimal.pipe(z.number().max(1)).describe('a number from 0 to 1'),
  ENABLE_TEST_ENDPOINTS: toggle,
  ALLOW_MODEL_UNLOAD: toggle,
  HAILO_DEVICE_ID: text,
  HAILORT_LIB: text,
  HAILO_IO: oneOf(['async', 'vstream']),
  HAILO_SCHEDULER: oneOf(['round_robin', 'none']),
  SESSIONS_DIR: text,
  TELEMETRY_DIR: text,
  TELEMETRY_SAMPLE: decimal.pipe(z.number().max(1)).describe('a number from 0 to 1'),
  TELEMETRY_MAX_MB: integer(1, 1_000_000),
  STATE_DIR: text,
  API_KEY: list,
  METRICS_KEY: toggle,
  RATE_LIMIT_PER_KEY: rate,
  RATE_LIMIT_PER_ADDRESS: rate,
  TRUST_PROXY: toggle,
  TLS_CERT: text,
  TLS_KEY: text,
  CORS_ORIGINS: list,
  OTEL_EXPORTER_OTLP_ENDPOINT: url,
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: url,
  OTEL_EXPORTER_OTLP_HEADERS: headers,
  OTEL_SERVICE_NAME: text,
  OTEL_TRACES_SAMPLER_ARG: decimal.pipe(z.number().max(1)).describe('a number from 0 to 1'),
  CONFIG_PATH: text,
}
export const CONFIG_KEYS = Object.keys(KEYS)
const Settings = z.object(KEYS).partial()

type Key = keyof typeof KEYS
type Values = Partial<Record<Key, unknown>>

/** Keys that name one setting: the first that is set wins, and any in the environment beats all in the file. */
const SYNONYMS: readonly Key[][] = [
  ['SIDECAR_HOST', 'FASTAPI_HOST'],
  ['SIDECAR_PORT', 'FASTAPI_PORT', 'PORT'],
]

const WITHOUT_EFFECT: readonly Key[] = ['SESSIONS_DIR']
/** Endpoints may have a password in them, or a key behind the question mark. */
const ENDPOINTS: readonly Key[] = ['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']
const SECRETS: ReadonlySet<Key> = new Set(['API_KEY', 'OTEL_EXPORTER_OTLP_HEADERS', ...ENDPOINTS])
const ONLY_FOR_TRACING: readonly Key[] = [
  'OTEL_EXPORTER_OTLP_HEADERS',
  'OTEL_SERVICE_NAME',
  'OTEL_TRACES_SAMPLER_ARG',
]
const ONLY_FOR_TELEMETRY: readonly Key[] = ['TELEMETRY_SAMPLE', 'TELEMETRY_MAX_MB']
const ONLY_WITH_KEYS: readonly Key[] = ['METRICS_KEY', 'RATE_LIMIT_PER_KEY']
const ONLY_FOR_HAILO: readonly Key[] = [
  'FALLBACK',
  'HEF_PATH',
  'HAILO_DEVICE_ID',
  'HAILORT_LIB',
  'HAILO_IO',
  'HAILO_SCHEDULER',
]

/**
 * @param env `process.env`. Empty values count as unset, keys that are not ours are ignored.
 * @throws ConfigError listing everything that is wrong, not only the first
 */
export function loadConfig(env: Record<string, string | undefined>): Config {
  const problems: string[] = []
  const values = gather(env, problems)
  const heeded = { ...values }
  // Platforms set these for all that they run, and to what other SDKs understand: no reason not to start.
  const traces = ENDPOINTS.some(key => key in values)
  if (!traces) for (const key of ONLY_FOR_TRACING) delete heeded[key]
  const wrong = new Set(Settings.safeParse(heeded).error?.issues.map(issue => issue.path[0] as Key))

  // Without its wrong keys the rest still parses, so that contradictions in it come to light in the same start.
  const good = { ...heeded }
  for (const key of wrong) {
    problems.push(notValid(key, values[key], KEYS[key].description!))
    delete good[key]
  }
  const set = Settings.parse(good)

  const { INFER_MODE, USE_REAL_MODEL, HEF_PATH } = set
  const implied = USE_REAL_MODEL === undefined ? undefined : USE_REAL_MODEL ? 'hailo' : 'stub'
  // onnx runs a real model too: USE_REAL_MODEL=true does not contradict it.
  if (INFER_MODE && USE_REAL_MODEL === (INFER_MODE === 'stub')) {
    problems.push(
      `USE_REAL_MODEL: ${values.USE_REAL_MODEL} means ${implied}, but INFER_MODE is ${INFER_MODE}. Unset USE_REAL_MODEL`,
    )
  }
  const mode = INFER_MODE ?? implied ?? (HEF_PATH === undefined ? 'onnx' : 'hailo')
  if (mode === 'hailo' && HEF_PATH === undefined) {
    const key = INFER_MODE ? 'INFER_MODE' : 'USE_REAL_MODEL'
    problems.push(
      `HEF_PATH: is not set, but ${key}=${values[key]} runs a compiled model. Set it to a HEF that the Hailo Dataflow Compiler has made, or try it without a device: npm run start:softhailo`,
    )
  }
  const fallback = set.FALLBACK === undefined || set.FALLBACK === 'none' ? null : set.FALLBACK
  if (mode !== 'hailo' && fallback !== null && fallback !== mode) {
    problems.push(
      `FALLBACK: ${fallback} is for a device that may be lost, but the mode is ${mode}, which needs none. Unset FALLBACK`,
    )
  }

  const deadlineMs = set.DEADLINE_MS ?? 40
  const maxDeadlineMs = set.MAX_DEADLINE_MS ?? 5000
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

  const unused = [
    ...WITHOUT_EFFECT,
    ...(set.TELEMETRY_DIR === undefined ? ONLY_FOR_TELEMETRY : []),
    ...(mode === 'hailo' ? [] : ONLY_FOR_HAILO),
    ...(traces ? [] : ONLY_FOR_TRACING),
    ...(set.API_KEY === undefined ? ONLY_WITH_KEYS : []),
    ...(set.RATE_LIMIT_PER_ADDRESS === undefined ? (['TRUST_PROXY'] as const) : []),
  ].filter(key => (key === 'FALLBACK' ? fallback !== null : values[key] !== undefined))
  const onnxPath = resolve(set.ONNX_PATH ?? join(SHIPPED_MODEL_FOLDER, 'model_dynamic.onnx'))
  const hailo: HailoConfig | null =
    mode === 'hailo'
      ? Object.freeze({
          hefPath: resolve(HEF_PATH!),
          deviceId: set.HAILO_DEVICE_ID ?? null,
          library: set.HAILORT_LIB ?? null,
          io: set.HAILO_IO ?? 'async',
          scheduler: set.HAILO_SCHEDULER ?? 'round_robin',
        })
      : null
  const telemetry: TelemetryConfig | null =
    set.TELEMETRY_DIR === undefined
      ? null
      : Object.freeze({
          folder: resolve(set.TELEMETRY_DIR),
          sample: set.TELEMETRY_SAMPLE ?? 1,
          budgetBytes: (set.TELEMETRY_MAX_MB ?? 1024) * 1e6,
        })
  const manifestPath = resolve(set.MODEL_MANIFEST ?? manifestBeside(hailo?.hefPath ?? onnxPath))
  return Object.freeze({
    host: set.SIDECAR_HOST ?? set.FASTAPI_HOST ?? '127.0.0.1',
    port: set.SIDECAR_PORT ?? set.FASTAPI_PORT ?? set.PORT ?? 9000,
    socketPath: set.SIDECAR_SOCKET === undefined ? null : resolve(set.SIDECAR_SOCKET),
    mode,
    fallback: mode === 'hailo' ? fallback : null,
    hailo,
    onnxPath,
    manifestPath,
    onnxManifestPath: mode === 'hailo' ? manifestBeside(onnxPath) : manifestPath,
    expectedSha256: set.EXPECTED_SHA256 ?? null,
    motifCount: set.NUM_MOTIFS ?? 12,
    workers: set.WORKERS ?? defaultWorkers(),
    ringSlots: set.RING_SLOTS ?? 128,
    deadlineMs,
    maxDeadlineMs,
    maxWindowsPerRequest: set.MAX_WINDOWS_PER_REQUEST ?? 10_000,
    streamConnections: set.WS_MAX_CONNECTIONS ?? 1024,
    telemetry,
    maxConnections: set.MAX_CONNECTIONS ?? 4096,
    logLevel: set.LOG_LEVEL ?? 'info',
    goldenIntervalMs: (set.GOLDEN_INTERVAL_S ?? 60) * 1000,
    configVersion: set.CONFIG_VERSION ?? '1',
    modelVersion: set.MODEL_VERSION ?? null,
    modelAccuracy: set.MODEL_ACCURACY ?? null,
    testEndpoints: set.ENABLE_TEST_ENDPOINTS ?? true,
    allowModelUnload: set.ALLOW_MODEL_UNLOAD ?? false,
    stateFolder: resolve(set.STATE_DIR ?? join(tmpdir(), `hailo-inference-${process.getuid?.() ?? 0}`)),
    tracing: tracingOf(set),
    apiKeys: Object.freeze(set.API_KEY ?? []),
    metricsKey: set.METRICS_KEY ?? false,
    rateLimits: Object.freeze({
      perKey: set.RATE_LIMIT_PER_KEY ?? null,
      perAddress: set.RATE_LIMIT_PER_ADDRESS ?? null,
      trustProxy: set.TRUST_PROXY ?? false,
    }),
    tls: tlsOf(set),
    corsOrigins: Object.freeze(set.CORS_ORIGINS ?? []),
    unused: Object.freeze(unused),
  })
}

/** On where spans have somewhere to go. */
function tracingOf(set: z.infer<typeof Settings>): TracingConfig | null {
  const base = set.OTEL_EXPORTER_OTLP_ENDPOINT
  const url =
    set.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? (base && `${base.endsWith('/') ? base : `${base}/`}v1/traces`)
  if (url === undefined) return null
  return Object.freeze({
    url,
    headers: Object.freeze(set.OTEL_EXPORTER_OTLP_HEADERS ?? {}),
    serviceName: set.OTEL_SERVICE_NAME ?? 'hailo-inference',
    sampleRatio: set.OTEL_TRACES_SAMPLER_ARG ?? 1,
  })
}

function tlsOf({ TLS_CERT, TLS_KEY }: z.infer<typeof Settings>): TlsConfig | null {
  if (TLS_CERT === undefined || TLS_KEY === undefined) return null
  return Object.freeze({ certPath: resolve(TLS_CERT), keyPath: resolve(TLS_KEY) })
}

/** Null where a percent sign begins nothing. */
function decoded(value: string): string | null {
  try {
    return decodeURIComponent(value)
  } catch {
    return null
  }
}

function manifestBeside(modelPath: string): string {
  return join(dirname(modelPath), 'model.json')
}

/**
 * One CPU is left to the front door, and more than four workers must be asked for.
 * @param cpus what the scheduler allows this process. A container's quota is not in it: that is read from the cgroup.
 * @param read the text of a file, undefined when there is none
 */
export function defaultWorkers(cpus = availableParallelism(), read = readIfThere): number {
  const v2 = read('/sys/fs/cgroup/cpu.max')?.split(' ')
  const v1 = ['quota', 'period'].map(part => read(`/sys/fs/cgroup/cpu/cpu.cfs_${part}_us`))
  const [quotaUs, periodUs] = v2 ?? v1
  const quotaCpus = Math.ceil(Number(quotaUs) / Number(periodUs)) // no quota: "max" in v2, -1 in v1
  return Math.max(1, Math.min(4, (quotaCpus > 0 ? Math.min(cpus, quotaCpus) : cpus) - 1))
}

/** What is set, as text or lists of text, of the environment and, below it, the file at CONFIG_PATH. */
function gather(env: Record<string, string | undefined>, problems: string[]): Values {
  const fromEnv = whatIsSet(env)
  const fromFile = typeof fromEnv.CONFIG_PATH === 'string' ? readYaml(fromEnv.CONFIG_PATH, problems) : {}
  for (const synonyms of SYNONYMS) {
    if (synonyms.some(key => key in fromEnv)) for (const key of synonyms) delete fromFile[key]
  }
  return { ...fromFile, ...fromEnv }
}

function readYaml(path: string, problems: string[]): Values {
  const refuse = (found: string) => {
    problems.push(`CONFIG_PATH: ${path} ${found}`)
    return {}
  }
  // Loaded only for a file: most starts have none.
  const { parseDocument } = require('yaml') as typeof import('yaml')
  try {
    // Scalars stay the text they are: a version 1.10 is not the number 1.1.
    const document = parseDocument(readFileSync(path, 'utf8'), { schema: 'failsafe', customTags: ['null'] })
    const [error] = document.errors
    // An error's own message may quote a secret.
    if (error) return refuse(`is not YAML: ${error.code} in line ${error.linePos?.[0].line}`)
    const content = z.record(z.string(), z.unknown()).safeParse(document.toJS() ?? {})
    if (!content.success) return refuse('is not a mapping of keys to values')
    for (const key of Object.keys(content.data)) {
      if (!isKey(key) || key === 'CONFIG_PATH') problems.push(`${key}: is not a key that ${path} can set`)
    }
    return whatIsSet(content.data)
  } catch (error) {
    return refuse(
      `cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'an alias in it leads nowhere'}`,
    )
  }
}

function isKey(key: string): key is Key {
  return Object.hasOwn(KEYS, key)
}

function whatIsSet(values: Record<string, unknown>): Values {
  const entries = Object.entries(values)
  return Object.fromEntries(entries.filter(([key, value]) => isKey(key) && (value ?? '') !== ''))
}

function notValid(key: Key, value: unknown, expected: string): string {
  const found = SECRETS.has(key) ? 'the value' : typeof value === 'object' ? JSON.stringify(value) : value
  return `${key}: ${found} is not valid, expected ${expected}`
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
