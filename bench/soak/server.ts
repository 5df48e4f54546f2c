import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { env, execPath } from 'node:process'
import { SOFT } from '../../native/build.ts'
import { inRealFolder, MANIFEST_NAME } from '../../src/artifacts/current.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../../src/project.ts'
import { type Launched, launch } from '../contenders/launch.ts'
import { Versions } from './versions.ts'

/** A server that is soaked, and by what means it can be made to fail from outside. */
export interface Soaked extends Pick<Launched, 'pid' | 'port'> {
  /** Whether windows can order its workers to fail, see test/faults/faults.ts. */
  readonly obeys: boolean
  /** Breaks the software device, '' heals it, see native/soft/README.md; null: there is none. */
  readonly device: ((faults: string) => void) | null
  /** Of its model, to be changed while it serves; null: it has none, or one that the configuration has put elsewhere. */
  readonly versions: Versions | null
  /** @returns its exit code, or the signal that ended it */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>
}

/**
 * Starts the server that the environment describes, as npm start does. With the CPU's model or the stub its workers are
 * those of the tests, which fail on order; on the software device that fails in their place. What it leaves in the
 * temporary folder goes with this process.
 * @param program another server, a file from the project's folder; it is not made to fail
 */
export async function startSoaked(program: string | null): Promise<Soaked> {
  const settings = Object.fromEntries(
    Object.entries({ LOG_LEVEL: 'fatal', ...env, SIDECAR_PORT: '0' }).flatMap(([key, value]) =>
      value === undefined ? [] : [[key, value]],
    ),
  )
  const { HAILORT_LIB, HEF_PATH, INFER_MODE, MODEL_DIR, MODEL_MANIFEST, ONNX_PATH } = settings
  const onDevice = INFER_MODE === 'hailo' || (INFER_MODE === undefined && HEF_PATH !== undefined)
  const isSoft = onDevice && HAILORT_LIB !== undefined && resolve(PROJECT_FOLDER, HAILORT_LIB) === SOFT.output
  const folder = mkdtempSync(join(tmpdir(), 'soak-'))
  const remove = () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  process.once('exit', remove)
  const control = join(folder, 'faults')
  writeFileSync(control, '')
  if (isSoft) Object.assign(settings, { SOFTHAILORT_LOCK_DIR: folder, SOFTHAILORT_CONTROL_FILE: control })

  const model = onDevice ? HEF_PATH : (ONNX_PATH ?? join(SHIPPED_MODEL_FOLDER, 'model_dynamic.onnx'))
  const isElsewhere = INFER_MODE === 'stub' || MODEL_DIR !== undefined || MODEL_MANIFEST !== undefined
  const versions = isElsewhere || model === undefined ? null : versionsOf(model, folder)
  if (versions !== null) settings[onDevice ? 'HEF_PATH' : 'ONNX_PATH'] = versions.path

  const obeys = program === null && !onDevice
  const file = program ?? (obeys ? 'dist/test/faults/main.js' : 'dist/src/main.js')
  const { pid, port, stop } = await launch([execPath, join(PROJECT_FOLDER, file)], settings)
  return {
    pid,
    port,
    obeys,
    device: isSoft ? faults => writeFileSync(control, faults) : null,
    versions,
    async stop(signal) {
      const ended = await stop(signal)
      remove()
      return ended
    },
  }
}

/** Null where no manifest lies beside the model. */
function versionsOf(model: string, folder: string): Versions | null {
  const path = inRealFolder(resolve(PROJECT_FOLDER, model))
  if (!existsSync(join(dirname(path), MANIFEST_NAME))) return null
  return new Versions(join(folder, 'model'), path)
}
