import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parse } from 'yaml'

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
