import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { defaultWorkers } from '../src/config/workers.ts'
import { CONFIG_KEYS, ConfigError, loadConfig } from '../src/config.ts'
import { SHIPPED_MODELS_FOLDER } from '../src/project.ts'

const HAILO = {
  hefPath: resolve('m/a.hef'),
  deviceId: null,
  library: null,
  io: 'async',
  scheduler: 'round_robin',
}

test('loadConfig() of an empty environment runs the shipped model on the local interface', () => {
  const { workers, ...config } = loadConfig({})
  expect(workers).toBe(defaultWorkers())
  expect(config).toEqual({
    host: '127.0.0.1',
    port: 9000,
    socketPath: null,
    mode: 'onnx',
    fallback: null,
    hailo: null,
    modelsFolder: SHIPPED_MODELS_FOLDER,
    onnxPath: null,
    manifestPath: null,
    expectedSha256: null,
    motifCount: 12,
    ringSlots: 128,
    deadlineMs: 40,
    maxDeadlineMs: 5000,
    maxWindowsPerRequest: 10_000,
    streamConnections: 1024,
    telemetry: null,
    maxConnections: 4096,
    logLevel: 'info',
    goldenIntervalMs: 60_000,
    configVersion: '1',
    modelVersion: null,
    modelAccuracy: null,
    testEndpoints: true,
    allowModelUnload: false,
    stateFolder: join(tmpdir(), `hailo-inference-${process.getuid!()}`),
    tracing: null,
    apiKeys: [],
    metricsKey: false,
    rateLimits: { perKey: null, perAddress: null, trustProxy: false },
    tls: null,
    corsOrigins: [],
    unused: [],
  })
})

test('loadConfig() finds the shipped model from the compiled sources too', async () => {
  const { loadConfig } = await import(resolve('dist/src/config.js'))
  expect(loadConfig({}).modelsFolder).toBe(SHIPPED_MODELS_FOLDER)
})

test.each([
  [{ SIDECAR_HOST: 'a', FASTAPI_HOST: 'b' }, { host: 'a' }],
  [{ FASTAPI_HOST: 'b' }, { host: 'b' }],
  [{ SIDECAR_PORT: '1', FASTAPI_PORT: '2', PORT: '3' }, { port: 1 }],
  [{ FASTAPI_PORT: '2', PORT: '3' }, { port: 2 }],
  [{ PORT: '0' }, { port: 0 }],
  [{ STATE_DIR: 'state' }, { stateFolder: resolve('state') }],
  [{ SIDECAR_SOCKET: 'run/dog.sock' }, { socketPath: resolve('run/dog.sock') }],
  [{ SIDECAR_SOCKET: `/${'é'.repeat(53)}` }, { socketPath: `/${'é'.repeat(53)}` }],
  [{ ONNX_PATH: 'models/dog.onnx' }, { onnxPath: resolve('models/dog.onnx'), manifestPath: null }],
  [{ MODEL_DIR: 'models' }, { mode: 'onnx', modelsFolder: resolve('models'), onnxPath: null, unused: [] }],
  [{ MODEL_DIR: 'm', ONNX_PATH: 'dog.onnx' }, { unused: ['MODEL_DIR'] }],
  [{ MODEL_DIR: 'm', INFER_MODE: 'stub' }, { unused: ['MODEL_DIR'] }],
  [{ MODEL_DIR: 'm', HEF_PATH: 'm/a.hef' }, { unused: [] }],
  [{ MODEL_DIR: 'm', HEF_PATH: 'm/a.hef', ONNX_PATH: 'dog.onnx' }, { unused: ['MODEL_DIR'] }],
  [
    { MODEL_DIR: 'm', INFER_MODE: 'hailo' },
    { mode: 'hailo', hailo: { ...HAILO, hefPath: null } },
  ],
  [{ MODEL_MANIFEST: '/dog.json' }, { onnxPath: null, manifestPath: '/dog.json' }],
  [{ EXPECTED_SHA256: 'AB'.repeat(32) }, { expectedSha256: 'ab'.repeat(32) }],
  [
    { NUM_MOTIFS: '44', WORKERS: '32', RING_SLOTS: '4096' },
    { motifCount: 44, workers: 32, ringSlots: 4096 },
  ],
  [
    { NUM_MOTIFS: '1', WORKERS: '1', RING_SLOTS: '2' },
    { motifCount: 1, workers: 1, ringSlots: 2 },
  ],
  [
    { DEADLINE_MS: '2.5', MAX_DEADLINE_MS: '2.5' },
    { deadlineMs: 2.5, maxDeadlineMs: 2.5 },
  ],
  [
    { DEADLINE_MS: '9000', MAX_DEADLINE_MS: '9000' },
    { deadlineMs: 9000, maxDeadlineMs: 9000 },
  ],
  [
    { TELEMETRY_DIR: 'told' },
    { telemetry: { folder: resolve('told'), sample: 1, budgetBytes: 1024e6 }, unused: [] },
  ],
  [
    { TELEMETRY_DIR: '/told', TELEMETRY_SAMPLE: '0.25', TELEMETRY_MAX_MB: '1' },
    { telemetry: { folder: '/told', sample: 0.25, budgetBytes: 1e6 }, unused: [] },
  ],
  [{ LOG_LEVEL: 'Warning' }, { logLevel: 'warn' }],
  [{ LOG_LEVEL: 'CRITICAL' }, { logLevel: 'fatal' }],
  [{ LOG_LEVEL: 'Trace' }, { logLevel: 'trace' }],
  [
    { CONFIG_VERSION: 'a b', MODEL_VERSION: '1.10' },
    { configVersion: 'a b', modelVersion: '1.10' },
  ],
  [{ MODEL_ACCURACY: '0' }, { modelAccuracy: 0 }],
  [{ MODEL_ACCURACY: '0.9' }, { modelAccuracy: 0.9 }],
  [{ ENABLE_TEST_ENDPOINTS: 'False' }, { testEndpoints: false }],
  [{ ENABLE_TEST_ENDPOINTS: '1' }, { testEndpoints: true }],
  [{ ALLOW_MODEL_UNLOAD: 'true' }, { allowModelUnload: true }],
  [{ GOLDEN_INTERVAL_S: '0' }, { goldenIntervalMs: 0 }],
  [{ GOLDEN_INTERVAL_S: '0.5' }, { goldenIntervalMs: 500 }],
  [
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://otel:4318' },
    {
      tracing: {
        url: 'http://otel:4318/v1/traces',
        headers: {},
        serviceName: 'hailo-inference',
        sampleRatio: 1,
      },
    },
  ],
  [
    {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'https://otel/base/',
      OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Bearer%20a=b, x-tenant = dogs',
      OTEL_SERVICE_NAME: 'collar',
      OTEL_TRACES_SAMPLER_ARG: '0.25',
    },
    {
      tracing: {
        url: 'https://otel/base/v1/traces',
        headers: { Authorization: 'Bearer a=b', 'x-tenant': 'dogs' },
        serviceName: 'collar',
        sampleRatio: 0.25,
      },
    },
  ],
  [
    {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://otel:4318',
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://tempo:4318/v1/traces',
    },
    { tracing: expect.objectContaining({ url: 'http://tempo:4318/v1/traces' }) },
  ],
  [
    { OTEL_SERVICE_NAME: 'collar', OTEL_TRACES_SAMPLER_ARG: 'endpoint=http://jaeger:14250' },
    { tracing: null, unused: ['OTEL_SERVICE_NAME', 'OTEL_TRACES_SAMPLER_ARG'] },
  ],
  [{ API_KEY: ' one, two ,,' }, { apiKeys: ['one', 'two'] }],
  [
    { API_KEY: 'one', METRICS_KEY: 'true' },
    { metricsKey: true, unused: [] },
  ],
  [{ METRICS_KEY: 'true', TRUST_PROXY: '1' }, { unused: ['METRICS_KEY', 'TRUST_PROXY'] }],
  [
    { API_KEY: 'one', RATE_LIMIT_PER_KEY: '0.5', RATE_LIMIT_PER_ADDRESS: '20:100', TRUST_PROXY: 'true' },
    {
      rateLimits: {
        perKey: { perSecond: 0.5, burst: 1 },
        perAddress: { perSecond: 20, burst: 100 },
        trustProxy: true,
      },
      unused: [],
    },
  ],
  [
    { TLS_CERT: 'tls/dog.pem', TLS_KEY: '/run/dog.key' },
    { tls: { certPath: resolve('tls/dog.pem'), keyPath: '/run/dog.key' } },
  ],
  [{ MAX_CONNECTIONS: '8' }, { maxConnections: 8 }],
  [{ CORS_ORIGINS: '*' }, { corsOrigins: ['*'] }],
  [{ INFER_MODE: 'stub' }, { mode: 'stub' }],
  [{ USE_REAL_MODEL: 'FALSE' }, { mode: 'stub' }],
  [{ USE_REAL_MODEL: '0', INFER_MODE: 'stub' }, { mode: 'stub' }],
  [{ USE_REAL_MODEL: 'true', INFER_MODE: 'onnx' }, { mode: 'onnx' }],
  [{ FALLBACK: 'none' }, { mode: 'onnx', fallback: null, unused: [] }],
  [{ FALLBACK: 'onnx' }, { mode: 'onnx', fallback: null, unused: ['FALLBACK'] }],
  [{ HEF_PATH: 'm/a.hef' }, { mode: 'hailo', hailo: HAILO, manifestPath: null, unused: [] }],
  [
    { HEF_PATH: 'm/a.hef', INFER_MODE: 'hailo', FALLBACK: 'none' },
    { mode: 'hailo', fallback: null },
  ],
  [
    { HEF_PATH: 'm/a.hef', USE_REAL_MODEL: 'True' },
    { mode: 'hailo', hailo: HAILO },
  ],
  [
    { HEF_PATH: 'm/a.hef', FALLBACK: 'stub' },
    { mode: 'hailo', fallback: 'stub' },
  ],
  [
    { HEF_PATH: 'm/a.hef', FALLBACK: 'onnx', ONNX_PATH: 'n/b.onnx' },
    { fallback: 'onnx', hailo: HAILO, onnxPath: resolve('n/b.onnx'), manifestPath: null },
  ],
  [
    { HEF_PATH: 'm/a.hef', FALLBACK: 'onnx', MODEL_MANIFEST: 'dog.json' },
    { manifestPath: resolve('dog.json') },
  ],
  [
    {
      HEF_PATH: 'm/a.hef',
      HAILO_DEVICE_ID: '0000:01:00.0',
      HAILORT_LIB: 'libhailort.so.4.23.0',
      HAILO_IO: 'vstream',
      HAILO_SCHEDULER: 'none',
    },
    {
      hailo: {
        hefPath: resolve('m/a.hef'),
        deviceId: '0000:01:00.0',
        library: 'libhailort.so.4.23.0',
        io: 'vstream',
        scheduler: 'none',
      },
    },
  ],
  [
    { INFER_MODE: '', PORT: '', API_KEY: '', HEF_PATH: '', CONFIG_PATH: '' },
    { mode: 'onnx', port: 9000, apiKeys: [], unused: [] },
  ],
  [{ SOMETHING_ELSE: 'x' }, { unused: [] }],
])('loadConfig(%j) gives %j', (env, expected) => {
  expect(loadConfig(env)).toMatchObject(expected)
})

test.each([
  [
    { SIDECAR_PORT: 'tcp://10.0.0.1:9000' },
    'SIDECAR_PORT: tcp://10.0.0.1:9000 is not valid, expected a whole number from 0 to 65535',
  ],
  [{ PORT: '65536' }, 'PORT: 65536 is not valid, expected a whole number from 0 to 65535'],
  [{ PORT: ' ' }, 'PORT:   is not valid, expected a whole number from 0 to 65535'],
  [
    { SIDECAR_SOCKET: `//${'é'.repeat(53)}x` },
    `SIDECAR_SOCKET: //${'é'.repeat(53)}x is not valid, expected a path of at most 107 bytes, counted from /`,
  ],
  [{ INFER_MODE: 'gpu' }, 'INFER_MODE: gpu is not valid, expected one of hailo onnx stub'],
  [{ USE_REAL_MODEL: 'yes' }, 'USE_REAL_MODEL: yes is not valid, expected true or false'],
  [{ EXPECTED_SHA256: 'abc' }, 'EXPECTED_SHA256: abc is not valid, expected 64 hex digits'],
  [{ NUM_MOTIFS: '45' }, 'NUM_MOTIFS: 45 is not valid, expected a whole number from 1 to 44'],
  [{ NUM_MOTIFS: '2.5' }, 'NUM_MOTIFS: 2.5 is not valid, expected a whole number from 1 to 44'],
  [{ WORKERS: '33' }, 'WORKERS: 33 is not valid, expected a whole number from 1 to 32'],
  [{ RING_SLOTS: '48' }, 'RING_SLOTS: 48 is not valid, expected a power of two from 2 to 4096'],
  [{ RING_SLOTS: '1' }, 'RING_SLOTS: 1 is not valid, expected a power of two from 2 to 4096'],
  [{ RING_SLOTS: '8192' }, 'RING_SLOTS: 8192 is not valid, expected a power of two from 2 to 4096'],
  [{ DEADLINE_MS: '0' }, 'DEADLINE_MS: 0 is not valid, expected a number above 0, at most 9000'],
  [
    { MAX_DEADLINE_MS: '9001' },
    'MAX_DEADLINE_MS: 9001 is not valid, expected a number above 0, at most 9000',
  ],
  [{ MAX_DEADLINE_MS: '30' }, 'MAX_DEADLINE_MS: 30 is not valid, expected at least DEADLINE_MS, which is 40'],
  [
    { DEADLINE_MS: '6000' },
    'MAX_DEADLINE_MS: 5000 is not valid, expected at least DEADLINE_MS, which is 6000',
  ],
  [
    { DEADLINE_MS: 'x', MAX_DEADLINE_MS: '30' },
    'DEADLINE_MS: x is not valid, expected a number above 0, at most 9000',
  ],
  [
    { MAX_WINDOWS_PER_REQUEST: 'x' },
    'MAX_WINDOWS_PER_REQUEST: x is not valid, expected a whole number from 1 to 1000000',
  ],
  [{ LOG_LEVEL: 'loud' }, 'LOG_LEVEL: loud is not valid, expected one of trace debug info warn error fatal'],
  [
    { CONFIG_VERSION: 'é' },
    'CONFIG_VERSION: é is not valid, expected 1 to 64 characters of printable ASCII with no space at either end',
  ],
  [
    { MODEL_VERSION: 'v1 ' },
    'MODEL_VERSION: v1  is not valid, expected 1 to 64 characters of printable ASCII with no space at either end',
  ],
  [
    { CONFIG_VERSION: 'x'.repeat(65) },
    `CONFIG_VERSION: ${'x'.repeat(65)} is not valid, expected 1 to 64 characters of printable ASCII with no space at either end`,
  ],
  [
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'otlp://me:secret@otel:4318' },
    'OTEL_EXPORTER_OTLP_ENDPOINT: the value is not valid, expected a URL, as http://127.0.0.1:4318',
  ],
  [
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://otel:4318', OTEL_TRACES_SAMPLER_ARG: '1.1' },
    'OTEL_TRACES_SAMPLER_ARG: 1.1 is not valid, expected a number from 0 to 1',
  ],
  [
    { GOLDEN_INTERVAL_S: '0.01' },
    'GOLDEN_INTERVAL_S: 0.01 is not valid, expected 0, or a number of seconds from 0.05 to 86400',
  ],
  [{ MODEL_ACCURACY: '90' }, 'MODEL_ACCURACY: 90 is not valid, expected a number from 0 to 1'],
  [{ ENABLE_TEST_ENDPOINTS: 'off' }, 'ENABLE_TEST_ENDPOINTS: off is not valid, expected true or false'],
  [{ ALLOW_MODEL_UNLOAD: 'yes' }, 'ALLOW_MODEL_UNLOAD: yes is not valid, expected true or false'],
  [{ FALLBACK: 'cpu' }, 'FALLBACK: cpu is not valid, expected one of none onnx stub'],
  [
    { FALLBACK: 'stub' },
    'FALLBACK: stub is for a device that may be lost, but the mode is onnx, which needs none. Unset FALLBACK',
  ],
  [
    { INFER_MODE: 'stub', FALLBACK: 'onnx' },
    'FALLBACK: onnx is for a device that may be lost, but the mode is stub, which needs none. Unset FALLBACK',
  ],
  [{ HAILO_IO: 'sync', HEF_PATH: 'm' }, 'HAILO_IO: sync is not valid, expected one of async vstream'],
  [
    { HAILO_SCHEDULER: 'fifo', HEF_PATH: 'm' },
    'HAILO_SCHEDULER: fifo is not valid, expected one of round_robin none',
  ],
  [
    { TLS_CERT: 'a.pem' },
    'TLS_KEY: is not set, but TLS_CERT is: TLS needs a certificate and its key. Set both or none',
  ],
  [
    { TLS_KEY: 'a.key' },
    'TLS_CERT: is not set, but TLS_KEY is: TLS needs a certificate and its key. Set both or none',
  ],
  [
    { RATE_LIMIT_PER_ADDRESS: '0:5' },
    'RATE_LIMIT_PER_ADDRESS: 0:5 is not valid, expected windows per second, or with a burst as 20:100, each at most 1000000',
  ],
  [
    { INFER_MODE: 'hailo' },
    'HEF_PATH: is not set, but INFER_MODE=hailo runs a compiled model. Set it to a HEF that the Hailo Dataflow Compiler has made, or MODEL_DIR to a folder of versions that have one, or try it without a device: npm run start:softhailo',
  ],
  [
    { USE_REAL_MODEL: 'True' },
    'HEF_PATH: is not set, but USE_REAL_MODEL=True runs a compiled model. Set it to a HEF that the Hailo Dataflow Compiler has made, or MODEL_DIR to a folder of versions that have one, or try it without a device: npm run start:softhailo',
  ],
  [
    { INFER_MODE: 'onnx', USE_REAL_MODEL: 'false' },
    'USE_REAL_MODEL: false means stub, but INFER_MODE is onnx. Unset USE_REAL_MODEL',
  ],
  [
    { INFER_MODE: 'stub', USE_REAL_MODEL: '1' },
    'USE_REAL_MODEL: 1 means hailo, but INFER_MODE is stub. Unset USE_REAL_MODEL',
  ],
])('loadConfig(%j) refuses: %s', (env, problem) => {
  expect(problemsOf(env)).toEqual([problem])
})

test('loadConfig() lists every wrong value and every contradiction at once', () => {
  const path = yamlFile('COLOUR: red\nWORKERS: none\n')
  expect(
    problemsOf({
      CONFIG_PATH: path,
      RING_SLOTS: '48',
      LOG_LEVEL: 'loud',
      USE_REAL_MODEL: 'true',
      INFER_MODE: 'stub',
    }),
  ).toEqual([
    `COLOUR: is not a key that ${path} can set`,
    'WORKERS: none is not valid, expected a whole number from 1 to 32',
    'RING_SLOTS: 48 is not valid, expected a power of two from 2 to 4096',
    'LOG_LEVEL: loud is not valid, expected one of trace debug info warn error fatal',
    'USE_REAL_MODEL: true means hailo, but INFER_MODE is stub. Unset USE_REAL_MODEL',
  ])
})

test('loadConfig() names the keys that are set without effect, and no others', () => {
  const never = { SESSIONS_DIR: '/sessions', TELEMETRY_SAMPLE: '1', TELEMETRY_MAX_MB: '1' }
  const onlyForHailo = {
    HEF_PATH: '/m.hef',
    HAILO_DEVICE_ID: '0000:01:00.0',
    HAILORT_LIB: '/usr/lib/libhailort.so',
    HAILO_IO: 'vstream',
    HAILO_SCHEDULER: 'none',
  }
  const unused = { ...never, ...onlyForHailo }
  expect(loadConfig({ ...unused, INFER_MODE: 'hailo', PORT: '1' }).unused).toEqual(Object.keys(never))
  expect(loadConfig({ ...unused, INFER_MODE: 'onnx', PORT: '1' }).unused).toEqual(Object.keys(unused))
})

test('loadConfig() returns a value that nobody can change', () => {
  const config = loadConfig({
    API_KEY: 'one',
    CORS_ORIGINS: '*',
    SESSIONS_DIR: '/s',
    TELEMETRY_DIR: '/t',
    HEF_PATH: 'm',
  })
  for (const part of [
    config,
    config.hailo,
    config.telemetry,
    config.apiKeys,
    config.corsOrigins,
    config.unused,
  ]) {
    expect(Object.isFrozen(part)).toBe(true)
  }
})

test('loadConfig() reads a YAML file below the environment, scalars as they are written', () => {
  const file = [
    'PORT: 8000',
    'FASTAPI_HOST: 0.0.0.0',
    'MODEL_VERSION: 1.10',
    `EXPECTED_SHA256: ${'1'.repeat(64)}`,
    'ENABLE_TEST_ENDPOINTS: false',
    'API_KEY: [one, two]',
    'CORS_ORIGINS: http://a, http://b',
    'LOG_LEVEL:',
    'HEF_PATH: ~',
  ]
  const env = { CONFIG_PATH: yamlFile(file.join('\n')), MODEL_VERSION: '' }
  expect(loadConfig(env)).toMatchObject({
    host: '0.0.0.0',
    port: 8000,
    modelVersion: '1.10',
    expectedSha256: '1'.repeat(64),
    testEndpoints: false,
    apiKeys: ['one', 'two'],
    corsOrigins: ['http://a', 'http://b'],
    logLevel: 'info',
    mode: 'onnx',
  })
  expect(loadConfig({ ...env, PORT: '1', API_KEY: 'three' })).toMatchObject({ port: 1, apiKeys: ['three'] })
})

test('loadConfig() lets any synonym in the environment win over all of them in the file', () => {
  const env = { CONFIG_PATH: yamlFile('SIDECAR_PORT: 1\nSIDECAR_HOST: a'), PORT: '2', FASTAPI_HOST: 'b' }
  expect(loadConfig(env)).toMatchObject({ port: 2, host: 'b' })
})

test.each([
  ['', []],
  ['COLOUR: red', ['COLOUR: is not a key that FILE can set']],
  ['CONFIG_PATH: other.yaml', ['CONFIG_PATH: is not a key that FILE can set']],
  ['PORT: [1, 2]', ['PORT: ["1","2"] is not valid, expected a whole number from 0 to 65535']],
  ['API_KEY: { secret: 1 }', ['API_KEY: the value is not valid, expected text separated by commas']],
  ['- PORT', ['CONFIG_PATH: FILE is not a mapping of keys to values']],
  ['API_KEY:secret', ['CONFIG_PATH: FILE is not a mapping of keys to values']],
  ['PORT: 1\nPORT: 2', ['CONFIG_PATH: FILE is not YAML: DUPLICATE_KEY in line 2']],
  ['API_KEY: "a" secret', ['CONFIG_PATH: FILE is not YAML: UNEXPECTED_TOKEN in line 1']],
  ['API_KEY: *secret', ['CONFIG_PATH: FILE cannot be read: an alias in it leads nowhere']],
])('loadConfig() of the YAML file %j finds %j', (content, problems) => {
  const path = yamlFile(content)
  expect(problemsOf({ CONFIG_PATH: path })).toEqual(problems.map(problem => problem.replace('FILE', path)))
})

test('loadConfig() refuses a YAML file that is not there', () => {
  expect(problemsOf({ CONFIG_PATH: '/no/such.yaml' })).toEqual([
    'CONFIG_PATH: /no/such.yaml cannot be read: ENOENT',
  ])
})

const V2 = '/sys/fs/cgroup/cpu.max'
const V1_QUOTA = '/sys/fs/cgroup/cpu/cpu.cfs_quota_us'
const V1_PERIOD = '/sys/fs/cgroup/cpu/cpu.cfs_period_us'
test.each([
  [1, 1, {}],
  [2, 1, {}],
  [4, 3, {}],
  [16, 4, {}],
  [16, 4, { [V2]: 'max 100000\n' }],
  [16, 1, { [V2]: '50000 100000\n' }],
  [16, 1, { [V2]: '200000 100000\n' }],
  [16, 2, { [V2]: '210000 100000\n' }],
  [2, 1, { [V2]: '800000 100000\n' }],
  [4, 3, { [V1_QUOTA]: '-1\n', [V1_PERIOD]: '100000\n' }],
  [16, 2, { [V1_QUOTA]: '300000\n', [V1_PERIOD]: '100000\n' }],
])('defaultWorkers() of %i CPUs is %i with the cgroup %j', (cpus, workers, files: Record<string, string>) => {
  expect(defaultWorkers(cpus, path => files[path])).toBe(workers)
})

test('docs/env.md lists every key and no other', () => {
  const documented = readFileSync('docs/env.md', 'utf8').match(/`[A-Z][A-Z0-9_]+`/g)!
  expect(new Set(documented.map(key => key.slice(1, -1)))).toEqual(new Set(CONFIG_KEYS))
})

/** What `loadConfig` finds wrong, empty when nothing. */
function problemsOf(env: Record<string, string>): string[] {
  try {
    loadConfig(env)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    expect(error.message).toBe(error.problems.join('\n'))
    return error.problems
  }
}

function yamlFile(content: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'config-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'config.yaml')
  writeFileSync(path, content)
  return path
}

test.each(['secret', 'a=secret,b', 'a=secret%', '=secret'])(
  'OTEL_EXPORTER_OTLP_HEADERS: %s is refused without a word of it',
  headers => {
    const OTEL_EXPORTER_OTLP_ENDPOINT = 'http://otel:4318'
    expect(() => loadConfig({ OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS: headers })).toThrow(
      /^OTEL_EXPORTER_OTLP_HEADERS: the value is not valid, expected name=value, … with percent-encoded values$/,
    )
  },
)
