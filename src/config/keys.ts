import { BACKENDS } from '../core/backend.ts'
import { MAX_MOTIFS } from '../core/window.ts'
import * as kinds from './kinds.ts'

/** What there is to know of one key: what `loadConfig` goes by, and what is told of it. Words are Markdown. */
export interface KeyFacts {
  readonly kind: kinds.Kind<unknown>
  /** As one would set it. */
  readonly default?: string
  /** What holds when it is not set, where that is no value of its own. */
  readonly unset?: string
  /** Other names of the same setting: the first that is set wins, `key` before all. */
  readonly synonyms?: readonly string[]
  /** When it must be set, and an environment in which it is missed. */
  readonly required?: { readonly when: string; readonly missedBy: Readonly<Record<string, string>> }
  /** Where it has an effect. Everywhere, when not told. */
  readonly heeded?: Circumstance
  /** Its value is never told. */
  readonly secret?: true
  /** In one line. */
  readonly what: string
  readonly more?: string
  /** What `loadConfig` takes, and turns out wrong all the same. */
  readonly later?: LaterMistake
}

/** A value that is of the right kind, and wrong where the engine runs. */
export interface LaterMistake {
  /** What is wrong with it. */
  readonly mistake: string
  readonly noticed: string
  /** Null: the start goes on. */
  readonly exit: number | null
  /** What is printed, with the value as … */
  readonly words: string
  readonly value: string
  /** What else has to be set so that it is looked at. */
  readonly beside?: Readonly<Record<string, string>>
}

/** Where a key is heeded, when not everywhere. The words end the sentence "No effect …". */
export const CIRCUMSTANCES = {
  never: 'in this release',
  telemetry: 'without `TELEMETRY_DIR`',
  device: 'unless the mode is `hailo`',
  traces: 'without an endpoint; it is not even checked then',
  apiKeys: 'without `API_KEY`',
  addresses: 'without `RATE_LIMIT_PER_ADDRESS`',
  versions: 'where paths name every model that the mode may open',
} as const

export type Circumstance = keyof typeof CIRCUMSTANCES

type Facts = Readonly<Record<string, KeyFacts>>

const SOFT_HEF = 'artifacts/tcn_encoder/1.0.0/tcn_encoder.soft.hef'
const NOWHERE = '/no/such'
const AS_MODEL_IS_READ = 'as the model is read, before anything listens'
const AS_THE_PORT_OPENS = 'as the port opens'
const ANOTHER_SHA256 = 'a'.repeat(64)

const LISTENING = {
  SIDECAR_HOST: {
    kind: kinds.text,
    default: '127.0.0.1',
    synonyms: ['FASTAPI_HOST'],
    what: 'address to listen on; `0.0.0.0` is all of them',
    later: {
      mistake: 'this machine does not have it',
      noticed: AS_THE_PORT_OPENS,
      exit: 1,
      words: 'Cannot listen on … port',
      value: '192.0.2.1',
    },
  },
  SIDECAR_PORT: {
    kind: kinds.integer(0, 65_535),
    default: '9000',
    synonyms: ['FASTAPI_PORT', 'PORT'],
    what: 'port to listen on; 0 takes any free one',
    more: 'One that is taken stops the start with 1',
  },
  SIDECAR_SOCKET: {
    kind: kinds.socketPath,
    unset: 'none',
    what: 'a Unix-domain socket with the same routes beside the port',
    more: 'Its owner and group may connect. One that a dead server left is replaced, one that somebody listens on stops the start',
    later: {
      mistake: 'its folder is not there',
      noticed: AS_THE_PORT_OPENS,
      exit: 1,
      words: 'Cannot listen on …: the socket cannot be made, its folder must exist and be writable',
      value: `${NOWHERE}/dog.sock`,
    },
  },
  TLS_CERT: {
    kind: kinds.path,
    unset: 'plain HTTP',
    required: { when: 'with `TLS_KEY`', missedBy: { TLS_KEY: '/etc/ssl/dog.key' } },
    what: 'PEM file of the certificate, with those between it and the root behind it: HTTPS and WSS on the port',
    more: 'Certificate and key are read again within seconds when the files change, and on SIGHUP; open connections stay, and a bad pair changes nothing. `SIDECAR_SOCKET` stays without',
    later: {
      mistake: 'nothing is there, or at `TLS_KEY`',
      noticed: 'before anything listens',
      exit: 78,
      words: 'TLS_CERT, TLS_KEY: ENOENT: no such file or directory',
      value: NOWHERE,
      beside: { TLS_KEY: NOWHERE },
    },
  },
  TLS_KEY: {
    kind: kinds.path,
    unset: 'plain HTTP',
    required: { when: 'with `TLS_CERT`', missedBy: { TLS_CERT: '/etc/ssl/dog.pem' } },
    what: 'PEM file of the key of that certificate, without a passphrase',
  },
} as const satisfies Facts

const BACKEND = {
  INFER_MODE: {
    kind: kinds.oneOf(BACKENDS, 'gpu'),
    unset: '`onnx`; `hailo` when `HEF_PATH` is set',
    what: 'what answers: `hailo` the compiled model on a Hailo-8 or Hailo-8L, `onnx` the model on the CPU, `stub` numbers made up from the bytes of each window',
    more: 'Never chosen by which device happens to be there',
  },
  USE_REAL_MODEL: {
    kind: kinds.toggle,
    unset: '`INFER_MODE` decides',
    what: 'the older switch: false is `stub`, true is `hailo` unless `INFER_MODE` says `onnx`',
    more: 'A contradiction stops the start',
  },
  FALLBACK: {
    kind: kinds.oneOf(['none', 'onnx', 'stub'], 'cpu'),
    default: 'none',
    heeded: 'device',
    what: 'what answers while the device cannot, from the start or after it was lost, until it is back',
    more: 'Every answer names what gave it, `/healthz`, metrics and log tell why. `none`: windows are refused meanwhile. In another mode than `hailo` it stops the start, unless it names that very mode',
  },
} as const satisfies Facts

const MODEL = {
  MODEL_DIR: {
    kind: kinds.path,
    unset: 'the shipped `artifacts/tcn_encoder`',
    heeded: 'versions',
    what: 'the versions of a model, a folder each, and a link `current` to the one that is served',
    more: 'See [artifacts.md](artifacts.md). It says what `HEF_PATH` and `ONNX_PATH` do not, and alone does not change the mode',
    later: {
      mistake: 'nothing is there',
      noticed: AS_MODEL_IS_READ,
      exit: 78,
      words: '… cannot be read (ENOENT), expected a folder of versions. Set MODEL_DIR to one',
      value: NOWHERE,
    },
  },
  HEF_PATH: {
    kind: kinds.path,
    unset: 'that of `MODEL_DIR`, where that is set',
    required: {
      when: 'in mode `hailo`, unless `MODEL_DIR` is set',
      missedBy: { INFER_MODE: 'hailo' },
    },
    heeded: 'device',
    what: 'the compiled model',
    more: 'Its sha256 must be the one in the manifest',
    later: {
      mistake: 'nothing is there',
      noticed: AS_MODEL_IS_READ,
      exit: 78,
      words: '…: no such file, expected a HEF, as the Hailo Dataflow Compiler makes it.',
      value: NOWHERE,
    },
  },
  ONNX_PATH: {
    kind: kinds.path,
    unset: 'that of `MODEL_DIR`',
    what: 'the model where ONNX is the mode or the fallback',
    more: 'Its sha256 must be the one in the manifest',
    later: {
      mistake: 'nothing is there',
      noticed: AS_MODEL_IS_READ,
      exit: 78,
      words: '…: no such file, expected an ONNX model.',
      value: NOWHERE,
    },
  },
  MODEL_MANIFEST: {
    kind: kinds.path,
    unset: '`model.json` beside the model',
    what: 'shapes, units, z-score, labels and checksums of the model that the mode runs',
    more: 'That of the fallback always lies beside it',
    later: {
      mistake: 'nothing is there',
      noticed: AS_MODEL_IS_READ,
      exit: 78,
      words: '…: no such file, expected the manifest of a model',
      value: NOWHERE,
    },
  },
  EXPECTED_SHA256: {
    kind: kinds.sha256,
    unset: 'what the manifest says',
    what: 'the only model that may be served, at the start and later',
    later: {
      mistake: 'the model has another',
      noticed: AS_MODEL_IS_READ,
      exit: 78,
      words: 'expected EXPECTED_SHA256 …. Install the model that was meant, or correct EXPECTED_SHA256',
      value: ANOTHER_SHA256,
    },
  },
  NUM_MOTIFS: {
    kind: kinds.integer(1, MAX_MOTIFS),
    default: '12',
    what: 'motif scores per window; must be what the model has',
    more: 'EdgeInfer takes 12 only',
    later: {
      mistake: 'the model has another',
      noticed: AS_MODEL_IS_READ,
      exit: 78,
      words: 'the model has 12 motifs, expected … as NUM_MOTIFS says.',
      value: '11',
    },
  },
  MODEL_VERSION: {
    kind: kinds.headerValue,
    unset: "the manifest's",
    what: 'told in `/healthz`, `/encode` and metrics',
    more: 'It names every version that is loaded later too, which the log then warns of: leave it unset where versions change',
  },
  MODEL_ACCURACY: {
    kind: kinds.share,
    unset: "the manifest's",
    what: 'told by `/encode`',
  },
  GOLDEN_INTERVAL_S: {
    kind: kinds.goldenIntervalS,
    default: '60',
    what: 'how often each stream gets eight golden windows while no client needs it; 0: only at the start',
    more: 'What does not answer like the trained model any more answers nobody',
  },
  ALLOW_MODEL_UNLOAD: {
    kind: kinds.toggle,
    default: 'false',
    what: 'whether `POST /v2/repository/models/…/unload` may close the only model to everybody',
    more: 'Until `load` opens it again',
  },
} as const satisfies Facts

const DEVICE = {
  HAILO_DEVICE_ID: {
    kind: kinds.text,
    unset: 'any',
    heeded: 'device',
    what: 'the device to run on, as HailoRT names it: a PCI address',
    later: {
      mistake: 'there is no such device',
      noticed:
        'as the workers open the device; it is waited for, and windows are refused or go to the `FALLBACK`',
      exit: null,
      words: 'No Hailo device …',
      value: '0000:99:00.0',
      beside: { HEF_PATH: SOFT_HEF },
    },
  },
  HAILORT_LIB: {
    kind: kinds.path,
    unset: "the system's",
    heeded: 'device',
    what: 'the libhailort to load, by path or by name',
    later: {
      mistake: 'nothing is there',
      noticed: 'as the workers open the device',
      exit: 1,
      words: 'library_missing: Cannot open libhailort: …',
      value: NOWHERE,
      beside: { HEF_PATH: SOFT_HEF },
    },
  },
  HAILO_IO: {
    kind: kinds.oneOf(['async', 'vstream'], 'sync'),
    default: 'async',
    heeded: 'device',
    what: 'how windows go to the device',
    more: '`vstream` is slower, and for models that `async` does not fit',
  },
  HAILO_SCHEDULER: {
    kind: kinds.oneOf(['round_robin', 'none'], 'fifo'),
    default: 'round_robin',
    heeded: 'device',
    what: "HailoRT's scheduler, which lets several models share the device; `none` keeps this one active",
  },
} as const satisfies Facts

const LOAD = {
  WORKERS: {
    kind: kinds.integer(1, 32),
    unset: 'CPUs − 1, at least 1 and at most 4',
    what: 'worker threads, each with a ring and a stream of its own',
    more: 'CPUs are those that the cgroup allows',
  },
  RING_SLOTS: {
    kind: kinds.powerOfTwo(2, 4096),
    default: '128',
    what: 'windows in flight per worker; with the time per window it bounds the wait',
  },
  DEADLINE_MS: {
    kind: kinds.deadlineMs,
    default: '40',
    what: "when an answer stops being useful, from a request's first byte; EdgeInfer hangs up at 45",
  },
  MAX_DEADLINE_MS: {
    kind: kinds.deadlineMs,
    default: '5000',
    what: 'the longest deadline that `X-Deadline-Ms` can ask for; more is cut to this',
    more: 'At least `DEADLINE_MS`',
  },
  MAX_WINDOWS_PER_REQUEST: {
    kind: kinds.integer(1, 1_000_000),
    default: '10000',
    what: 'windows in one bulk `POST /infer`; more is refused with 413',
  },
  MAX_CONNECTIONS: {
    kind: kinds.integer(1, 100_000),
    default: '4096',
    what: 'connections that may be open at once besides those of `/stream`; more are closed as they come',
    more: "The system's limit of open files must allow for them",
  },
  WS_MAX_CONNECTIONS: {
    kind: kinds.integer(1, 100_000),
    default: '1024',
    what: 'clients that may be connected to `/stream` at once; others are refused with 503 `overloaded`',
  },
} as const satisfies Facts

const ACCESS = {
  API_KEY: {
    kind: kinds.list,
    unset: 'no key is asked for',
    secret: true,
    what: 'keys that clients must send as `X-API-Key` or `Authorization: Bearer`',
    more: "`/healthz`, `/readyz`, `/metrics` (but see `METRICS_KEY`), `/v2/health/…`, `/docs`, `/openapi.json`, and for browsers `/` with `/page/…` stay open. Letters, digits and ``!#$%&'*+-.^_`|~`` work everywhere; a browser cannot open `/stream` with others, nor send what is not ASCII",
  },
  METRICS_KEY: {
    kind: kinds.toggle,
    default: 'false',
    heeded: 'apiKeys',
    what: 'whether `/metrics` needs a key of `API_KEY` too',
  },
  RATE_LIMIT_PER_KEY: {
    kind: kinds.rate,
    unset: 'as much as they like',
    heeded: 'apiKeys',
    what: 'windows per second that clients with one key may send together, and how many at once after a pause',
    more: 'The burst is by default what comes in a second. More are refused with 429 `rate_limited`; those of a bulk request and of `/stream` count one by one, and where a body does not tell how many it brings, those beyond are refused as they come',
  },
  RATE_LIMIT_PER_ADDRESS: {
    kind: kinds.rate,
    unset: 'as much as they like',
    what: 'windows per second from each address, an IPv6 one by its /64 network',
    more: 'The 4096 addresses seen last are remembered. All clients of `SIDECAR_SOCKET` are one',
  },
  TRUST_PROXY: {
    kind: kinds.toggle,
    default: 'false',
    heeded: 'addresses',
    what: "takes the client's address from the last entry of the last `X-Forwarded-For`",
    more: 'Only where nobody but the proxy can reach this port: others could claim any address',
  },
  CORS_ORIGINS: {
    kind: kinds.list,
    unset: 'none',
    what: 'origins of web pages that may read the answers, or `*`',
  },
} as const satisfies Facts

const TELEMETRY = {
  TELEMETRY_DIR: {
    kind: kinds.path,
    unset: 'nothing is kept',
    what: 'a folder for a line per answer and for windows worth labelling',
    more: 'Made when it is not there. See [telemetry.md](telemetry.md)',
    later: {
      mistake: 'it cannot be made or written',
      noticed: 'before anything listens',
      exit: 78,
      words:
        'TELEMETRY_DIR: … cannot be written (ENOTDIR), expected a folder that this user may write, or one that can be made',
      value: '/dev/null/no',
    },
  },
  TELEMETRY_SAMPLE: {
    kind: kinds.share,
    default: '1',
    heeded: 'telemetry',
    what: 'the share of answers that get a line',
    more: 'Errors of windows get theirs all the same, up to 100 a second',
  },
  TELEMETRY_MAX_MB: {
    kind: kinds.integer(1, 1_000_000),
    default: '1024',
    heeded: 'telemetry',
    what: 'what all of it may take on the disk, in MB of 1,000,000 bytes; the oldest files go first',
  },
} as const satisfies Facts

const TRACES = {
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    kind: kinds.url,
    unset: 'nothing is traced',
    secret: true,
    what: 'sends traces to this OTLP/HTTP receiver, below `v1/traces`',
    more: 'See [tracing.md](tracing.md)',
  },
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: {
    kind: kinds.url,
    unset: 'made from the one above',
    secret: true,
    what: 'the same receiver with the whole path of its URL; wins',
  },
  OTEL_EXPORTER_OTLP_HEADERS: {
    kind: kinds.headers,
    unset: 'none',
    heeded: 'traces',
    secret: true,
    what: 'headers that are sent with each export',
  },
  OTEL_SERVICE_NAME: {
    kind: kinds.text,
    default: 'hailo-inference',
    heeded: 'traces',
    what: '`service.name` of the traces',
  },
  OTEL_TRACES_SAMPLER_ARG: {
    kind: kinds.share,
    default: '1',
    heeded: 'traces',
    what: 'the share of requests that is traced where the caller does not say',
  },
} as const satisfies Facts

const OPERATION = {
  LOG_LEVEL: {
    kind: kinds.logLevel,
    default: 'info',
    what: 'lines of this level and above go to stderr as JSON',
    more: 'In any case of letters; `warning` and `critical` of Python are understood',
  },
  CONFIG_VERSION: {
    kind: kinds.headerValue,
    default: '1',
    what: 'told in `X-Config-Version`, `/healthz` and metrics',
  },
  ENABLE_TEST_ENDPOINTS: {
    kind: kinds.toggle,
    default: 'true',
    what: 'whether `POST /test` exists',
  },
  STATE_DIR: {
    kind: kinds.path,
    unset: "`hailo-inference-<uid>` in the system's folder for temporary files",
    what: 'where a process on a fixed port notes when it started and how it ended, in a file of at most 4 KB',
    more: 'For `hailo_last_exit_info` and `hailo_starts_recent` of the next one. Made when it is not there; in a container it must outlive that',
    later: {
      mistake: 'it cannot be made or written',
      noticed: 'as the port opens, by a warning',
      exit: null,
      words: "ENOTDIR: not a directory, mkdir '…'",
      value: '/dev/null/no',
    },
  },
  CONFIG_PATH: {
    kind: kinds.path,
    unset: 'none',
    what: 'a YAML file with these keys; what the environment sets wins',
    more: 'A key in it that is none of these stops the start with 78',
    later: {
      mistake: 'nothing is there',
      noticed: 'first of all',
      exit: 78,
      words: 'CONFIG_PATH: … cannot be read: ENOENT',
      value: NOWHERE,
    },
  },
  SESSIONS_DIR: {
    kind: kinds.text,
    unset: 'nothing',
    heeded: 'never',
    what: 'taken from the older sidecar, with a warning at the start',
  },
} as const satisfies Facts

/** In the order in which people look for them. */
export const GROUPS = {
  Listening: LISTENING,
  'What answers': BACKEND,
  Model: MODEL,
  Device: DEVICE,
  Load: LOAD,
  Access: ACCESS,
  Telemetry: TELEMETRY,
  Traces: TRACES,
  Operation: OPERATION,
} satisfies Record<string, Facts>

const TYPED = {
  ...LISTENING,
  ...BACKEND,
  ...MODEL,
  ...DEVICE,
  ...LOAD,
  ...ACCESS,
  ...TELEMETRY,
  ...TRACES,
  ...OPERATION,
}

/** Every setting, by its key. */
export const KEYS: Readonly<Record<keyof typeof TYPED, KeyFacts>> = TYPED

/** What each setting is once it is parsed: never undefined where there is a default. */
export type Settings = {
  readonly [Key in keyof typeof TYPED]: (typeof TYPED)[Key] extends { kind: kinds.Kind<infer Value> }
    ? Value | ((typeof TYPED)[Key] extends { default: string } ? never : undefined)
    : never
}

const FACTS = new Map<string, KeyFacts>(
  Object.entries(KEYS).flatMap(([key, facts]) => namesOf(key, facts).map(name => [name, facts])),
)

/** All names that can be set, synonyms among them. */
export const CONFIG_KEYS: readonly string[] = [...FACTS.keys()]

/** Names of one setting, where there are several. */
export const SYNONYMS: readonly (readonly string[])[] = Object.entries(KEYS)
  .map(([key, facts]) => namesOf(key, facts))
  .filter(names => names.length > 1)

/** Undefined when it is the name of no key. */
export function factsOf(name: string): KeyFacts | undefined {
  return FACTS.get(name)
}

/** The keys that are heeded only there. */
export function keysFor(circumstance: Circumstance): string[] {
  return Object.keys(KEYS).filter(key => KEYS[key as keyof Settings].heeded === circumstance)
}

/** The key first. */
export function namesOf(key: string, { synonyms = [] }: KeyFacts): readonly string[] {
  return [key, ...synonyms]
}
