import { isIPv6 } from 'node:net'
import { dirname, join } from 'node:path'
import { certificateOf } from '../certificate.ts'
import { defaultWorkers } from '../config/workers.ts'
import { type Check, fail, ofConfig, ok, warn } from './check.ts'
import type { System } from './system.ts'

/** What the machine, or the container, leaves to the engine. */
export const MACHINE_CHECKS: readonly Check[] = [
  ofConfig('port', async ({ system }, { host, port, tls }) => {
    const place = `${isIPv6(host) ? `[${host}]` : host}:${port}`
    const code = await system.tryToListen(host, port)
    if (code === null) return ok(port === 0 ? 'any free one' : `${place} is free`)
    if (code === 'EADDRINUSE') {
      const isOurs = isEngine(
        await system.get(`http${tls === null ? '' : 's'}://${reachable(host)}:${port}/healthz`),
      )
      if (isOurs) {
        return warn(
          `${place} is taken: a hailo-inference answers there already`,
          'Nothing, if it is the one to be examined. To start another, stop it or set SIDECAR_PORT to another port',
        )
      }
      return fail(
        `${place} is taken: another program listens there`,
        `Stop it (\`sudo ss -ltnp 'sport = :${port}'\` names it), or set SIDECAR_PORT to another port`,
      )
    }
    if (code === 'EACCES') {
      return fail(`${place} may not be listened on by this user`, 'Set SIDECAR_PORT to 1024 or more')
    }
    return fail(
      `${place} cannot be listened on: ${code}`,
      'Set SIDECAR_HOST to an address of this machine: 127.0.0.1 for itself alone, 0.0.0.0 for others too',
    )
  }),
  ofConfig('TLS', ({ system }, { tls }) => {
    if (tls === null) return ok('plain HTTP: TLS_CERT and TLS_KEY are not set')
    const certPem = system.read(tls.certPath)
    const keyPem = system.read(tls.keyPath)
    for (const [path, text] of [
      [tls.certPath, certPem],
      [tls.keyPath, keyPem],
    ]) {
      if (text === undefined) return fail(`${path} cannot be read`, 'Let this user read it')
    }
    try {
      const { subject, notAfterMs } = certificateOf({ certPem: certPem!, keyPem: keyPem! })
      const days = Math.floor((notAfterMs - Date.now()) / DAY_MS)
      const found = `https with a certificate for ${subject}, until ${new Date(notAfterMs).toISOString()}`
      if (days >= FEWEST_DAYS) return ok(found)
      return warn(`${found}: ${days < 0 ? 'it has ended' : `${days} days`}`, 'Renew it')
    } catch (error) {
      return fail((error as Error).message, 'Set TLS_CERT and TLS_KEY to a certificate and its own key')
    }
  }),
  ofConfig('CPUs', ({ system }, { workers }) => {
    const quota = limitOf(system, QUOTA)
    const cpus = quota === null ? system.cpus : Math.min(system.cpus, Math.ceil(quota))
    const defaults = defaultWorkers(system.cpus, path => system.read(path))
    const limit = quota === null ? '' : `, of which the cgroup allows ${quota}`
    const found = `${system.cpus}${limit}; WORKERS is ${workers} (by default ${defaults})`
    if (workers <= cpus) return ok(found)
    return warn(
      `${found}: more workers than CPUs`,
      `Set WORKERS to ${Math.max(1, cpus - 1)}: one CPU is for the front door`,
    )
  }),
  ofConfig('memory', ({ system }, { workers }) => {
    const neededMiB = Math.max(SMALLEST_MIB, PROCESS_MIB + workers * WORKER_MIB)
    const limitBytes = limitOf(system, MEMORY)
    const totalKiB = Number(/^MemTotal:\s*(\d+) kB$/m.exec(system.read('/proc/meminfo') ?? '')?.[1])
    const totalMiB = Math.round((Number.isNaN(totalKiB) ? Infinity : totalKiB) / 1024)
    const limitMiB = limitBytes === null ? Infinity : Math.round(limitBytes / 2 ** 20)
    const isLimited = limitMiB < totalMiB
    const leftMiB = Math.min(limitMiB, totalMiB)
    if (leftMiB === Infinity) return ok('not told')
    const found = `${leftMiB} MiB ${isLimited ? 'allowed by the cgroup' : 'in this machine'}`
    if (leftMiB >= neededMiB) return ok(found)
    return warn(
      `${found}, and ${workers} workers may need ${neededMiB}`,
      `${isLimited ? `Raise the memory limit to ${neededMiB} MiB` : 'Use a larger machine'}, or set WORKERS lower`,
    )
  }),
  {
    name: 'open files',
    run({ system }) {
      const limits = system.read('/proc/self/limits') ?? ''
      const [, files] = /^Max open files\s+(\d+)/m.exec(limits) ?? []
      if (files === undefined) return ok('no limit is told')
      if (Number(files) >= FEWEST_FILES) return ok(`${files} at once`)
      return warn(
        `${files} at once: every connection takes one`,
        `Raise it: ulimit -n ${FEWEST_FILES}, LimitNOFILE= in systemd, ulimits: in compose`,
      )
    },
  },
]

const DAY_MS = 86_400_000
/** Those who renew certificates by themselves do so earlier. */
const FEWEST_DAYS = 14
/** Measured: 115 MiB and 15 MiB for each worker that runs the shipped model, idle. */
const PROCESS_MIB = 130
const WORKER_MIB = 25
const SMALLEST_MIB = 256
const FEWEST_FILES = 1024

/** The files of a limit in one group: version 2, or version 1 where that is not mounted. */
interface Limit {
  readonly controllerV1: string
  /** Null: this group has none. */
  read(readFile: (name: string) => string | undefined): number | null
}

const QUOTA: Limit = {
  controllerV1: 'cpu',
  read(readFile) {
    const [quotaUs, periodUs] = readFile('cpu.max')?.split(' ') ?? [
      readFile('cpu.cfs_quota_us'),
      readFile('cpu.cfs_period_us'),
    ]
    const cpus = Number(quotaUs) / Number(periodUs) // no quota: "max" in version 2, -1 in version 1
    return cpus > 0 ? cpus : null
  },
}
const MEMORY: Limit = {
  controllerV1: 'memory',
  read(readFile) {
    const bytes = Number(readFile('memory.max') ?? readFile('memory.limit_in_bytes')) // "max": none
    return bytes > 0 ? bytes : null
  },
}

/** The lowest limit of this process's group and those above it, null when there is none. */
function limitOf(system: System, { controllerV1, read }: Limit): number | null {
  const root = '/sys/fs/cgroup'
  const limits: number[] = []
  for (const row of (system.read('/proc/self/cgroup') ?? '0::/').trim().split('\n')) {
    const [, controllers = '', path = '/'] = /^\d+:([^:]*):(.*)$/.exec(row) ?? []
    if (controllers !== '' && !controllers.split(',').includes(controllerV1)) continue
    const mount = controllers === '' ? root : join(root, controllerV1)
    for (let group = path; ; group = dirname(group)) {
      const limit = read(name => system.read(join(mount, group, name)))
      if (limit !== null) limits.push(limit)
      if (group === '/' || group === '.') break
    }
  }
  return limits.length === 0 ? null : Math.min(...limits)
}

/** Where to call someone who listens on all addresses. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return isIPv6(host) ? `[${host}]` : host
}

function isEngine(body: string | undefined): boolean {
  try {
    const health = JSON.parse(body ?? '')
    return 'config_version' in health && 'contract' in health
  } catch {
    return false
  }
}
