import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parse, parseAllDocuments } from 'yaml'

export const FOLDER = 'kubernetes'

/** A kustomization.yaml, or a component, as far as ours go. */
export interface Kustomization {
  readonly resources?: readonly string[]
  readonly components?: readonly string[]
  readonly patches?: readonly { readonly path: string }[]
  readonly configMapGenerator?: readonly {
    readonly envs?: readonly string[]
    readonly literals?: readonly string[]
  }[]
  readonly images?: readonly { readonly name: string; readonly newTag: string }[]
}

/** All files below kubernetes/, as paths from the project's folder. */
export function filesOf(folder = FOLDER): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? filesOf(path) : [path]
  })
}

/** What one can apply: folders that have a kustomization and are no component. */
export function applicable(): string[] {
  return filesOf()
    .filter(file => file.endsWith('/kustomization.yaml') && !file.includes('/components/'))
    .map(dirname)
}

export function kustomizationIn(folder: string): Kustomization {
  return readYaml(join(folder, 'kustomization.yaml'))
}

// biome-ignore lint/suspicious/noExplicitAny: it is whatever the manifest has; a wrong path fails the test
export function readYaml(file: string): any {
  return parse(readFileSync(file, 'utf8'))
}

/** What the README's loop over files of rules applies. */
export function prometheusRules(): object[] {
  const [loop] = /^for rules in .*?^done$/ms.exec(readFileSync(`${FOLDER}/README.md`, 'utf8'))!
  const applied = execFileSync('sh', ['-ec', `kubectl() { echo ---; cat; }\n${loop}`], { encoding: 'utf8' })
  return parseAllDocuments(applied).map(document => document.toJS())
}

/** Where the pods of a kustomization have their volumes. */
export function mountPathsOf(folder: string): string[] {
  const { resources = [], patches = [] } = kustomizationIn(folder)
  const below = resources.filter(resource => resource.startsWith('..'))
  const files = [...resources, ...patches.map(({ path }) => path)].filter(path => path.endsWith('.yaml'))
  const containers = files.flatMap(
    file => readYaml(join(folder, file)).spec?.template?.spec?.containers ?? [],
  )
  return [
    ...below.flatMap(resource => mountPathsOf(join(folder, resource))),
    ...containers.flatMap(({ volumeMounts = [] }) =>
      volumeMounts.map(({ mountPath }: { mountPath: string }) => mountPath),
    ),
  ]
}

/** The environment that a kustomization gives its pods, those below it included. */
export function environmentOf(folder: string): Record<string, string> {
  const { resources = [], configMapGenerator = [] } = kustomizationIn(folder)
  const below = resources.filter(resource => resource.startsWith('..'))
  const lines = configMapGenerator.flatMap(({ envs = [], literals = [] }) => [
    ...envs.flatMap(file => readFileSync(join(folder, file), 'utf8').split('\n')),
    ...literals,
  ])
  return Object.assign(
    {},
    ...below.map(resource => environmentOf(join(folder, resource))),
    Object.fromEntries(lines.filter(line => /^\w+=/.test(line)).map(line => line.split(/=(.*)/, 2))),
  )
}
