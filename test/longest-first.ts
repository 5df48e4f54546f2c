import { basename } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Compilers and long waits: what begins last must not be what takes longest. The first of these takes longest. */
const LONG = [
  'hailo',
  'native-shim',
  'reload',
  'faults',
  'fallback',
  'page',
  'bulk',
  'native-abi',
  'v2-load',
  'openapi',
  'keep-alive',
  'supervision',
  'prometheus-rules',
  'deadline',
  'replay',
  'replace-model',
  'dashboards',
  'tracing',
  'doctor',
  'tls',
  'drain',
  'stream-limits',
  'ring',
  'wall-clock',
  'chaos-connections',
  'bulk-abuse',
  'canary',
  'strangers',
  'hef-soft',
  'soft-hailort',
  'artifacts',
]

/** Where nothing is known of earlier runs vitest goes by the size of the files, which says little of their time. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    const rank = ({ moduleId }: TestSpecification) => {
      const index = LONG.indexOf(basename(moduleId, '.test.ts'))
      return index === -1 ? LONG.length : index
    }
    return sorted.sort((a, b) => groupOf(a) - groupOf(b) || rank(a) - rank(b))
  }
}

function groupOf({ project }: TestSpecification): number {
  return project.config.sequence.groupOrder
}
