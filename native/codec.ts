import { createRequire } from 'node:module'
import { join } from 'node:path'
import { PROJECT_FOLDER } from '../src/project.ts'

/**
 * The hot copies and conversions in C++; codec/addon.cc. It says of windows only whether they are surely good:
 * others are for the caller to judge, and `window` holds rubbish then.
 */
export interface NativeCodec {
  /**
   * @param from where in `bytes` a little-endian float32[100][9] begins, which ends with them
   * @param window float32[100][9], in shared memory or not
   */
  copyWindow(bytes: Uint8Array, from: number, window: Float32Array): boolean
  /** Reads `{"<key>": [100 rows of 9 numbers]}`, bit for bit as Math.fround() of what JSON.parse() gives. */
  parseWindow(text: Uint8Array, key: string, window: Float32Array): boolean
  /** Reads the rows alone. */
  parseRows(text: Uint8Array, window: Float32Array): boolean
  /** What a JSON array of them has between its brackets, in the fewest digits that tell each float32 */
  joinNumbers(values: Float32Array): string
}

const ADDON_PATH = join(PROJECT_FOLDER, 'native', 'build', 'codec.node')

/** The codec; or why there is none, in words: it has not been compiled, or not for this machine. */
export function loadCodec(): NativeCodec | string {
  try {
    return createRequire(import.meta.url)(ADDON_PATH) as NativeCodec
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    return code === 'MODULE_NOT_FOUND' ? 'the native one is not compiled' : message
  }
}
