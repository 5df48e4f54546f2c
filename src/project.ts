import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of package.json, above the sources and above what is compiled from them alike. */
export const PROJECT_FOLDER = nearestPackage(dirname(fileURLToPath(import.meta.url)))

export const VERSION: string = JSON.parse(readFileSync(join(PROJECT_FOLDER, 'package.json'), 'utf8')).version

function nearestPackage(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : nearestPackage(dirname(folder))
}
