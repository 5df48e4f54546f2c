import { type ContenderName, type ContenderOptions, startContender } from '../contenders/contender.ts'
import type { Mode } from './suite.ts'

/** What can be started and loaded. */
export interface Server {
  readonly name: string
  /** What its environment says beside the defaults. */
  readonly settings: string
  /** Where it listens, if not on its port. */
  readonly path?: string
  readonly start: () => Promise<Running>
}

/** In a process of its own, or of somebody else. */
export interface Running {
  readonly pid?: number
  readonly port: number
  stop(): Promise<unknown>
}

type Settings = Readonly<Record<string, string>>

export function contender<Name extends ContenderName>(
  name: Name,
  options: ContenderOptions[Name],
  env: Settings = {},
): Server {
  const settings = Object.entries(env).map(([key, value]) => `${key}=${value}`)
  return {
    name: [name, ...Object.values(options)].join(' '),
    settings: settings.join(' '),
    start: () => startContender(name, options, { env }),
  }
}

export const DEADLINE_MS = 40

const DEFAULTS = { WORKERS: '1', RING_SLOTS: '128', DEADLINE_MS: String(DEADLINE_MS) }

/** Our own, with one worker, as it is configured for its users. */
export function engine(backend: Mode, env: Settings = {}): Server {
  return contender('engine', { backend }, { ...DEFAULTS, ...env })
}

/** The same, but for what it counts and tells. */
export function uncounted(backend: Mode, env: Settings = {}): Server {
  return contender('uncounted', { backend }, { ...DEFAULTS, ...env })
}

/**
 * With a deadline that nothing meets by chance, and slots for all connections twice, as a client may send again before
 * the slot of its last window is free: what can be done is measured, not what is refused.
 */
export function patient(backend: Mode, env: Settings = {}): Server {
  return engine(backend, { DEADLINE_MS: '1000', RING_SLOTS: '256', ...env })
}
