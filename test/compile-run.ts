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

/** Runs compile.py once for each of the options that it is given, as most of a short run is what it imports. */
const ONE_BY_ONE = `
import contextlib, io, json, sys, traceback
import compile
ended = []
for options in json.loads(sys.argv[1]):
    sys.argv[1:] = options
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = compile.main()
        except Exception:
            code = traceback.print_exc()
    ended.append({'code': code, 'stderr': said.getvalue()})
print(json.dumps(ended))
`

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
    return this.#python([join(COMPILER_FOLDER, 'compile.py'), ...this.#arguments(options)], env)
  }

  async compile(options: Record<string, string> = {}, env: Record<string, string> = {}): Promise<Ended> {
    return this.#end(this.start(options, env))
  }

  /** As many runs in one process, each after the other. `code` null: it has ended in a traceback. */
  async compileEach(runs: Record<string, string>[]): Promise<Omit<Ended, 'stdout'>[]> {
    const each = JSON.stringify(runs.map(options => this.#arguments(options)))
    const env = { PYTHONPATH: `${COMPILER_FOLDER}:${STAND_IN}` }
    const { stdout, stderr } = await this.#end(this.#python(['-c', ONE_BY_ONE, each], env))
    if (stderr !== '') throw new Error(stderr)
    return JSON.parse(stdout)
  }

  #arguments(options: Record<string, string>): string[] {
    const all = {
      '--cache': this.cache,
      '--onnx': join(SHIPPED_MODEL_FOLDER, 'model.onnx'),
      '--calibration': this.#calibration,
      '--out': this.models,
      '--version': '1.1.0',
      ...options,
    }
    return Object.entries(all).flat()
  }

  #python(args: string[], env: Record<string, string>): ChildProcess {
    const { PATH = '' } = process.env
    return spawn(PYTHON!, args, {
      env: {
        PATH,
        PYTHONPATH: STAND_IN,
        PYTHONDONTWRITEBYTECODE: '1',
        OPENBLAS_NUM_THREADS: '1',
        FAKE_DFC_MODEL: SHIPPED_MODEL_FOLDER,
        FAKE_DFC_CALLS: this.#calls,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }

  async #end(child: ChildProcess): Promise<Ended> {
    const [stdout, stderr, [code]] = await Promise.all([
      text(child.stdout!),
      text(child.stderr!),
      once(child, 'close') as Promise<[number | null]>,
    ])
    return { code, stdout, stderr }
  }

  /** What was asked of the Dataflow Compiler so far: the names of the calls and what they were given. */
  calls(): [string, ...unknown[]][] {
    // Behind the last line's end there may be half a line.
    const lines = readFileSync(this.#calls, 'utf8').split('\n').slice(0, -1)
    return lines.map(line => JSON.parse(line))
  }
}

/** Windows of the recording that ships, raw. */
export function recorded(count: number, first = 0): Buffer {
  const recording = readFileSync(join(RECORDING_FOLDER, 'replay.f32'))
  return recording.subarray(first * WINDOW_BYTES, (first + count) * WINDOW_BYTES)
}
