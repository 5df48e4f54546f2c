import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { env, execPath } from 'node:process'
import { SOFT } from '../../native/build.ts'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { type Launched, launch } from '../contenders/launch.ts'

/** A server that is soaked, and by what means it can be made to fail from outside. */
export interface Soaked extends Pick<Launched, 'pid' | 'port'> {
  /** Whether windows can order its workers to fail, see test/faults/faults.ts. */
  readonly obeys: boolean
  /** Breaks the software device, '' heals it, see native/soft/README.md; null: there is none. */
  readonly device: ((faults: string) => void) | null
  /** @returns its exit code, or the signal that ended it */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>
}

/**
 * Starts the server that the environment describes, as npm start does. With the CPU's model or the stub its workers are
 * those of the tests, which fail on order; on the software device that fails in their place.
 * @param program another server, a file from the project's folder; it is not made to fail
 */
export async function startSoaked(program: string | null): Promise<Soaked> {
  const settings = Object.fromEntries(
    Object.entries({ LOG_LEVEL: 'fatal', ...env, SIDECAR_PORT: '0' }).flatMap(([key, value]) =>
      value === undefined ? [] : [[key, value]],
    ),
  )
  const { HAILORT_LIB, HEF_PATH, INFER_MODE } = settings
  const onDevice = INFER_MODE === 'hailo' || (INFER_MODE === undefined && HEF_PATH !== undefined)
  const isSoft = onDevice && HAILORT_LIB !== undefined && resolve(PROJECT_FOLDER, HAILORT_LIB) === SOFT.output
  const folder = mkdtempSync(join(tmpdir(), 'soak-'))
  const control = join(folder, 'faults')
  writeFileSync(control, '')
  if (isSoft) Object.assign(settings, { SOFTHAILORT_LOCK_DIR: folder, SOFTHAILORT_CONTROL_FILE: control })

  const obeys = program === null && !onDevice
  const file = program ?? (obeys ? 'dist/test/faults/main.js' : 'dist/src/main.js')
  const { pid, port, stop } = await launch([execPath, join(PROJECT_FOLDER, file)], settings)
  return {
    pid,
    port,
    obeys,
    device: isSoft ? faults => writeFileSync(control, faults) : null,
    async stop(signal) {
      const ended = await stop(signal)
      rmSync(folder, { recursive: true, force: true })
      return ended
    },
  }
}
