import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'
import { WINDOW_BYTES } from '../src/core/window.ts'
import { PROJECT_FOLDER, RECORDING_FOLDER, SHIPPED_MODEL_FOLDER } from '../src/project.ts'

export const COMPILER_FOLDER = join(PROJECT_FOLDER, 'images', 'compiler')
/** Stands in for the Hailo Dataflow Compiler: what a wheel of it would unpack to. */
export const STAND_IN = join(PROJECT_FOLDER, 'test', 'fixtures', 'dfc')

/** The interpreter itself, behind what may stand before it. Null: compile.py cannot run here. */
export const PYTHON = whatRunsIt()
function whatRunsIt(): string | null {
  const script = 'import numpy, sys, yaml; print(sys.executable)'
  const { status, stdout } = spawnSync('python3', ['-c', script], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : null
}

/** Kept between runs, and not beside the sources: what Python compiles of them. */
const BYTECODE = join(tmpdir(), `hailo-inference-bytecode-${process.getuid?.()}`)

const WINDOWS = 64

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A folder of versions, a cache, and windows for calibration, for the length of a test. */
export class CompileRun {
  readonly folder = mkdtempSync(join(tmpdir(), 'compile-'))
  readonly models = join(this.folder, 'models')
  readonly cache = join(this.folder, 'cache')
  readonly #calls = join(this.folder, 'calls')
  readonly #calibration: string

  constructor() {
    onTestFinished(() => rmSync(this.folder, { recursive: true, force: true }))
    mkdirSync(this.models)
    mkdirSync(this.cache)
    this.#calibration = this.file('windows.f32', recorded(WINDOWS))
  }

  /** Writes a file beside the others and returns its path. */
  file(name: string, content: string | Uint8Array): string {
    const path = join(this.folder, name)
    writeFileSync(path, content)
    return path
  }

  /** @param options of compile.py, over those that make 1.1.0 of the model that ships */
  start(options: Record<string, string> = {}, env: Record<string, string> = {}): ChildProcess {
    const all = {
      '--cache': this.cache,
      '--onnx': join(SHIPPED_MODEL_FOLDER, 'model.onnx'),
      '--calibration': this.#calibration,
      '--out': this.models,
      '--version': '1.1.0',
      ...options,
    }
    const { PATH = '' } = process.env
    return spawn(PYTHON!, [join(COMPILER_FOLDER, 'compile.py'), ...Object.entries(all).flat()], {
      env: {
        PATH,
        PYTHONPATH: STAND_IN,
        PYTHONPYCACHEPREFIX: BYTECODE,
        OPENBLAS_NUM_THREADS: '1',
        FAKE_DFC_MODEL: SHIPPED_MODEL_FOLDER,
        FAKE_DFC_CALLS: this.#calls,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }

  async compile(options: Record<string, string> = {}, env: Record<string, string> = {}): Promise<Ended> {
    const child = this.start(options, env)
    const [stdout, stderr, [code]] = await Promise.all([
      text(child.stdout!),
      text(child.stderr!),
      once(child, 'close') as Promise<[number | null]>,
    ])
    return { code, stdout, stderr }
  }

  /** What was asked of the Dataflow Compiler since the last look: the names of the calls and what they were given. */
  takeCalls(): [string, ...unknown[]][] {
    const lines = readFileSync(this.#calls, 'utf8').trimEnd().split('\n')
    writeFileSync(this.#calls, '')
    return lines.filter(line => line !== '').map(line => JSON.parse(line))
  }
}

/** Windows of the recording that ships, raw. */
export function recorded(count: number, first = 0): Buffer {
  const recording = readFileSync(join(RECORDING_FOLDER, 'replay.f32'))
  return recording.subarray(first * WINDOW_BYTES, (first + count) * WINDOW_BYTES)
}
