import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { loadConfig } from '../src/config.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { addressesOf, interpolate, listeners, mountsOf, servicesOf } from './compose-stack.ts'
import { ask } from './http-client.ts'
import { rulesOf } from './prometheus.ts'
import { startServer, type TestServer } from './server.ts'

const FOLDER = join(PROJECT_FOLDER, 'compose')
const FILE = join(FOLDER, 'compose.yaml')
const OVERRIDE = join(FOLDER, 'edgeinfer.override.yaml')
/** The services of an engine, and what answers there. */
const ENGINES = [
  ['hailo-device', 'hailo-inference', 'hailo'],
  ['onnx', 'hailo-inference-onnx', 'onnx'],
  ['hailo-stub', 'hailo-inference-stub', 'stub'],
] as const
const { version } = JSON.parse(readFileSync(join(PROJECT_FOLDER, 'package.json'), 'utf8'))

/** Of an engine that takes several. */
const KEYS = 'first,second'

interface Build {
  readonly context: string
  readonly dockerfile: string
}

interface Reply {
  status: number
  headers: Record<string, string>
  body: Buffer
}

/** What a wrong server does to the answers of a right one. */
interface Fault {
  readonly route: string
  readonly spoil: (
    reply: Reply,
    request: { readonly headers: Readonly<Record<string, string>>; body: Buffer },
  ) => void
  /** What smoke.sh says of it. */
  readonly words: readonly string[]
}

const withText =
  (from: string, to: string): Fault['spoil'] =>
  reply => {
    reply.body = Buffer.from(String(reply.body).replace(from, to))
  }
const withHeader =
  (name: string, value: string): Fault['spoil'] =>
  ({ headers }) => {
    headers[name] = value
  }
const withStatus =
  (status: number): Fault['spoil'] =>
  reply => {
    reply.status = status
  }

/** Each breaks one thing. What has nothing to do with another stands beside it, in the order of the checks. */
const FAULTS: [string, Fault[]][] = [
  [
    'health, binary, heads, methods',
    [
      {
        route: 'GET /readyz',
        spoil: withText('true', 'false'),
        words: ['GET /readyz: says {"ready":false,"reasons":[]}'],
      },
      {
        route: 'GET /healthz',
        spoil: withText('"latent_dims":64', '"latent_dims":32'),
        words: ['GET /healthz: does not say "latent_dims":64'],
      },
      {
        route: 'HEAD /healthz',
        spoil: withStatus(503),
        words: ['HEAD /healthz: status 503, expected 200'],
      },
      {
        route: 'POST /infer',
        spoil: (reply, { headers: { accept }, body }) => {
          if (accept === 'application/octet-stream' && body.length === 3600) {
            reply.body.writeFloatLE(9, 0) // the first latent
          }
        },
        words: [
          expect.stringMatching(/^POST \/infer, binary: latent cosine 0\.\d+, expected 0\.9999 at least$/),
        ],
      },
      {
        route: 'POST /infer',
        spoil: ({ headers }) => {
          if (headers['x-correlation-id'] !== undefined) headers['x-request-id'] = 'another'
          headers['x-config-version'] = ''
        },
        words: ["heads of an answer: X-Request-ID is 'another', sent was smoke-1; has no X-Config-Version"],
      },
      {
        route: 'GET /infer',
        spoil: withHeader('allow', 'GET'),
        words: ["GET /infer: Allow is 'GET'"],
      },
      {
        route: 'POST /test',
        spoil: withText('[64]', '[63]'),
        words: ['POST /test: does not say "latent_shape":[64]'],
      },
      {
        route: 'GET /metrics',
        spoil: withText('# EOF\n', ''),
        words: ['GET /metrics, OpenMetrics: does not end with # EOF'],
      },
      {
        route: 'GET /v2/health/ready',
        spoil: withStatus(503),
        words: ['/v2: GET /v2/health/ready has status 503'],
      },
    ],
  ],
  [
    'the model, bulk, aliases, errors, names',
    [
      {
        route: 'GET /healthz',
        spoil: withText('"warm":', '"hot":'),
        words: ['GET /healthz: has no warm'],
      },
      {
        route: 'POST /infer',
        spoil: withHeader('x-model-sha256', '0123456789ab'),
        words: [expect.stringMatching(/^which model: 0123456789ab is no file of /)],
      },
      {
        route: 'POST /infer',
        spoil: (reply, { body }) => {
          if (body.length === 7200) reply.body = reply.body.subarray(0, 304)
        },
        words: ['POST /infer, two windows: 0 numbers, expected 64 and 12'],
      },
      {
        route: 'POST /infer/infer',
        spoil: withStatus(404),
        words: ['POST /infer/infer and POST /: POST /infer/infer has status 404'],
      },
      {
        route: 'POST /infer',
        spoil: reply => {
          if (reply.status === 400) reply.body = Buffer.from('{"error":"bad","detail":"[[0.125,0.25]]"}')
        },
        words: [
          'a wrong shape: error is not invalid_window; has no model_available; has no request_id; repeats what was sent',
        ],
      },
      {
        route: 'GET /infer',
        spoil: withStatus(404),
        words: ['GET /infer: status 404, expected 405'],
      },
      {
        route: 'POST /encode',
        spoil: withText('"accuracy"', '"acc"'),
        words: ['POST /encode: has no accuracy'],
      },
      {
        route: 'GET /metrics',
        spoil: withText('# TYPE hailo_model_info ', '# TYPE hailo_model '),
        words: ['GET /metrics: has no hailo_model_info'],
      },
      {
        route: 'GET /v2',
        spoil: withText('"extensions"', '"more"'),
        words: ['/v2: GET /v2 has no extensions'],
      },
    ],
  ],
  [
    'another model behind the same name',
    [
      {
        route: 'POST /infer',
        spoil: reply => {
          if (reply.status !== 200) return
          if (reply.headers['content-type'] === 'application/octet-stream') {
            const result = new Float32Array(Uint8Array.from(reply.body).buffer)
            for (let at = 0; at < result.length; at += 76) result.subarray(at + 64, at + 76).reverse()
            reply.body = Buffer.from(result.buffer)
          } else {
            const { latent, motif_scores } = JSON.parse(String(reply.body))
            reply.body = Buffer.from(JSON.stringify({ latent, motif_scores: motif_scores.reverse() }))
          }
        },
        words: [
          'POST /infer, JSON: best motif 11, expected 0',
          'POST /infer, binary: best motif 11, expected 0',
          'POST /infer/infer and POST /: POST /infer/infer does not answer as POST /infer; POST / does not answer as POST /infer',
        ],
      },
    ],
  ],
]

const RULE_NAMES = ['alerts', 'recording']
  .flatMap(name => rulesOf(join(FOLDER, 'prometheus', 'rules', `${name}.yml`)).map(({ name }) => name))
  .sort()

/** A folder with the locale de_DE.UTF-8; null where none can be made. */
const DECIMAL_COMMA = makeLocale()

describe.each(ENGINES)('profile %s', (profile, name, mode) => {
  const services = servicesOf(FILE, [profile])
  const engine = services[name]!

  test('starts one engine, which answers as hailo-inference on its port', () => {
    expect(Object.keys(services)).toEqual([name])
    const { port } = loadConfig({})
    expect(listeners(services).get('hailo-inference')).toEqual([{ service: name, ports: [port] }])
    expect(engine).toMatchObject({
      expose: [String(port)],
      ports: [`127.0.0.1:${port}:${port}`],
      healthcheck: {
        test: ['CMD-SHELL', expect.stringMatching(`^curl -fsS http://localhost:${port}/healthz `)],
      },
    })
  })

  test('may do nothing but what it must, and not for ever', () => {
    expect(engine).toMatchObject({
      image: `hailo-inference:${version}${mode === 'hailo' ? '-device' : ''}`,
      user: '1000:1000',
      init: true,
      read_only: true,
      cap_drop: ['ALL'],
      security_opt: ['no-new-privileges:true'],
      stop_grace_period: '30s',
      cpus: mode === 'stub' ? 1 : 2,
      restart: 'unless-stopped', // an engine that drained comes back with the machine, as EdgeInfer does
      logging: { driver: 'json-file', options: { 'max-size': '10m', 'max-file': '3' } },
    })
    const [, mib] = /^(\d+)m$/.exec((engine as { mem_limit?: string }).mem_limit!)!
    expect(Number(mib) * 2 ** 20).toBeLessThan(512e6)
    const growth = readFileSync(join(FOLDER, 'prometheus', 'rules', 'alerts.yml'), 'utf8')
    const [, alertMib] = /predict_linear\(process_resident_memory_bytes.* > (\d+) \* 1024 \* 1024$/m.exec(
      growth,
    )!
    expect(Number(alertMib)).toBeLessThan(Number(mib))
  })

  test('is configured as the profile says, whatever .env or the file of CONFIG_PATH says for others', () => {
    const elsewhere = { USE_REAL_MODEL: String(mode === 'stub'), SIDECAR_HOST: '::1', SIDECAR_PORT: '9123' }
    const device = { HEF_PATH: '/models/model.hef', ...(mode === 'hailo' ? {} : { FALLBACK: 'cpu' }) }
    const own = Object.entries(engine.environment!).map(([key, value]) => [key, String(value)])
    const folder = mkdtempSync(join(tmpdir(), 'compose-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'config.yaml')
    writeFileSync(file, JSON.stringify({ ...elsewhere, ...device })) // JSON is YAML
    for (const others of [{ ...elsewhere, ...device }, { CONFIG_PATH: file }]) {
      expect(loadConfig({ ...others, ...Object.fromEntries(own) })).toMatchObject({
        mode,
        fallback: null,
        host: '0.0.0.0',
        port: loadConfig({}).port,
      })
    }
  })

  test('reads models, and keeps its state on a volume', () => {
    const { STATE_DIR } = engine.environment!
    expect(mountsOf(services, FOLDER)).toContainEqual({
      service: name,
      source: join(FOLDER, 'models'),
      target: '/models',
      writable: false,
    })
    expect(engine.volumes).toContain('state:/var/lib/hailo-inference')
    expect(STATE_DIR).toBe('/var/lib/hailo-inference')
  })
})

test('the device and the library of HailoRT come from this machine with profile hailo-device alone', () => {
  const [device, onnx] = ENGINES.map(([profile, name]) => servicesOf(FILE, [profile])[name]!)
  expect(device).toMatchObject({
    devices: ['/dev/hailo0:/dev/hailo0'],
    group_add: ['1000'],
    volumes: expect.arrayContaining([
      expect.objectContaining({ source: '/usr/lib/libhailort.so', read_only: true }),
    ]),
  })
  expect(onnx).not.toHaveProperty('devices')
})

test.each(ENGINES)(
  'every file that profile %s, monitoring and EdgeInfer mount is there, to be read',
  profile => {
    const mounts = mountsOf(servicesOf(FILE, [profile, 'monitoring']), FOLDER)
    const ofProject = mounts.filter(({ source }) => source.startsWith(PROJECT_FOLDER))
    expect(ofProject.length).toBeGreaterThan(7)
    expect(ofProject.filter(({ source }) => !existsSync(source))).toEqual([])
    expect(mounts.filter(({ writable }) => writable)).toEqual([])
  },
)

test.each(ENGINES)(
  'every address that a file names with profile %s is that of one service',
  (profile, engine) => {
    const services = { ...servicesOf(FILE, [profile, 'monitoring']), ...servicesOf(OVERRIDE, []) }
    const known = listeners(services)
    const mounts = mountsOf(services, FOLDER).filter(({ source }) => source.startsWith(FOLDER))
    const addresses = addressesOf(services, mounts)
    expect(new Set(addresses.map(({ service, host, port }) => `${service} → ${host}:${port}`))).toEqual(
      new Set([
        'prometheus → hailo-inference:9000',
        'prometheus → prometheus:9090',
        'prometheus → alertmanager:9093',
        'grafana → prometheus:9090',
        'edge-infer → hailo-inference:9000',
      ]),
    )
    for (const { host, port } of addresses) expect(known.get(host), host).toMatchObject([{ ports: [port] }])
    expect(known.get('hailo-inference')).toMatchObject([{ service: engine }])
  },
)

test('every image has a version', () => {
  const all = {
    ...servicesOf(FILE, [...ENGINES.map(([profile]) => profile), 'monitoring']),
    ...servicesOf(OVERRIDE, []),
  }
  const images = Object.values(all).map(({ image }) => image)
  expect(images.length).toBe(7)
  expect(images.filter(image => !/:v?\d+\.\d+\.\d+(-device)?$/.test(image))).toEqual([])
})

test('what is built here has its Dockerfile', () => {
  for (const [profile, name] of ENGINES.slice(1)) {
    const { context, dockerfile } = (servicesOf(FILE, [profile])[name] as unknown as { build: Build }).build
    expect(existsSync(join(FOLDER, context, dockerfile))).toBe(true)
  }
})

test('variables choose image, address and models', () => {
  const chosen = interpolate(readFileSync(FILE, 'utf8'), {
    REGISTRY: 'registry.example/me',
    VERSION: '1.2.3',
    DEVICE_VARIANT: '',
    SIDECAR_HOST: '10.0.0.1',
    MODELS_PATH: '/srv/models',
  })
  expect(chosen.match(/image: .*hailo-inference.*/g)).toEqual(
    Array(2).fill('image: registry.example/me/hailo-inference:1.2.3'),
  )
  expect(chosen).toContain('- 10.0.0.1:9000:9000')
  expect(chosen).toContain('/srv/models:/models:ro')
})

describe('smoke.sh', () => {
  let servers: { onnx: TestServer; stub: TestServer }
  beforeAll(async () => {
    const [onnx, stub] = await Promise.all([
      startServer({ INFER_MODE: 'onnx', WORKERS: '1' }),
      startServer({ INFER_MODE: 'stub', WORKERS: '1', API_KEY: KEYS, ENABLE_TEST_ENDPOINTS: 'false' }),
    ])
    servers = { onnx: onnx!, stub: stub! }
  })
  afterAll(async () => {
    if (DECIMAL_COMMA !== null) rmSync(DECIMAL_COMMA, { recursive: true })
    await Promise.all(Object.values(servers).map(server => server.stop()))
  })

  test('finds nothing wrong with an engine, and says what answers', async () => {
    const [onnx, stub] = await Promise.all([
      smoke([servers.onnx.url, '--expect', 'onnx']),
      smoke([servers.stub.url, '--expect', 'stub'], { API_KEY: KEYS }),
    ])
    expect(onnx).toMatchObject({ code: 0, failed: [] })
    expect(onnx.output).toMatch(/^ok {4}who answers: onnx$/m)
    expect(stub).toMatchObject({ code: 0, failed: [] })
    expect(stub.output).toMatch(/^ok {4}POST \/test: off/m)
    expect(stub.output).toMatch(/^ok {4}without the key$/m)
  })

  test.skipIf(DECIMAL_COMMA === null)('reads numbers where people write them with a comma', async () => {
    const env = { LOCPATH: DECIMAL_COMMA!, LC_ALL: 'de_DE.UTF-8' }
    expect(await smoke([servers.onnx.url], env)).toMatchObject({ code: 0, failed: [] })
  })

  test('finds another backend than the one expected, and one that answers without a key', async () => {
    expect(await smoke([servers.onnx.url, '--expect', 'hailo'], { API_KEY: KEYS })).toMatchObject({
      code: 1,
      failed: [
        'who answers: onnx answers, expected hailo',
        'without the key: status 200 without a key, expected 401',
      ],
    })
  })

  test.each(FAULTS)('finds what an engine does wrong, and nothing else: %s', async (_, faults) => {
    const wrong = await startWrongServer(servers.onnx, faults)
    const { code, failed } = await smoke([wrong])
    expect(failed).toEqual(faults.flatMap(({ words }) => words))
    expect(code).toBe(1)
  })

  test('waits as long as it is told to, and asks Prometheus and EdgeInfer too', async () => {
    let asked = 0
    const notYet: Fault['spoil'] = reply => {
      asked++
      if (asked < 3) reply.status = 503
    }
    const late = await startWrongServer(servers.onnx, [{ route: 'GET /readyz', spoil: notYet, words: [] }])
    const beside = await startStackAround({ up: '1', rules: RULE_NAMES, sees: 'healthy' })
    const answer = await smoke([late, '--wait', '30', '--prometheus', beside, '--edgeinfer', beside])
    expect(answer).toMatchObject({ code: 0, failed: [] })
    expect(asked).toBe(3)
    expect(answer.output).toMatch(/^ok {4}EdgeInfer sees it$/m)
  })

  test('finds a Prometheus that does not scrape and lacks a rule, and an EdgeInfer that sees nobody', async () => {
    const beside = await startStackAround({ up: '0', rules: RULE_NAMES.slice(1), sees: 'degraded' })
    const { code, failed } = await smoke([servers.onnx.url, '--prometheus', beside, '--edgeinfer', beside])
    expect(failed).toEqual([
      'Prometheus scrapes it: a target of job hailo-inference is down',
      `Prometheus has the rules: has no rule ${RULE_NAMES[0]}`,
      'EdgeInfer sees it: says that hailo_backend is not healthy',
    ])
    expect(code).toBe(1)
  })

  test('says what it does not understand, and that nobody answers', async () => {
    expect(await smoke(['--expect', 'gpu'])).toMatchObject({
      code: 2,
      output: expect.stringContaining('not gpu'),
    })
    expect(await smoke(['--modle', '/x'])).toMatchObject({
      code: 2,
      output: expect.stringContaining('--modle'),
    })
    for (const wait of ['soon', '0.5', '08', '']) {
      expect(await smoke(['--wait', wait])).toMatchObject({
        code: 2,
        output: `--wait takes seconds, not ${wait}\n`,
      })
    }
    expect(await smoke(['--model', '/x'])).toMatchObject({
      code: 2,
      output: expect.stringContaining('/x/model.json'),
    })
    expect(await smoke(['http://127.0.0.1:1'])).toMatchObject({
      code: 1,
      failed: [expect.stringMatching(/^GET \/readyz: status no answer/)],
    })
  })
})

/** @returns what it printed of both kinds, and the failed checks in their own words */
async function smoke(args: readonly string[], env: Record<string, string> = {}) {
  const { PATH = '' } = process.env
  return new Promise<{ code: number; output: string; failed: string[] }>(resolve => {
    execFile(join(FOLDER, 'smoke.sh'), args, { env: { PATH, ...env } }, (error, stdout, stderr) => {
      const failed = [...stdout.matchAll(/^FAIL {2}(.*)$/gm)].map(([, words]) => words!)
      resolve({
        code: error === null ? 0 : (error.code as unknown as number),
        output: stdout + stderr,
        failed,
      })
    })
  })
}

function makeLocale(): string | null {
  const folder = mkdtempSync(join(tmpdir(), 'locale-'))
  const args = ['--no-archive', '-i', 'de_DE', '-f', 'UTF-8', join(folder, 'de_DE.UTF-8')]
  if (spawnSync('localedef', args).status === 0) return folder
  rmSync(folder, { recursive: true })
  return null
}

/** Answers as the right server does, but for the faults. */
function startWrongServer(right: TestServer, faults: readonly Fault[]): Promise<string> {
  return listen(async (request, response) => {
    const route = `${request.method} ${request.url}`
    const headers = request.headers as Record<string, string>
    const body = await buffer(request)
    const answer = await ask(right, route, { headers, body })
    const reply = {
      status: answer.status,
      headers: answer.headers as Record<string, string>,
      body: answer.body,
    }
    for (const fault of faults) if (fault.route === route) fault.spoil(reply, { headers, body })
    reply.headers['content-length'] = String(reply.body.length)
    response.writeHead(reply.status, reply.headers).end(reply.body)
  })
}

/** What smoke.sh asks Prometheus and EdgeInfer, in one. */
function startStackAround({ up, rules, sees }: { up: string; rules: readonly string[]; sees: string }) {
  const healthy = { status: 'healthy' }
  const answers: Record<string, object> = {
    '/api/v1/query': { status: 'success', data: { result: [{ metric: {}, value: [1, up] }] } },
    '/api/v1/rules': { status: 'success', data: { groups: [{ rules: rules.map(name => ({ name })) }] } },
    '/healthz': { ...healthy, checks: { hailo_backend: { status: sees }, inference_capability: healthy } },
  }
  return listen(async (request, response) => {
    const { pathname } = new URL(request.url!, 'http://localhost')
    response.end(JSON.stringify(answers[pathname]))
  })
}

/** For the length of the test. @returns its URL */
async function listen(answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>) {
  const server = createServer((request, response) => void answer(request, response)).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
