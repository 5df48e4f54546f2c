import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { DeviceDescription } from '../../native/index.ts'
import type { Config } from '../config.ts'
import type { Hef } from '../hef/hef.ts'
import type { Model } from '../model.ts'
import { PROJECT_FOLDER } from '../project.ts'

/** What a probe found out, or why it could not. */
export type Answer<Value> =
  | { readonly value: Value; readonly error?: undefined }
  | { readonly value?: undefined; readonly error: string }

export interface ModelFacts extends Pick<Model, 'name' | 'version' | 'sha256' | 'path'> {
  /** 0: its manifest lists none. */
  readonly goldenWindows: number
  /** Null for a model that no device runs. */
  readonly hef: Pick<Hef, 'headerVersion' | 'architecture' | 'compilerVersion' | 'software'> | null
}

export interface LibraryFacts {
  readonly isSoftware: boolean
  /** Null when it cannot be used; `problem` tells why. */
  readonly opened: { readonly path: string; readonly version: string } | null
  readonly problem: string | null
}

export type DeviceFacts = DeviceDescription

/** Where `npm run native` puts the addon. */
export const ADDON_PATH = join(PROJECT_FOLDER, 'native', 'build', 'hailort.node')

/**
 * What can be found out only by trying. Any of these can crash the process or never return: native code that does not
 * fit this machine, a file on a network that is gone. So each runs in a process of its own; see probe-process.ts.
 */
export const PROBES = {
  /** @returns the name of the binary and the version of uWebSockets.js */
  async uWebSockets(_: null): Promise<{ binary: string; version: string }> {
    await import('uWebSockets.js')
    const { version, optionalDependencies } = JSON.parse(
      readFileSync(join(PROJECT_FOLDER, 'vendor', 'uWebSockets.js', 'package.json'), 'utf8'),
    )
    const binary =
      Object.keys(createRequire(import.meta.url).cache).find(path => path.endsWith('.node')) ?? ''
    const [, own] = /(@uwsjs\/[^/]+)/.exec(binary) ?? []
    return { binary: binary.split('/').at(-1)!, version: optionalDependencies[own ?? ''] ?? version }
  },

  /** @returns its version */
  async onnxruntime(_: null): Promise<string> {
    const { env } = await import('onnxruntime-node')
    return env.versions.node ?? env.versions.common
  },

  async model(config: Config): Promise<ModelFacts> {
    const { loadModel } = await import('../model.ts')
    return factsOf(await loadModel(config))
  },

  async fallback(config: Config): Promise<ModelFacts> {
    const { loadModel, loadFallback } = await import('../model.ts')
    return factsOf(loadFallback(config, await loadModel(config))!)
  },

  /** @returns its path */
  async addon(_: null): Promise<string> {
    createRequire(import.meta.url)(ADDON_PATH)
    return ADDON_PATH
  },

  /** @returns the C++ compiler that would compile the addon, null when there is none */
  async compiler(_: null): Promise<string | null> {
    const { findCompiler } = await import('../../native/build.ts')
    return findCompiler()
  },

  async library(path: string | null): Promise<LibraryFacts> {
    const { openLibrary } = await import('../../native/index.ts')
    try {
      const opened = openLibrary(path)
      return { isSoftware: isSoftware(opened.path), opened, problem: null }
    } catch (error) {
      return { isSoftware: isSoftware(path), opened: null, problem: (error as Error).message }
    }
  },

  /** Asks each device who it is and claims none. */
  async devices(path: string | null): Promise<readonly DeviceFacts[]> {
    const { describeDevices } = await import('../../native/index.ts')
    return describeDevices(path)
  },
}

export type Probes = typeof PROBES
export type ProbeName = keyof Probes
export type Input<Name extends ProbeName> = Parameters<Probes[Name]>[0]
export type Value<Name extends ProbeName> = Awaited<ReturnType<Probes[Name]>>

async function factsOf({ name, version, sha256, path, golden, plan }: Model): Promise<ModelFacts> {
  const common = { name, version, sha256, path, goldenWindows: golden?.count ?? 0 }
  if (plan.kind !== 'hailo') return { ...common, hef: null }
  const { readHef } = await import('../hef/hef.ts')
  const { headerVersion, architecture, compilerVersion, software } = readHef(plan.model.hef)
  return { ...common, hef: { headerVersion, architecture, compilerVersion, software } }
}

/** What the software HailoRT calls its devices. It is in the library also when it lists none. */
const SOFTWARE_PRODUCT = 'software HailoRT'

function isSoftware(path: string | null): boolean {
  try {
    return path !== null && readFileSync(path).includes(SOFTWARE_PRODUCT)
  } catch {
    return false // a name that the loader looks up
  }
}
