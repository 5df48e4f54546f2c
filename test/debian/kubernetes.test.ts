import { execFile, execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { applicable, FOLDER, prometheusRules } from '../kubernetes-manifests.ts'
import { DebianRoot } from './root.ts'

/**
 * Types made of the schemas that Kubernetes and Prometheus' operator publish. An object literal of such a type may have
 * no field that the schema does not have, as with kubectl's strict validation. Those of KServe are not published so: its
 * types, in test/fixtures/kubernetes, are a transcript of what its CRDs say, by hand, and as good as that.
 */
const SCHEMAS = ['kubernetes-models@5.1.0', '@kubernetes-models/prometheus-operator@6.0.0']

// biome-ignore lint/suspicious/noExplicitAny: it is whatever was made of the manifests; a wrong path fails the test
type KubernetesObject = any

const OVERLAYS = `${FOLDER}/overlays`
const SELECTOR_OWNERS = ['Deployment', 'NetworkPolicy', 'PodDisruptionBudget', 'PodMonitor', 'Service']

/** What `kubectl apply -k` would send, by folder. */
const made = new Map<string, readonly KubernetesObject[]>()
const schemas = mkdtempSync(join(tmpdir(), 'kubernetes-schemas-'))

beforeAll(async () => {
  const root = await DebianRoot.create('trixie')
  try {
    await Promise.all([root.install(['kubectl']), installSchemas()])
    cpSync(FOLDER, root.path(`root/${FOLDER}`), { recursive: true })
    for (const folder of applicable()) {
      const output = await root.run(['kubectl', 'kustomize', folder], { offline: true })
      made.set(
        folder,
        parseAllDocuments(output).map(document => document.toJS()),
      )
    }
  } finally {
    root.close()
  }
})
afterAll(() => rmSync(schemas, { recursive: true, force: true }))

test('every object that kubectl makes of the manifests is as the published schemas want it', async () => {
  const objects: KubernetesObject[] = [...made.values(), prometheusRules()].flat()
  // The packages have types of versions that clusters serve no more.
  const kinds = objects.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`)
  expect([...new Set(kinds)].toSorted()).toEqual([
    'apps/v1 DaemonSet',
    'apps/v1 Deployment',
    'autoscaling/v2 HorizontalPodAutoscaler',
    'monitoring.coreos.com/v1 PodMonitor',
    'monitoring.coreos.com/v1 PrometheusRule',
    'networking.k8s.io/v1 NetworkPolicy',
    'policy/v1 PodDisruptionBudget',
    'serving.kserve.io/v1alpha1 ServingRuntime',
    'serving.kserve.io/v1beta1 InferenceService',
    'v1 ConfigMap',
    'v1 Service',
    'v1 ServiceAccount',
  ])
  expect(await refusalsOf(objects)).toEqual([])
})

const MISTAKES: readonly [
  what: string,
  folder: string,
  kind: string,
  mistake: (object: KubernetesObject) => void,
][] = [
  ['a wrong apiVersion', 'overlays/fleet', 'HorizontalPodAutoscaler', o => (o.apiVersion = 'autoscaling/v3')],
  ['a misspelt kind', 'overlays/onnx', 'Service', o => (o.kind = 'Servise')],
  [
    'a misspelt field',
    'overlays/onnx',
    'Deployment',
    o => (o.spec.template.spec.containers[0].livenesProbe = {}),
  ],
  [
    'a wrong type',
    'overlays/onnx',
    'Deployment',
    o => (o.spec.template.spec.terminationGracePeriodSeconds = '30'),
  ],
  ['a wrong word', 'overlays/hailo', 'Deployment', o => (o.spec.strategy.type = 'Replace')],
  ['a missing field', 'overlays/stub', 'Deployment', o => delete o.spec.selector],
  ['a field of another kind', 'overlays/stub', 'NetworkPolicy', o => (o.spec.ingress[0].to = [])],
  ['a number as a label', 'device-plugin', 'DaemonSet', o => (o.spec.template.metadata.labels.version = 1)],
  [
    'a misspelt field',
    'overlays/fleet',
    'PodMonitor',
    o => (o.spec.podMetricsEndpoints[0].intervall = '10s'),
  ],
  ['an unknown metric', 'kserve', 'InferenceService', o => (o.spec.predictor.scaleMetric = 'queue')],
  [
    'a misspelt field',
    'kserve',
    'InferenceService',
    o => (o.spec.predictor.model.storageURI = 'pvc://models'),
  ],
  ['a misspelt field', 'kserve', 'ServingRuntime', o => (o.spec.containers[0].enviroment = [])],
]

test('what the schemas do not take is refused, in whatever kind it is', async () => {
  const mistaken = MISTAKES.map(([, folder, kind, mistake]) => {
    const object = structuredClone(objectOf(`${FOLDER}/${folder}`, kind))
    mistake(object)
    return object
  })
  const refused = await refusalsOf(mistaken)
  const overlooked = MISTAKES.filter(
    (_, index) => !refused.some(line => line.startsWith(`object-${index}.ts`)),
  )
  expect(overlooked.map(([what, folder, kind]) => `${what} in ${folder}, ${kind}`)).toEqual([])
})

test.each(['onnx', 'stub', 'hailo', 'fleet'])('the objects of %s find each other', overlay => {
  const objects = made.get(`${OVERLAYS}/${overlay}`)!
  const { spec } = objectOf(`${OVERLAYS}/${overlay}`, 'Deployment')
  const { labels } = spec.template.metadata
  for (const object of objects.filter(({ kind }) => SELECTOR_OWNERS.includes(kind))) {
    const selector = object.spec.selector ?? object.spec.podSelector
    expect(labels, object.kind).toMatchObject(selector.matchLabels ?? selector)
  }
  const pod = spec.template.spec
  const [container] = pod.containers
  const named = (kind: string) =>
    objects.filter(object => object.kind === kind).map(({ metadata }) => metadata.name)
  expect(named('ServiceAccount')).toEqual([pod.serviceAccountName])
  expect(named('ConfigMap')).toEqual([container.envFrom[0].configMapRef.name])

  const port = container.ports[0].name
  const [servicePort] = objectOf(`${OVERLAYS}/${overlay}`, 'Service').spec.ports
  expect(servicePort).toMatchObject({ port: container.ports[0].containerPort, targetPort: port })
  expect(objectOf(`${OVERLAYS}/${overlay}`, 'NetworkPolicy').spec.ingress[0].ports).toEqual([{ port }])
  const volumes = pod.volumes.map(({ name }: { name: string }) => name)
  expect(volumes.toSorted()).toEqual(
    container.volumeMounts.map(({ name }: { name: string }) => name).toSorted(),
  )
})

test('the autoscaler and the monitor of fleet mean what is there', () => {
  const folder = `${OVERLAYS}/fleet`
  const { apiVersion, kind, metadata, spec } = objectOf(folder, 'Deployment')
  const { scaleTargetRef, minReplicas } = objectOf(folder, 'HorizontalPodAutoscaler').spec
  expect(scaleTargetRef).toEqual({ apiVersion, kind, name: metadata.name })
  expect(minReplicas).toBeGreaterThan(1)
  expect(spec).not.toHaveProperty('replicas')
  const monitor = objectOf(folder, 'PodMonitor').spec
  const { labels } = spec.template.metadata
  expect(monitor.podMetricsEndpoints[0].port).toBe(spec.template.spec.containers[0].ports[0].name)
  // The job that rules and dashboards ask for.
  expect(labels[monitor.jobLabel]).toBe('hailo-inference')
  expect(Object.keys(labels)).toEqual(expect.arrayContaining(monitor.podTargetLabels))
})

test.each(['onnx', 'stub', 'fleet'])('pods of %s are taken where only restricted ones are', overlay => {
  const pod = objectOf(`${OVERLAYS}/${overlay}`, 'Deployment').spec.template.spec
  expect(pod.securityContext).toMatchObject({
    runAsNonRoot: true,
    runAsUser: 1000,
    seccompProfile: { type: 'RuntimeDefault' },
  })
  expect(pod.containers[0].securityContext).toEqual({
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  })
  expect(pod.volumes.filter((volume: object) => !('emptyDir' in volume))).toEqual([])
  expect(pod.automountServiceAccountToken).toBe(false)
})

test('a pod asks for the device that the plugin offers, on nodes on which it runs', () => {
  const { spec } = objectOf(`${OVERLAYS}/hailo`, 'Deployment')
  const plugin = objectOf(`${FOLDER}/device-plugin`, 'DaemonSet').spec.template.spec
  const [device] = plugin.containers[0].args.filter((argument: string) => argument.startsWith('{'))
  expect(spec.template.spec.containers[0].resources.limits).toHaveProperty(
    [`squat.ai/${JSON.parse(device).name}`],
    1,
  )
  expect(spec.template.spec.nodeSelector).toEqual(plugin.nodeSelector)
  // Nobody has a device to spare for a pod more, and those on other nodes serve on.
  expect(spec.strategy).toEqual({ rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } })
})

test.each(['kserve', 'kserve-standard'])(
  'the InferenceService of %s asks for its ServingRuntime, in a format and protocol that it has',
  folder => {
    const runtime = objectOf(`${FOLDER}/${folder}`, 'ServingRuntime')
    const { model } = objectOf(`${FOLDER}/${folder}`, 'InferenceService').spec.predictor
    expect(model.runtime).toBe(runtime.metadata.name)
    expect(runtime.spec.supportedModelFormats).toContainEqual(expect.objectContaining(model.modelFormat))
    expect(runtime.spec.protocolVersions).toContain(model.protocolVersion)
  },
)

function objectOf(folder: string, kind: string): KubernetesObject {
  const [object, ...others] = made.get(folder)!.filter(object => object.kind === kind)
  expect([object?.kind, others], `${kind} in ${folder}`).toEqual([kind, []])
  return object
}

async function installSchemas(): Promise<void> {
  await promisify(execFile)('npm', [
    'install',
    '--prefix',
    schemas,
    '--ignore-scripts',
    '--no-audit',
    ...SCHEMAS,
  ])
  cpSync('test/fixtures/kubernetes', join(schemas, 'types'), { recursive: true })
}

/** What the types have against the objects, a line each: `object-3.ts(…): …` is about the fourth. */
async function refusalsOf(objects: readonly KubernetesObject[]): Promise<string[]> {
  const folder = mkdtempSync(join(schemas, 'objects-'))
  objects.forEach((object, index) => writeFileSync(join(folder, `object-${index}.ts`), typed(object)))
  const compilerOptions = { module: 'nodenext', strict: true, noEmit: true, skipLibCheck: true, types: [] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions }))
  try {
    execFileSync(join(PROJECT_FOLDER, 'node_modules/.bin/tsc'), { cwd: folder, encoding: 'utf8' })
    return []
  } catch (error) {
    return (error as { stdout: string }).stdout.split('\n').filter(line => line !== '')
  }
}

/** Where the types of an object are follows from its apiVersion and its kind. */
function typed(object: KubernetesObject): string {
  const { apiVersion, kind } = object
  const source = apiVersion.startsWith('serving.kserve.io/')
    ? '../types/kserve.d.ts'
    : apiVersion.startsWith('monitoring.coreos.com/')
      ? `@kubernetes-models/prometheus-operator/${apiVersion}/${kind}`
      : `kubernetes-models/${apiVersion}/${kind}`
  return `import type { I${kind} } from '${source}'\nexport const object: I${kind} = ${JSON.stringify(object)}\n`
}
