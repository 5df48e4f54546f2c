import { build, CODEC, EXIT, SHIM, SOFT } from '../native/build.ts'
import { COMPILER } from './native.ts'

/** Before all tests: servers have the codec that they have on a machine like this one, and no two files compile one library. */
export async function setup(): Promise<void> {
  if (COMPILER !== null) await Promise.all([CODEC, EXIT, SHIM, SOFT].map(target => build(target)))
}
