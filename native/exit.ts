import { createRequire } from 'node:module'
import { join } from 'node:path'
import { PROJECT_FOLDER } from '../src/project.ts'

const ADDON_PATH = join(PROJECT_FOLDER, 'native', 'build', 'exit.node')

/** `_exit()` of C, which waits for no thread; see exit/addon.cc. Null where it has not been compiled for this machine. */
export function loadEndNow(): ((code: number) => never) | null {
  try {
    return createRequire(import.meta.url)(ADDON_PATH).endNow
  } catch {
    return null
  }
}
