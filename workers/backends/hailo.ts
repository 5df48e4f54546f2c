import type { DeviceReport } from '../../src/core/backend.ts'
import type { HailoModel } from '../../src/core/stream-task.ts'
import { type Backend, BackendError } from './backend.ts'

/**
 * Opens a stream on the device.
 * @param onDevice told how the device is, at once and whenever reportDevice() is called
 * @throws BackendError
 */
export async function openHailo(
  _model: HailoModel,
  _motifCount: number,
  _onDevice: (report: DeviceReport) => void,
): Promise<Backend> {
  throw new BackendError('library_missing', 'this build has no code for HailoRT', { permanent: true })
}
