import { lstatSync, readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Config } from '../config.ts'

/**
 * The versions of a model, a folder each, and which of them is served.
 *
 *   tcn_encoder/
 *     1.0.0/     model.json, and the files that it lists with their sha256
 *     1.1.0/
 *     current    a link to the version that is served. A single version is served without one
 *     history    which version was promoted when, for going back
 */
export const MANIFEST_NAME = 'model.json'
export const CURRENT = 'current'
export const HISTORY = 'history'

/** Something in a folder of versions is not as it should be. In words for people. */
export class ArtifactError extends Error {}

/** A folder's name, fit for a path and a line. */
export function isVersionName(name: string): boolean {
  return /^\w[\w.+-]{0,63}$/.test(name) && name !== CURRENT && name !== HISTORY
}

/**
 * Folders with a manifest, the newest version last.
 * @throws ArtifactError when the folder cannot be read
 */
export function versionsIn(folder: string): readonly string[] {
  let names: string[]
  try {
    names = readdirSync(folder)
  } catch (cause) {
    throw new ArtifactError(
      `${folder} cannot be read (${(cause as NodeJS.ErrnoException).code}), expected a folder of versions. Set MODEL_DIR to one`,
    )
  }
  return names
    .filter(name => isVersionName(name) && isFile(join(folder, name, MANIFEST_NAME)))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
}

/**
 * The folder of the version that is served, with no link left in its path.
 * @throws ArtifactError when there is none, or nobody has said which
 */
export function currentVersion(folder: string): string {
  const found = whereItLeads(folder)
  if (found !== null) return found
  const link = join(folder, CURRENT)
  if (hasLink(folder)) {
    throw new ArtifactError(`${link} leads to no folder. Promote a version: npm run artifacts -- list`)
  }
  const versions = versionsIn(folder)
  if (versions.length === 0) {
    throw new ArtifactError(`${folder} has no version: no folder in it has a ${MANIFEST_NAME}. Set MODEL_DIR`)
  }
  throw new ArtifactError(
    `${folder} has the versions ${versions.join(', ')} and no link ${CURRENT} that says which is served. Promote one: npm run artifacts -- promote ${versions.at(-1)}`,
  )
}

/** The name of the version that is served, also when its folder has gone. Null: none, or nobody has said which. */
export function servedVersion(folder: string): string | null {
  if (!hasLink(folder)) return onlyVersionIn(folder)
  try {
    return basename(readlinkSync(join(folder, CURRENT)))
  } catch {
    return null
  }
}

/**
 * The path whose end changes when another model is to be served: the link to the current version, or the file that the
 * configuration names. Null in stub mode.
 */
export function servedPath({ mode, hailo, onnxPath, modelsFolder }: Config): string | null {
  if (mode === 'stub') return null
  return (hailo === null ? onnxPath : hailo.hefPath) ?? join(modelsFolder, CURRENT)
}

/** The same file, in the folder that the links on its way lead to: what lies beside it is then of the same version. */
export function inRealFolder(path: string): string {
  return join(realPath(dirname(path)) ?? dirname(path), basename(path))
}

export type ModelKind = 'onnx' | 'hef'

/** What is served where a version has the same network for batches of one and of any size. */
const PREFERRED = 'model_dynamic.onnx'

/**
 * Which of the files of a version is its model.
 * @throws ArtifactError when none is, or it may be one or the other
 */
export function modelIn(names: readonly string[], kind: ModelKind, manifestPath: string): string {
  const models = names.filter(name => name.endsWith(`.${kind}`))
  const model = models.length === 1 ? models[0] : models.find(name => name === PREFERRED)
  if (model !== undefined) return model
  const key = kind === 'hef' ? 'HEF_PATH' : 'ONNX_PATH'
  throw new ArtifactError(
    models.length === 0
      ? `${manifestPath}: files lists no *.${kind}. Add it, or set ${key}`
      : `${manifestPath}: files lists ${models.join(', ')}, expected one *.${kind}. Set ${key} to the one that is meant`,
  )
}

/** Null: it leads to no folder, or there is none and not one version alone. */
function whereItLeads(folder: string): string | null {
  const name = hasLink(folder) ? CURRENT : onlyVersionIn(folder)
  return name && realPath(join(folder, name))
}

function onlyVersionIn(folder: string): string | null {
  try {
    const [only, ...others] = versionsIn(folder)
    return only === undefined || others.length > 0 ? null : only
  } catch {
    return null
  }
}

/** Also one that leads nowhere. */
function hasLink(folder: string): boolean {
  try {
    lstatSync(join(folder, CURRENT))
    return true
  } catch {
    return false
  }
}

function realPath(path: string): string | null {
  try {
    return realpathSync(path)
  } catch {
    return null
  }
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile()
  } catch {
    return false
  }
}
