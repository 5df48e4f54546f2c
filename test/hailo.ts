import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { startServerForTest } from './load.ts'
import { SOFT_LIBRARY } from './native.ts'
import type { StartOptions, TestServer } from './server.ts'

export const SOFT_HEF = join(SHIPPED_MODEL_FOLDER, 'tcn_encoder.soft.hef')

/** A server on a software device of its own, which can be broken while it runs. */
export interface HailoServer {
  readonly server: TestServer
  /** @param faults what is wrong with the device from now on, see native/soft/README.md; '' heals it */
  device(faults: string): Promise<void>
}

/** What selects the software device. Each call makes a device of its own. */
export function softDevice(faults = ''): { env: Record<string, string>; control: string } {
  const folder = mkdtempSync(join(tmpdir(), 'device-'))
  const control = join(folder, 'faults')
  writeFileSync(control, faults)
  const env = {
    INFER_MODE: 'hailo',
    HEF_PATH: SOFT_HEF,
    HAILORT_LIB: SOFT_LIBRARY,
    SOFTHAILORT_LOCK_DIR: folder,
    SOFTHAILORT_CONTROL_FILE: control,
  }
  return { env, control }
}

/** Starts it, and stops it when the test has finished. @param deviceFaults what is wrong with the device at the start */
export async function startHailo(
  env: Record<string, string> = {},
  { deviceFaults = '', ...options }: StartOptions & { deviceFaults?: string } = {},
): Promise<HailoServer> {
  const soft = softDevice(deviceFaults)
  const server = await startServerForTest({ ...soft.env, ...env }, options)
  return {
    server,
    device: async faults => {
      writeFileSync(soft.control, faults)
      await sleep(30) // it looks every 10 ms
    },
  }
}
