import { build, CODEC } from '../native/build.ts'
import { COMPILER } from './native.ts'

/** Before all tests: servers are tested with the codec that they have on a machine like this one. */
export async function setup(): Promise<void> {
  if (COMPILER !== null) await build(CODEC)
}
