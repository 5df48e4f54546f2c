import { type ContenderName, type ContenderOptions, startContender } from '../contenders/contender.ts'

/** What can be started and loaded. */
export interface Server {
  readonly name: string
  /** What its environment says beside the defaults. */
  readonly settings: string
  /** Where it listens, if not on its port. */
  readonly path?: string
  readonly start: () => Promise<Running>
}

/** In a process of its own. */
export interface Running {
  readonly pid: number
  readonly port: number
  stop(): Promise<void>
}

export function contender<Name extends ContenderName>(
  name: Name,
  options: ContenderOptions[Name],
  env: Readonly<Record<string, string>> = {},
): Server {
  return {
    name: [name, ...Object.values(options)].join(' '),
    settings: Object.entries(env)
      .map(([key, value]) => `${key}=${value}`)
      .join(' '),
    start: () => startContender(name, options, { env }),
  }
}

/** Our own, with one worker. A deadline that nothing meets by chance: throughput is what is measured. */
export function engine(
  backend: ContenderOptions['engine']['backend'],
  env: Readonly<Record<string, string>> = {},
): Server {
  return contender('engine', { backend }, { WORKERS: '1', DEADLINE_MS: '1000', ...env })
}
