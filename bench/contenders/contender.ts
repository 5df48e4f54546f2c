import { join } from 'node:path'
import { execPath } from 'node:process'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../../src/project.ts'
import { type Launched, launch } from './launch.ts'

/** What each contender can be asked for. */
export interface ContenderOptions {
  /** uWebSockets.js and nothing else: the limit of the front door. */
  readonly echo: { readonly reply: 'binary' | 'json' }
  /** Our own server. `hailo` is the software device. */
  readonly engine: { readonly backend: 'onnx' | 'noop' | 'stub' | 'hailo' }
  /** Our own server, which counts and tells nothing of what it does. */
  readonly uncounted: ContenderOptions['engine']
  /** hyper-express, JSON.parse() and ONNX Runtime on the main thread. */
  readonly naive: { readonly backend: ContenderBackend }
  /** uWebSockets.js, and Piscina's run() for each window. */
  readonly piscina: { readonly backend: ContenderBackend; readonly threads?: number }
  /** Fastify, and ONNX Runtime on the main thread. */
  readonly fastify: { readonly backend: ContenderBackend }
}

/** `noop` answers with noopResult(). */
export type ContenderBackend = 'onnx' | 'noop'
export type ContenderName = keyof ContenderOptions

export interface Contender extends Omit<Launched, 'said'> {
  readonly name: string
}

export interface Surroundings {
  /** Its environment; for our own server, its configuration. */
  readonly env?: Readonly<Record<string, string>>
  /** Options of Node.js, for example to profile it. */
  readonly nodeOptions?: readonly string[]
}

/** Starts a server in a fresh process. It answers `POST /infer`, and ends with this process if it is not stopped before. */
export async function startContender<Name extends ContenderName>(
  name: Name,
  options: ContenderOptions[Name],
  { env = {}, nodeOptions = [] }: Surroundings = {},
): Promise<Contender> {
  const program = join(PROJECT_FOLDER, 'dist', 'bench', 'contenders', `${name}.js`)
  const settings =
    name === 'engine' || name === 'uncounted'
      ? { ...configuration(options as ContenderOptions['engine']), ...env }
      : env
  const { pid, port, stop } = await launch(
    [execPath, ...nodeOptions, program, JSON.stringify(options)],
    settings,
  )
  return { name: [name, ...Object.values(options)].join(' '), pid, port, stop }
}

function configuration({ backend }: ContenderOptions['engine']): Record<string, string> {
  return {
    SIDECAR_PORT: '0',
    LOG_LEVEL: 'error',
    INFER_MODE: backend === 'noop' ? 'stub' : backend, // the kinds of backends are a closed list
    ...(backend === 'hailo' && {
      HEF_PATH: join(SHIPPED_MODEL_FOLDER, 'tcn_encoder.soft.hef'),
      HAILORT_LIB: join(PROJECT_FOLDER, 'native', 'build', 'libhailort.so'),
    }),
  }
}
