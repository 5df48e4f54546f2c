import { defineConfig } from 'vitest/config'
import { LongestFirst } from './test/longest-first.ts'

/** They measure, under load that takes both cores: nothing runs beside these. */
const ALONE = [
  'bench',
  'chaos-overload',
  'device-bench',
  'load-generator',
  'micro',
  'overload',
  'overload-levels',
  'reload-load',
  'soak',
].map(name => `test/${name}.test.ts`)

/** What clients of the tests meet where nobody serves any more. */
const LOST: unknown[] = ['ECONNRESET', 'ECONNREFUSED', 'EPIPE', 'closed']

export default defineConfig({
  test: {
    globalSetup: 'test/setup.ts',
    // A machine that stood still for a moment is no fault of the code: what fails is tried again, and .ci/run lists it.
    retry: 2,
    // Traffic that a failed test leaves behind loses its server: the test has told, and is tried again.
    onUnhandledError: ({ code }) => !LOST.includes(code),
    // For a machine that is many times slower: what hangs fails all the same.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          // Compilers, sanitizers, a browser, and much waiting: four for two cores.
          name: 'together',
          include: ['test/**/*.test.ts'],
          exclude: [...ALONE, 'test/native-sanitizers.test.ts', 'test/debian/**'],
          maxWorkers: 4,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { name: 'alone', include: ALONE, maxWorkers: 1, sequence: { groupOrder: 1 } },
      },
    ],
  },
})
