import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { build, SOFT } from '../native/build.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { buildNative, COMPILER, runProgram, SOFT_LIBRARY } from './native.ts'

const PROGRAM = join(PROJECT_FOLDER, 'dist/test/programs/run-windows.js')
const HEF = join(SHIPPED_MODEL_FOLDER, 'tcn_encoder.soft.hef')
const MOTIFS_HEF = temporary('motifs.hef')

/** uint8[64][64], the latents of the golden windows as the int8 network gives them. */
const GOLDEN_Q = readFileSync(join(SHIPPED_MODEL_FOLDER, 'golden_int8_latent_q.u8'))
const { scale, zero_point } = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.int8.json'), 'utf8'))
  .tensors.latent
/** float32[64][12] */
const GOLDEN_LOGITS = new Float32Array(
  Uint8Array.from(readFileSync(join(SHIPPED_MODEL_FOLDER, 'golden_int8_motif_logits.f32'))).buffer,
)

interface Run {
  description: { id: string; architecture: string; firmware: string; product: string }
  state: { generation: number; temperatureCelsius: number; clockHz: number; isThrottled: boolean }
  depth: number
  outputs: number[][]
  failure: { cause: string; message: string } | null
}

async function run(options: object = {}, env: Record<string, string> = {}): Promise<Run> {
  const { stdout, stderr, code } = await runProgram(
    process.execPath,
    [PROGRAM, JSON.stringify({ library: SOFT_LIBRARY, hef: HEF, ...options })],
    { SOFTHAILORT_LOCK_DIR: LOCKS, ...env },
  )
  if (code !== 0) throw new Error(`run-windows.js ended with ${code}: ${stderr}`)
  return JSON.parse(stdout)
}

const LOCKS = mkdtempSync(join(tmpdir(), 'locks-'))

function temporary(name: string): string {
  return join(mkdtempSync(join(tmpdir(), 'shim-')), name)
}

/** uint8[64] again, from what the shim made floats of. */
const quantised = (output: number[]) =>
  output.slice(0, 64).map(value => Math.round(value / scale) + zero_point)
const goldenQ = (window: number) => [...GOLDEN_Q.subarray(window * 64, (window + 1) * 64)]

function softmaxOf(logits: Float32Array): number[] {
  const powers = [...logits].map(Math.exp)
  const sum = powers.reduce((total, power) => total + power)
  return powers.map(power => power / sum)
}

describe.skipIf(COMPILER === null)('the shim, on the software HailoRT', { timeout: 60_000 }, () => {
  beforeAll(async () => {
    await buildNative()
    const make = (...args: string[]) => execFileSync(process.execPath, ['dist/src/cli/hef-soft.js', ...args])
    make('--out', MOTIFS_HEF, '--motifs')
  }, 180_000)

  test.each([
    ['4.23.0', {}],
    ['4.21.0', {}],
    ['4.20.0', {}],
    ['4.18.0', {}],
    ['4.17.1', {}],
    ['4.23.0', { isVstream: true }],
    ['4.18.0', { isVstream: true }],
    ['4.23.0', { isSingleModel: true }],
  ])('gives the int8 network’s own latents, bit for bit: HailoRT %s, %o', async (version, options) => {
    const { outputs, failure, description, state } = await run(options, { SOFTHAILORT_VERSION: version })
    expect(failure).toBe(null)
    expect(outputs).toHaveLength(64)
    expect(outputs.map(quantised)).toEqual(outputs.map((_, window) => goldenQ(window)))
    expect(description).toMatchObject({ architecture: 'hailo8', firmware: version })
    expect(state).toMatchObject({ generation: 1, isThrottled: false, clockHz: 400_000_000 })
    expect(state.temperatureCelsius).toBeCloseTo(48.5, 1)
  })

  test('makes motif scores from the latent where the HEF ends there, by the head of the manifest', async () => {
    const { outputs } = await run()
    outputs.forEach((output, window) => {
      const expected = softmaxOf(GOLDEN_LOGITS.subarray(window * 12, (window + 1) * 12))
      output.slice(64).forEach((score, motif) => expect(score).toBeCloseTo(expected[motif]!, 5))
    })
  })

  test('takes the motif outputs of a HEF that has them', async () => {
    const { outputs, failure } = await run({ hef: MOTIFS_HEF, motifName: 'tcn_encoder/motif_logits' })
    expect(failure).toBe(null)
    expect(outputs.map(quantised)).toEqual(outputs.map((_, window) => goldenQ(window)))
    outputs.forEach((output, window) => {
      const expected = softmaxOf(GOLDEN_LOGITS.subarray(window * 12, (window + 1) * 12))
      // The logits cross as uint8.
      output.slice(64).forEach((score, motif) => expect(score).toBeCloseTo(expected[motif]!, 1))
      expect(output.indexOf(Math.max(...output.slice(64)))).toBe(64 + expected.indexOf(Math.max(...expected)))
    })
  })

  test('leaves the z-score out for a model whose HEF carries it', async () => {
    // The windows come z-scored, so that without a z-score of the shim's the same bytes reach the device.
    const { outputs } = await run({ isNormalised: true })
    expect(outputs.map(quantised)).toEqual(outputs.map((_, window) => goldenQ(window)))
  })

  test('takes the depth that the library reports', async () => {
    expect((await run({}, { SOFTHAILORT_TIMING: 'depth=3' })).depth).toBe(3)
    expect((await run({}, { SOFTHAILORT_TIMING: 'depth=32' })).depth).toBe(32)
  })

  test('leaves nothing in the working directory', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'cwd-'))
    const options = JSON.stringify({ library: SOFT_LIBRARY, hef: HEF })
    // The library itself would leave its log there.
    execFileSync(process.execPath, [PROGRAM, options], { cwd: folder, env: { SOFTHAILORT_LOCK_DIR: LOCKS } })
    expect(existsSync(join(folder, 'hailort.log'))).toBe(false)
  })

  test.each([
    ['no device, 4.23', { SOFTHAILORT_DEVICES: '0' }, 'no_device', /No Hailo device: `lspci/],
    [
      'no driver, 4.18',
      { SOFTHAILORT_DEVICES: '0', SOFTHAILORT_VERSION: '4.18.0' },
      'no_device',
      /No Hailo device: `lspci/,
    ],
    ['held by another process', { SOFTHAILORT_FAULT: 'busy' }, 'device_in_use', /another process.*`lsof/],
    [
      'another driver',
      { SOFTHAILORT_FAULT: 'driver=4.22.0' },
      'version_mismatch',
      /\(76\).*libhailort 4\.23\.0/,
    ],
    [
      'another firmware',
      { SOFTHAILORT_FAULT: 'firmware' },
      'version_mismatch',
      /\(16\).*libhailort 4\.23\.0/,
    ],
    ['no answer to controls', { SOFTHAILORT_FAULT: 'control_timeout' }, 'timeout', /\(87\)/],
    ['16 KiB pages', { SOFTHAILORT_FAULT: 'page_size' }, 'open_failed', /force_desc_page_size=4096/],
    ['no contiguous memory', { SOFTHAILORT_FAULT: 'no_memory' }, 'open_failed', /\(81\).*cma=/],
    [
      'HailoRT 5',
      { SOFTHAILORT_VERSION: '5.2.0' },
      'library_unsupported',
      /HailoRT 5\.2\.0, expected 4\.17\.1 to 4\.23/,
    ],
    ['HailoRT 4.16', { SOFTHAILORT_VERSION: '4.16.2' }, 'library_unsupported', /HailoRT 4\.16\.2, expected/],
  ])('says in words what is wrong: %s', async (_, env, cause, message) => {
    const { failure } = await run({}, env)
    expect(failure).toEqual({ cause, message: expect.stringMatching(message) })
  })

  test('names the devices that there are when it is asked for another', async () => {
    const { failure } = await run({ deviceId: '0000:09:00.0' })
    expect(failure).toEqual({
      cause: 'no_device',
      message: 'No Hailo device 0000:09:00.0: there is 0000:01:00.0',
    })
  })

  test('opens the device that it is asked for', async () => {
    const { description } = await run({ deviceId: '0000:02:00.0' }, { SOFTHAILORT_DEVICES: '2' })
    expect(description.id).toBe('0000:02:00.0')
  })

  test('is refused while another process has the device, and takes it when that has died', async () => {
    const options = JSON.stringify({ library: SOFT_LIBRARY, hef: HEF, hold: true })
    const holder = spawn(process.execPath, [PROGRAM, options], { env: { SOFTHAILORT_LOCK_DIR: LOCKS } })
    await once(holder.stdout, 'data')
    expect((await run({ windows: 1 })).failure?.cause).toBe('device_in_use')
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    expect((await run({ windows: 1 })).failure).toBe(null)
  })

  test('refuses an empty HEF and one that is none before the library sees it, or by its answer', async () => {
    const path = temporary('bad.hef')
    writeFileSync(path, '')
    expect((await run({ hef: path })).failure).toEqual({
      cause: 'hef_refused',
      message: 'Cannot load the HEF: it has 0 bytes',
    })
    writeFileSync(path, Buffer.alloc(4096))
    expect((await run({ hef: path })).failure).toMatchObject({ cause: 'hef_refused' })
    expect((await run({ hef: path }, { SOFTHAILORT_VERSION: '4.18.0' })).failure).toMatchObject({
      cause: 'hef_refused',
    })
  })

  test('says what to install when there is no library, or one that lacks a function', async () => {
    const missing = await run({ library: '/nowhere/libhailort.so' })
    expect(missing.failure).toEqual({
      cause: 'library_missing',
      message: expect.stringMatching(/^Cannot open libhailort: \/nowhere.*Install HailoRT 4\.17\.1 to 4\.23/),
    })
    const library = temporary('libhalf.so')
    const source = join(PROJECT_FOLDER, 'native/test/half_library.cc')
    await build({ output: library, sources: [source], linkFlags: ['-shared'] })
    expect((await run({ library })).failure).toEqual({
      cause: 'library_unsupported',
      message: expect.stringMatching(/HailoRT 4\.23\.0, has no hailo_get_status_message/),
    })
  })

  test.each([
    ['round_robin', 100_000],
    ['none', 100_000],
  ])(
    'four workers share the device, scheduler %s: each of %d answers belongs to its window',
    async (scheduler, windows) => {
      const program = join(PROJECT_FOLDER, 'dist/test/programs/windows-of-their-own.js')
      const { stdout, stderr } = await runProgram(
        process.execPath,
        [program, SOFT_LIBRARY, '4', String(windows), scheduler],
        { SOFTHAILORT_LOCK_DIR: LOCKS },
      )
      expect(stderr).toBe('')
      expect(JSON.parse(stdout)).toMatchObject({ answered: windows, wrong: 0, failed: 0, losses: 0 })
    },
  )

  test('opens the vdevice anew when it can hold no further model', async () => {
    const program = join(PROJECT_FOLDER, 'dist/test/programs/many-models.js')
    const { stdout, stderr } = await runProgram(process.execPath, [program, SOFT_LIBRARY, HEF], {
      SOFTHAILORT_LOCK_DIR: LOCKS,
    })
    expect(stderr).toBe('')
    expect(JSON.parse(stdout)).toEqual({
      opened: 32,
      failure: { cause: 'open_failed', message: expect.stringContaining('HAILO_INVALID_OPERATION (6)') },
      isLost: true,
      generation: 2,
    })
  })

  test('does without the functions that only vstreams need, until they are asked for', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'library-'))
    const script = join(folder, 'hide.map')
    writeFileSync(script, '{ local: hailo_*vstream*; hailo_get_extended_device_information; };\n')
    const library = join(folder, 'libhailort.so')
    await build({
      ...SOFT,
      output: library,
      linkFlags: [...SOFT.linkFlags!, `-Wl,--version-script=${script}`],
    })
    const { outputs, failure } = await run({ library })
    expect(failure).toBe(null)
    expect(outputs.map(quantised)).toEqual(outputs.map((_, window) => goldenQ(window)))
    expect((await run({ library, isVstream: true })).failure).toEqual({
      cause: 'library_unsupported',
      message: `${library} has no vstreams: unset HAILO_IO`,
    })
  })

  test('finds the library of a release by its own name, the newest first', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'library-'))
    mkdirSync(folder, { recursive: true })
    for (const version of ['4.18.0', '4.20.0']) {
      execFileSync('ln', ['-s', SOFT_LIBRARY, join(folder, `libhailort.so.${version}`)])
    }
    const { stdout } = await runProgram(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `import { openLibrary } from '${join(PROJECT_FOLDER, 'dist/native/index.js')}'
         console.log(JSON.stringify(openLibrary(null)))`,
      ],
      { LD_LIBRARY_PATH: folder },
    )
    expect(JSON.parse(stdout).path).toBe(join(folder, 'libhailort.so.4.20.0'))
  })
})

test('without a compiler, building says what to install', async () => {
  const { code, stderr } = await runProgram(process.execPath, ['dist/native/build.js'], {
    CXX: '/nowhere/c++',
  })
  expect(stderr).toMatch(/^No C\+\+ compiler found\. Install one \(.*apt install g\+\+\)/)
  expect(code).toBe(1)
})
