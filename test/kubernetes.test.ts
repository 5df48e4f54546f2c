import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { CONFIG_KEYS, loadConfig } from '../src/config.ts'
import { LEVEL } from '../src/core/degradation.ts'
import { SHIPPED_MODEL_FOLDER, VERSION } from '../src/project.ts'
import { LONGEST_SHUTDOWN_MS } from '../src/shutdown.ts'
import {
  applicable,
  environmentOf,
  FOLDER,
  filesOf,
  kustomizationIn,
  mountPathsOf,
  prometheusRules,
  readYaml,
} from './kubernetes-manifests.ts'
import { metric, startServerForTest, until } from './load.ts'
import { selectorsOf } from './promql.ts'
import { HAS_PROMTOOL } from './promtool.ts'
import { startServer, type TestServer } from './server.ts'

const POD = readYaml(`${FOLDER}/base/deployment.yaml`).spec.template.spec
const [CONTAINER] = POD.containers
const [RUNTIME_CONTAINER] = readYaml(`${FOLDER}/kserve/serving-runtime.yaml`).spec.containers
const RUNTIME_ENV: Record<string, string> = Object.fromEntries(
  RUNTIME_CONTAINER.env.map(({ name, value }: { name: string; value: string }) => [name, value]),
)
const AUTOSCALING = `${FOLDER}/components/autoscaling`
const ADAPTER_VALUES = `${AUTOSCALING}/prometheus-adapter.values.yaml`

/** 0.9 of them lead to the level REJECT. */
const MAX_CONNECTIONS = 400
const CROWD = 365
/** More than the few of other hosts that are let in each second, and fewer than there is room for. */
const NEWCOMERS = 30

test('every file that a kustomization names exists, and every manifest is named by one', () => {
  const kustomizations = filesOf().filter(file => file.endsWith('/kustomization.yaml'))
  const named = kustomizations.flatMap(file => {
    const {
      resources = [],
      components = [],
      patches = [],
      configMapGenerator = [],
    } = kustomizationIn(dirname(file))
    const envs = configMapGenerator.flatMap(({ envs = [] }) => envs)
    return [...resources, ...components, ...patches.map(({ path }) => path), ...envs].map(path =>
      join(dirname(file), path),
    )
  })
  expect(kustomizations.length).toBeGreaterThan(5)
  expect(named.filter(path => !existsSync(path))).toEqual([])
  const manifests = filesOf().filter(file => /\.(yaml|env)$/.test(file) && file !== ADAPTER_VALUES)
  expect(manifests.filter(file => !named.includes(file) && !kustomizations.includes(file))).toEqual([])
})

test('what the README applies is there, and its images have the version of this package', () => {
  const readme = readFileSync(`${FOLDER}/README.md`, 'utf8')
  const applied = [...readme.matchAll(/apply -k (\S+)/g)].map(([, folder]) => folder!)
  expect(applied.length).toBeGreaterThan(3)
  expect(applied.filter(folder => !applicable().includes(folder))).toEqual([])
  const tags = [...readme.matchAll(/\bhailo-inference:(\d+\.[\w.-]*\w)/g)].map(([, tag]) => tag!)
  expect(new Set(tags)).toEqual(new Set([VERSION, `${VERSION}-device`]))
})

test('images have the version of this package, and those of others a digest', () => {
  const tags = filesOf()
    .filter(file => file.endsWith('/kustomization.yaml'))
    .flatMap(file => kustomizationIn(dirname(file)).images ?? [])
  expect(new Set(tags.map(({ name, newTag }) => `${name}:${newTag}`))).toEqual(
    new Set([`hailo-inference:${VERSION}`, `hailo-inference:${VERSION}-device`]),
  )
  const images = filesOf()
    .filter(file => file.endsWith('.yaml'))
    .flatMap(file => [...readFileSync(file, 'utf8').matchAll(/^[ -]*image: (\S+)/gm)])
  const foreign = images.map(([, image]) => image!).filter(image => image !== 'hailo-inference')
  expect(foreign.length).toBeGreaterThan(0)
  expect(foreign.filter(image => !/:[\w.]+@sha256:[0-9a-f]{64}$/.test(image))).toEqual([])
})

test.each([...overlays(), ['kserve', RUNTIME_ENV]] as const)(
  'the engine takes all that %s sets',
  (_, env) => {
    expect(Object.keys(env).filter(key => !CONFIG_KEYS.includes(key))).toEqual([])
    const config = loadConfig(env)
    const { INFER_MODE } = env
    expect(config.mode).toBe(INFER_MODE)
    expect(config.unused).toEqual([])
    expect(config.host).toBe('0.0.0.0')
    for (const { ports } of [CONTAINER, RUNTIME_CONTAINER]) {
      expect(ports.map((port: { containerPort: number }) => port.containerPort)).toEqual([config.port])
    }
  },
)

test.each([
  ['a pod', CONTAINER],
  ['a pod of KServe', RUNTIME_CONTAINER],
])('%s has a volume for all that the engine writes', (_, { volumeMounts }) => {
  for (const env of [environmentOf(`${FOLDER}/base`), RUNTIME_ENV]) {
    expect(volumeMounts).toContainEqual({ name: 'state', mountPath: loadConfig(env).stateFolder })
  }
})

test.each(overlays())('all that %s names by a path lies on a volume', (folder, env) => {
  const mounts = mountPathsOf(folder)
  const paths = Object.values(env).filter(value => value.startsWith('/'))
  expect(paths.length).toBeGreaterThan(0)
  expect(paths.filter(path => !mounts.some(mount => `${path}/`.startsWith(`${mount}/`)))).toEqual([])
})

test('pods get as much memory as containers of compose', () => {
  const engine: { mem_limit: string } = readYaml('compose/compose.yaml')['x-engine']
  for (const { resources } of [CONTAINER, RUNTIME_CONTAINER]) {
    expect(resources.limits.memory.replace('Mi', 'm')).toBe(engine.mem_limit)
  }
})

test('the README makes a PrometheusRule of each file of rules', () => {
  expect(prometheusRules()).toEqual(
    ['recording', 'alerts'].map(rules => ({
      apiVersion: 'monitoring.coreos.com/v1',
      kind: 'PrometheusRule',
      metadata: { name: `hailo-inference-${rules}` },
      spec: readYaml(`compose/prometheus/rules/${rules}.yml`),
    })),
  )
})

test('a pod may take its time for leaving the Service, and for the longest shutdown behind that', () => {
  const leavingMs = CONTAINER.lifecycle.preStop.sleep.seconds * 1000
  expect(leavingMs).toBeGreaterThan(0)
  expect(POD.terminationGracePeriodSeconds * 1000).toBeGreaterThan(leavingMs + LONGEST_SHUTDOWN_MS)
  const [{ path, value }] = readYaml(`${FOLDER}/kserve-standard/serving-runtime.yaml`)
  expect([path, value]).toEqual(['/spec/containers/0/lifecycle', CONTAINER.lifecycle])
})

test.skipIf(!HAS_PROMTOOL)('what the adapter asks is PromQL once its gaps are filled', () => {
  const rules: { metricsQuery: string }[] = readYaml(ADAPTER_VALUES).rules.custom
  const gaps: Record<string, string> = { GroupBy: 'pod', Series: 'hailo_x', LabelMatchers: 'namespace="a"' }
  const queries = rules.map(({ metricsQuery }) =>
    metricsQuery.replaceAll(/<<\.(\w+)>>/g, (_, gap) => gaps[gap]!),
  )
  const folder = mkdtempSync(join(tmpdir(), 'adapter-'))
  try {
    const file = join(folder, 'rules.json') // which is YAML too
    const recorded = queries.map((expr, index) => ({ record: `query_${index}`, expr }))
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'adapter', rules: recorded }] }))
    const { stdout, stderr } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' })
    expect(`${stdout}${stderr}`).toContain(`SUCCESS: ${queries.length} rules found`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

describe('a server with the environment of the overlay stub', () => {
  let server: TestServer
  let metrics: string
  beforeAll(async () => {
    const { SIDECAR_HOST, SIDECAR_PORT, STATE_DIR, ...env } = environmentOf(`${FOLDER}/overlays/stub`)
    server = await startServer({
      ...env,
      MAX_CONNECTIONS: String(MAX_CONNECTIONS),
      ALLOW_MODEL_UNLOAD: 'true',
    })
    metrics = await (await fetch(`${server.url}/metrics`)).text()
  })
  afterAll(() => server?.stop('SIGKILL'))

  test.each([
    ['pods', CONTAINER],
    ['pods of KServe', RUNTIME_CONTAINER],
  ])('answers the probes of %s', async (_, container) => {
    expect(await failedProbes(container, server)).toEqual([])
  })

  test('is scraped where monitors look', async () => {
    const [endpoint] = readYaml(`${FOLDER}/components/monitoring/pod-monitor.yaml`).spec.podMetricsEndpoints
    const annotations = readYaml(`${FOLDER}/kserve/serving-runtime.yaml`).spec.annotations
    for (const path of [endpoint.path, annotations['prometheus.kserve.io/path']]) {
      const answer = await fetch(`${server.url}${path}`)
      expect(answer.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
    }
  })

  test('has every metric that the adapter reads, and the autoscaler asks the adapter for no other', () => {
    const rules: { seriesQuery: string }[] = readYaml(ADAPTER_VALUES).rules.custom
    const offered = rules.flatMap(({ seriesQuery }) => selectorsOf(seriesQuery).map(({ name }) => name))
    const asked = readYaml(`${AUTOSCALING}/horizontal-pod-autoscaler.yaml`).spec.metrics.map(
      ({ pods }: { pods: { metric: { name: string } } }) => pods.metric.name,
    )
    expect(offered.filter(name => !new RegExp(`^${name}(\\{| )`, 'm').test(metrics))).toEqual([])
    expect(asked.length).toBeGreaterThan(0)
    expect(offered).toEqual(asked)
  })

  test('answers probes under a flood of connections too, when other hosts are not let in', async () => {
    const idle = (count: number, localAddress: string) => {
      for (let n = 0; n < count; n++) {
        const socket = connect({ port: server.port, host: '127.0.0.1', localAddress }).on('error', () => {})
        onTestFinished(() => void socket.destroy())
      }
    }
    idle(CROWD, '127.0.0.1')
    await until(async () => (await metric(server.port, 'hailo_backpressure_level')) === LEVEL.reject)
    idle(NEWCOMERS, '127.0.0.2')
    const refused = () => metric(server.port, 'hailo_connections_refused_total', 'reason="level"')
    await until(async () => (await refused()) > 0)
    expect(await failedProbes(CONTAINER, server)).toEqual([])
    expect(await metric(server.port, 'hailo_backpressure_level')).toBe(LEVEL.reject)
  })

  test('is alive without its model, but not ready, and says so', async () => {
    await fetch(`${server.url}/v2/repository/models/tcn_encoder/unload`, { method: 'POST' })
    expect(await failedProbes(RUNTIME_CONTAINER, server)).toEqual([
      expect.stringMatching(/^readinessProbe: .*"reasons":\[.*"unloaded"/),
    ])
  })
})

test('probes speak TLS where the engine does', async () => {
  const tls = { TLS_CERT: 'test/fixtures/tls/old.pem', TLS_KEY: 'test/fixtures/tls/old.key' }
  const server = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1', ...tls })
  expect(await failedProbes(CONTAINER, server, tls)).toEqual([])
})

describe('a server with the environment of the ServingRuntime, and /mnt as KServe fills it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kserve-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  // From an object store or a volume it is a folder, from an image of a model ("modelcar") a link.
  test.concurrent.each(['folder', 'link'])('serves the model that lies in /mnt/models, a %s', async kind => {
    const { MODEL_DIR, SIDECAR_HOST, SIDECAR_PORT, STATE_DIR, ...env } = RUNTIME_ENV
    const root = join(folder, kind)
    mkdirSync(join(root, 'mnt'), { recursive: true })
    const models = join(root, 'mnt/models')
    if (kind === 'folder') cpSync(SHIPPED_MODEL_FOLDER, models, { recursive: true })
    else symlinkSync(SHIPPED_MODEL_FOLDER, models)
    const server = await startServer({ ...env, MODEL_DIR: join(root, MODEL_DIR!) })
    try {
      const answer = await fetch(`${server.url}/v2/models/tcn_encoder/infer`, {
        method: 'POST',
        body: JSON.stringify({
          inputs: [{ name: 'imu_window', datatype: 'FP32', shape: [1, 100, 9], data: Array(900).fill(1) }],
        }),
      })
      expect(answer.status).toBe(200)
      expect(answer.headers.get('x-inference-backend')).toBe('onnx')
    } finally {
      await server.stop('SIGKILL')
    }
  })
})

function overlays(): [name: string, env: Record<string, string>][] {
  return applicable()
    .filter(folder => folder.includes('/overlays/'))
    .map(folder => [folder, environmentOf(folder)])
}

/** Runs the probes of a container as kubelet does, but on the server's port. @returns those that fail, and what they say */
async function failedProbes(
  // biome-ignore lint/suspicious/noExplicitAny: it is whatever the manifest has; a wrong path fails the test
  container: any,
  { port }: TestServer,
  env: Record<string, string> = {},
): Promise<string[]> {
  const { PATH = '' } = process.env
  const kinds = ['startupProbe', 'readinessProbe', 'livenessProbe'].filter(kind => kind in container)
  expect(kinds.length).toBeGreaterThan(1)
  const failed: string[] = []
  for (const kind of kinds) {
    const command: string[] = container[kind].exec.command
    const [file, ...args] = command.map(word =>
      word.replace(`:${container.ports[0].containerPort}/`, `:${port}/`),
    )
    expect([file, ...args]).not.toEqual(command)
    const child = execFile(file!, args, { env: { PATH, ...env } })
    let said = ''
    child.stdout!.on('data', text => (said += text))
    const [code] = await once(child, 'close')
    if (code !== 0) failed.push(`${kind}: ${said}`)
  }
  return failed
}
