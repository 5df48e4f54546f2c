import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/setup.ts',
    // Servers under test share two cores with their clients: files run one after another.
    fileParallelism: false,
    // A machine that stood still for a moment is no fault of the code: what fails is tried once more, and reported so.
    retry: 1,
    testTimeout: 20_000,
    hookTimeout: 20_000,
  },
})
