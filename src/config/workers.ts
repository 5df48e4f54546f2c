import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/**
 * One CPU is left to the front door, and more than four workers must be asked for.
 * @param cpus what the scheduler allows this process. A container's quota is not in it: that is read from the cgroup.
 * @param read the text of a file, undefined when there is none
 */
export function defaultWorkers(cpus = availableParallelism(), read = readIfThere): number {
  const v2 = read('/sys/fs/cgroup/cpu.max')?.split(' ')
  const v1 = ['quota', 'period'].map(part => read(`/sys/fs/cgroup/cpu/cpu.cfs_${part}_us`))
  const [quotaUs, periodUs] = v2 ?? v1
  const quotaCpus = Math.ceil(Number(quotaUs) / Number(periodUs)) // no quota: "max" in v2, -1 in v1
  return Math.max(1, Math.min(4, (quotaCpus > 0 ? Math.min(cpus, quotaCpus) : cpus) - 1))
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
