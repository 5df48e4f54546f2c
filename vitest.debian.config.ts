import { defineConfig } from 'vitest/config'

/** Installs on clean Debian systems: takes root, a network to fetch packages from, and minutes. */
export default defineConfig({
  test: {
    include: ['test/debian/*.test.ts'],
    maxWorkers: 2,
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
})
