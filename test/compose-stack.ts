import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'

/** A service as a composition has it, in the short forms of a file or the long ones of `docker compose config`. */
export interface Service {
  readonly image: string
  readonly profiles?: readonly string[]
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string | number>>
  readonly expose?: readonly string[]
  readonly ports?: readonly (string | { host_ip: string; published: string; target: number })[]
  readonly volumes?: readonly (
    | string
    | { type: string; source: string; target: string; read_only?: boolean }
  )[]
  readonly networks?: { readonly default?: { readonly aliases?: readonly string[] } | null }
}

export type Services = Readonly<Record<string, Service>>

/** A file or folder of this machine in a container. */
export interface Mount {
  readonly service: string
  readonly source: string
  readonly target: string
  readonly writable: boolean
}

/** Text of a compose file with its variables filled in, which are those of the environment or their defaults. */
export function interpolate(text: string, env: Readonly<Record<string, string>> = {}): string {
  return text.replace(
    /\$\{(\w+)(?:(:?)([-+])((?:[^{}]|\{[^{}]*\})*))?\}/g,
    (_, name, colon, operator, operand = '') => {
      const value = env[name] ?? ''
      const isSet = name in env && (colon === '' || value !== '')
      return isSet === (operator === '+') ? interpolate(operand, env) : operator === '+' ? '' : value
    },
  )
}

/** What of a file is started with one of the profiles. */
export function servicesOf(file: string, profiles: readonly string[]): Services {
  const { services } = parse(interpolate(readFileSync(file, 'utf8')), { merge: true }) as {
    services: Record<string, Service>
  }
  return Object.fromEntries(
    Object.entries(services).filter(
      ([, { profiles: needed }]) => needed === undefined || needed.some(each => profiles.includes(each)),
    ),
  )
}

/** Which services answer to a name on the network, and on which ports each does. */
export function listeners(services: Services): Map<string, { service: string; ports: readonly number[] }[]> {
  const found = new Map<string, { service: string; ports: readonly number[] }[]>()
  for (const [service, { expose = [], ports = [], networks }] of Object.entries(services)) {
    const inside = ports.map(port =>
      typeof port === 'string' ? Number(port.split(':').at(-1)) : port.target,
    )
    for (const name of new Set([service, ...(networks?.default?.aliases ?? [])])) {
      const listener = { service, ports: [...new Set([...expose.map(Number), ...inside])] }
      found.set(name, [...(found.get(name) ?? []), listener])
    }
  }
  return found
}

/** @param folder where relative paths begin */
export function mountsOf(services: Services, folder: string): Mount[] {
  return Object.entries(services).flatMap(([service, { volumes = [] }]) =>
    volumes.flatMap(volume => {
      if (typeof volume !== 'string') {
        const { type, source, target, read_only = false } = volume
        return type === 'bind' ? [{ service, source: join(source), target, writable: !read_only }] : []
      }
      const [source, target, mode] = volume.split(':') as [string, string, string?]
      const isPath = /^[./]/.test(source)
      return isPath ? [{ service, source: absolute(source, folder), target, writable: mode !== 'ro' }] : []
    }),
  )
}

function absolute(path: string, folder: string): string {
  return path.startsWith('/') ? path : join(folder, path)
}

/** Each `host:port` that a service's environment or the YAML mounted in it names, `localhost` being itself. */
export function addressesOf(services: Services, mounts: readonly Mount[]) {
  return Object.entries(services).flatMap(([service, { environment = {} }]) => {
    const files = mounts.filter(mount => mount.service === service).flatMap(({ source }) => yamlIn(source))
    const texts = [
      ...Object.values(environment).map(String),
      ...files.map(file => readFileSync(file, 'utf8')),
    ]
    return texts
      .flatMap(text => [
        ...text.replace(/#.*$/gm, '').matchAll(/(?<![\w.:/-])(?:https?:\/\/)?([a-z][a-z-]+):(\d{2,5})\b/g),
      ])
      .map(([, host, port]) => ({
        service,
        host: host === 'localhost' ? service : host!,
        port: Number(port),
      }))
  })
}

function yamlIn(path: string): string[] {
  const paths = statSync(path).isDirectory()
    ? readdirSync(path, { recursive: true, encoding: 'utf8' }).map(name => join(path, name))
    : [path]
  return paths.filter(each => /\.ya?ml$/.test(each))
}
