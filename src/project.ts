import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of package.json, above the sources and above what is compiled from them alike. */
export const PROJECT_FOLDER = nearestPackage(dirname(fileURLToPath(import.meta.url)))

/** Has the recording, which belongs to no version of a model. */
export const RECORDING_FOLDER = join(PROJECT_FOLDER, 'artifacts')

/** Has a folder for each version of the model that ships with the project. */
export const SHIPPED_MODELS_FOLDER = join(PROJECT_FOLDER, 'artifacts', 'tcn_encoder')

/** The version that ships, with its manifest. */
export const SHIPPED_MODEL_FOLDER = join(SHIPPED_MODELS_FOLDER, '1.0.0')

export const VERSION: string = JSON.parse(readFileSync(join(PROJECT_FOLDER, 'package.json'), 'utf8')).version

function nearestPackage(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : nearestPackage(dirname(folder))
}
