import { defineConfig } from 'vitest/config'

/** Tests that wait for nobody's clock, or for nothing else: two of these files run at a time. */
const TOGETHER = [
  'backends',
  'client',
  'codec',
  'config',
  'contenders',
  'doctor',
  'foreign-clients',
  'fuzz',
  'hef',
  'hef-soft',
  'install',
  'keep-alive',
  'metrics',
  'model',
  'native-abi',
  'native-sanitizers',
  'native-shim',
  'openapi',
  'replay',
  'routes',
  'soft-hailort',
  'stream-docs',
  'v2-abuse',
  'v2-infer',
  'v2-routes',
  'v2-triton',
  'window',
  'window-readers',
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
        test: { name: 'together', include: TOGETHER, maxWorkers: 2, sequence: { groupOrder: 0 } },
      },
      {
        extends: true,
        test: {
          // Servers under load share two cores with their clients, and deadlines are short.
          name: 'alone',
          include: ['test/**/*.test.ts'],
          exclude: TOGETHER,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
