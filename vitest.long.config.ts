import { defineConfig } from 'vitest/config'

/**
 * What takes minutes: installs on clean Debian systems, for which it takes root and a network to fetch packages from, and
 * the native part compiled for sanitizers.
 */
export default defineConfig({
  test: {
    include: ['test/debian/*.test.ts', 'test/native-sanitizers.test.ts'],
    maxWorkers: 2,
    retry: 1,
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
})
