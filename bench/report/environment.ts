import { execFileSync } from 'node:child_process'
import { availableParallelism, cpus, loadavg, release } from 'node:os'
import { version } from 'node:process'
import { PROJECT_FOLDER } from '../../src/project.ts'

/** Where and when something was measured. */
export interface Environment {
  /** ISO 8601. */
  readonly date: string
  readonly processor: string
  readonly cores: number
  readonly kernel: string
  readonly node: string
  /** Of the sources, `+` when they differ from it; `unknown` outside of a repository. */
  readonly commit: string
  /** Of the minute before. */
  readonly loadAverage: number
}

/** Above it, others are at work. */
export const IDLE_LOAD_AVERAGE = 0.3

export function readEnvironment(): Environment {
  return {
    date: new Date().toISOString(),
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    kernel: release(),
    node: version,
    commit: commit(),
    loadAverage: loadavg()[0]!,
  }
}

/** `2026-11-21` */
export function dayOf({ date }: Environment): string {
  return date.slice(0, 10)
}

/** `2026-11-21 · AMD EPYC ×2 · Linux 6.18.44 · Node v20.20.2 · 1a2b3c4 · load average 0.05` */
export function environmentLine(environment: Environment): string {
  const { processor, cores, kernel, node, commit, loadAverage } = environment
  return [
    dayOf(environment),
    `${processor} ×${cores}`,
    `Linux ${kernel}`,
    `Node ${node}`,
    commit,
    `load average ${loadAverage.toFixed(2)}`,
  ].join(' · ')
}

function commit(): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: PROJECT_FOLDER, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    const changes = git('status', '--porcelain', '--untracked-files=no', '--', ':!docs')
    return git('rev-parse', '--short', 'HEAD').trim() + (changes === '' ? '' : '+')
  } catch {
    return 'unknown'
  }
}
