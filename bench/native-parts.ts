import { CODEC, SHIM, SOFT, type Target } from '../native/build.ts'
import { NETWORK_BENCH } from './device/network.ts'
import { GENERATOR } from './load/load.ts'

/** All that is compiled of what the bench starts. */
export const NATIVE_PARTS: readonly Target[] = [GENERATOR, CODEC, SHIM, SOFT, NETWORK_BENCH]
