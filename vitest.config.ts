import { defineConfig } from 'vitest/config'

/** Servers under load share two cores with their clients, and deadlines are short: nothing runs beside these. */
const ALONE = [
  'bench',
  'bulk',
  'bulk-abuse',
  'chaos-overload',
  'deadline',
  'device-bench',
  'drain',
  'load-generator',
  'micro',
  'overload',
  'overload-levels',
  'reload-load',
  'soak',
  'stream-abuse',
  'stream-drain',
  'stream-limits',
  'supervision',
  'v2-load',
].map(name => `test/${name}.test.ts`)

export default defineConfig({
  test: {
    globalSetup: 'test/setup.ts',
    // A machine that stood still for a moment is no fault of the code: what fails is tried once more, and reported so.
    retry: 1,
    testTimeout: 20_000,
    hookTimeout: 20_000,
    projects: [
      {
        extends: true,
        test: {
          // Compilers, sanitizers, a browser, and much waiting: three for two cores.
          name: 'together',
          include: ['test/**/*.test.ts'],
          exclude: ALONE,
          maxWorkers: 3,
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
