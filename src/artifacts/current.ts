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

/** What else may be in the folder; the last one is at the root of a disk that is mounted there. */
const NO_VERSIONS: readonly string[] = [CURRENT, HISTORY, 'lost+found']

/** A folder's name, fit for a path and a line. */
export function isVersionName(name: string): boolean {
  return /^\w[\w.+-]{0,63}$/.test(name) && !NO_VERSIONS.includes(name)
}

/**
 * Folders with a manifest, also one that cannot be read, the newest version last.
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
    .filter(name => isVersionName(name) && hasManifest(join(folder, name)))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
}

/**
 * The folder of the version that is served, with no link left in its path.
 * @throws ArtifactError when there is none, or nobody has said which, or says it with a link
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

/**
 * The name of the version that is served, also when its folder has gone. Null: none, or nobody has said which.
 * @throws ArtifactError when it is not a link that says it
 */
export function servedVersion(folder: string): string | null {
  return hasLink(folder) ? basename(readlinkSync(join(folder, CURRENT))) : onlyVersionIn(folder)
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

/** Also one that leads nowhere. @throws ArtifactError when something else is in its place */
function hasLink(folder: string): boolean {
  const path = join(folder, CURRENT)
  const found = orNull(() => lstatSync(path))
  if (found === null || found.isSymbolicLink()) return found !== null
  throw new ArtifactError(
    `${path} is no link, expected one to a version. Rename it to the version that it is, and promote that`,
  )
}

function realPath(path: string): string | null {
  return orNull(() => realpathSync(path))
}

function orNull<Found>(look: () => Found): Found | null {
  try {
    return look()
  } catch {
    return null
  }
}

/** Where nobody can tell, there is one: a version that is broken must be seen. */
function hasManifest(folder: string): boolean {
  try {
    return statSync(join(folder, MANIFEST_NAME)).isFile()
  } catch (error) {
    return !['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code!)
  }
}
