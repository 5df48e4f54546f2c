import { spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { build, SHIM } from '../native/build.ts'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import {
  buildNative,
  buildProgram,
  buildSoftLibrary,
  COMPILER,
  hasSanitizer,
  runProgram,
  SHIM_SOURCES,
  SOFT_LIBRARY,
} from './native.ts'

const HEF = join(SHIPPED_MODEL_FOLDER, 'tcn_encoder.soft.hef')
const WINDOWS = join(SHIPPED_MODEL_FOLDER, 'golden_windows.f32')
const TERMINATED_WORKERS = 'dist/test/programs/terminated-workers.js'

/** A device of its own, whatever else runs on this machine. */
const DEVICE = { SOFTHAILORT_LOCK_DIR: mkdtempSync(join(tmpdir(), 'device-')) }

/** What can break while streams come and go. `wrong` is not among them: each answer is checked. */
const FAULTS = [
  'stall',
  'abort',
  'unplug',
  'control_timeout',
  'runtime_error',
  'temperature=125',
  'slow_shutdown=200',
]

const SANITIZERS = [
  {
    name: 'address and undefined behaviour',
    variant: 'asan',
    // Not optimised: that takes the compiler longer than it takes the program.
    flags: ['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-fno-omit-frame-pointer', '-O0'],
    env: { ASAN_OPTIONS: 'detect_leaks=1:abort_on_error=0', UBSAN_OPTIONS: 'print_stacktrace=1' },
  },
  {
    name: 'threads',
    variant: 'tsan',
    flags: ['-fsanitize=thread', '-fno-omit-frame-pointer', '-O1'],
    env: { TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1' },
  },
]

for (const { name, variant, flags, env } of SANITIZERS) {
  describe.skipIf(!hasSanitizer(flags))(`under the sanitizer for ${name}`, { timeout: 120_000 }, () => {
    let library: string
    let stress: string
    beforeAll(async () => {
      library = await buildSoftLibrary(flags, variant)
      stress = await buildProgram('stress', { sources: SHIM_SOURCES, flags, variant })
    }, 300_000)

    test.each([
      ['scheduler', 'async'],
      ['single', 'async'],
      ['scheduler', 'vstream'],
    ])('four threads come and go, the device breaks and heals: %s, %s', async (scheduler, io) => {
      const { code, stdout, stderr } = await runProgram(
        stress,
        [library, HEF, WINDOWS, scheduler, io, ...FAULTS],
        { ...DEVICE, ...env, HAILORT_LOGGER_PATH: 'NONE' },
      )
      expect(stderr.split('\n').filter(line => /Sanitizer|runtime error/.test(line))).toEqual([])
      expect(stdout).toMatch(/answered [1-9]\d*, wrong 0, lost \d+, torn down yes/)
      expect(code).toBe(0)
    })
  })
}

const ASAN_FLAGS = SANITIZERS[0]!.flags

test.skipIf(!hasSanitizer(ASAN_FLAGS))(
  'workers terminated in the middle of a collect leave no bad access behind',
  { timeout: 240_000 },
  async () => {
    const library = await buildSoftLibrary(ASAN_FLAGS, 'asan')
    const addon = SHIM.output.replace(/build\/.*$/, 'build/test/asan/hailort.node')
    await build({ ...SHIM, output: addon, flags: [...SHIM.flags!, ...ASAN_FLAGS] })
    const { stdout: runtime } = spawnSync(COMPILER!, ['-print-file-name=libasan.so'], { encoding: 'utf8' })
    const { code, stdout, stderr } = await runProgram(
      process.execPath,
      [TERMINATED_WORKERS, addon, library, HEF, '16', 'kept'],
      {
        ...DEVICE,
        LD_PRELOAD: runtime.trim(),
        // Node.js itself ends with memory that it never gave back, and V8 has threads of its own.
        ASAN_OPTIONS: 'detect_leaks=0',
        SOFTHAILORT_TIMING: 'latency_us=3000,depth=8',
      },
    )
    expect(stderr).not.toMatch(/Sanitizer|runtime error/)
    expect(JSON.parse(stdout)).toMatchObject({ wrongAnswers: 0, failures: 0, tornDown: true })
    expect(code).toBe(0)
  },
)

describe.skipIf(COMPILER === null)(
  '200 workers terminated in the middle of a collect',
  { timeout: 120_000 },
  () => {
    beforeAll(buildNative, 120_000)

    test.each([
      ['kept', 60],
      ['fresh', 40],
    ])('leak no file descriptor, thread or memory, the device %s for %d of them', async (mode, count) => {
      const { stdout, stderr } = await runProgram(
        process.execPath,
        ['--expose-gc', TERMINATED_WORKERS, SHIM.output, SOFT_LIBRARY, HEF, String(count), mode],
        { ...DEVICE, SOFTHAILORT_TIMING: 'latency_us=3000,depth=8' },
      )
      expect(stderr).toBe('')
      const { before, after, ...rest } = JSON.parse(stdout)
      expect(rest).toEqual({ wrongAnswers: 0, failures: 0, tornDown: true })
      expect({ files: after.files, threads: after.threads }).toEqual({
        files: before.files,
        threads: before.threads,
      })
      // A stream's pages alone are 24 × 4 KiB: eighty of them left behind would be 8 MB.
      expect(after.residentMb - before.residentMb).toBeLessThan(7)
    })
  },
)
