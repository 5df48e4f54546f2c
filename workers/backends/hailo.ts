import {
  type DeviceDescription,
  type FailureCause,
  type HailoDevice,
  HailoError,
  type HailoStream,
  openDevice,
} from '../../native/index.ts'
import type { BackendFault, DeviceReport } from '../../src/core/backend.ts'
import type { Outcome } from '../../src/core/outcome.ts'
import type { HailoModel } from '../../src/core/stream-task.ts'
import { requireArchitecture } from '../../src/hef/architecture.ts'
import { HefError } from '../../src/hef/error.ts'
import { type Backend, BackendError } from './backend.ts'

/** A window takes less than a millisecond. A device that is silent for so long has lost it, and its stream. */
const COLLECT_TIMEOUT_MS = 500

/** What somebody must change before it can work. */
const PERMANENT: readonly FailureCause[] = [
  'library_missing',
  'library_unsupported',
  'version_mismatch',
  'hef_refused',
]

/**
 * Opens a stream on the device, which all workers of the process share. Does not block the thread.
 * @param onDevice told how the device is, at once and whenever reportDevice() is called
 * @throws BackendError
 */
export async function openHailo(
  model: HailoModel,
  motifCount: number,
  onDevice: (report: DeviceReport) => void,
): Promise<Backend> {
  try {
    const device = await shareOf(model)
    requireArchitecture(model, isSoftware(device.description) ? 'software' : device.description.architecture)
    const stream = await device.openStream({
      ...model,
      motifCount,
      isSoftmax: model.motifActivation === 'softmax',
      isVstream: model.io === 'vstream',
    })
    const backend = new HailoBackend(device, stream, onDevice)
    backend.reportDevice()
    return backend
  } catch (error) {
    letGoIfLost()
    if (error instanceof HefError) throw new BackendError('hef_refused', error.message, { permanent: true })
    if (!(error instanceof HailoError)) throw error
    const permanent = PERMANENT.includes(error.failureCause)
    throw new BackendError(error.failureCause, error.message, { permanent })
  }
}

/**
 * This thread's share in the vdevice. A stream that failed is opened again on the same vdevice, so the
 * share outlives it: until the vdevice is lost too, or the thread ends.
 */
let share: HailoDevice | undefined

async function shareOf(model: HailoModel): Promise<HailoDevice> {
  letGoIfLost()
  share ??= await openDevice({
    library: model.library,
    deviceId: model.deviceId,
    isSingleModel: model.scheduler === 'none',
  })
  return share
}

/** A lost vdevice is released, and the device free to be opened again, when the last share is closed. */
function letGoIfLost(): void {
  if (!share?.isLost()) return
  share.close()
  share = undefined
}

class HailoBackend implements Backend {
  readonly depth: number
  readonly batchSize = 1
  /** The device tells of no window before it is asked for it. */
  readonly ready = 0
  readonly #device: HailoDevice
  readonly #stream: HailoStream
  readonly #onDevice: (report: DeviceReport) => void

  constructor(device: HailoDevice, stream: HailoStream, onDevice: (report: DeviceReport) => void) {
    this.depth = stream.depth
    this.#device = device
    this.#stream = stream
    this.#onDevice = onDevice
  }

  /** What it gives is told by the collect() of the same window. */
  submit(input: Float32Array): void {
    this.#stream.submit(input)
  }

  collect(output: Float32Array): Outcome {
    if (this.#stream.collect(output, COLLECT_TIMEOUT_MS)) return 'ok'
    return this.failure?.cause === 'timeout' ? 'deadline_exceeded' : 'model_unavailable'
  }

  get failure(): BackendFault | null {
    const failure = this.#stream.failure()
    return failure && { cause: failure.failureCause, detail: failure.message }
  }

  reportDevice(): void {
    const { description, libraryVersion } = this.#device
    const { temperatureCelsius, clockHz, isThrottled, utilisationPercent, generation } = this.#device.state()
    this.#onDevice({
      id: description.id,
      name: isSoftware(description) ? `${description.architecture} (software)` : description.architecture,
      libraryVersion,
      firmwareVersion: description.firmware,
      temperatureCelsius: Number.isNaN(temperatureCelsius) ? null : temperatureCelsius,
      clockMhz: clockHz === 0 ? null : clockHz / 1e6,
      throttled: isThrottled,
      utilisationPercent,
      generation,
    })
  }

  close(): void {
    this.#stream.close()
    letGoIfLost()
  }
}

/** The software HailoRT names itself in what every device tells of its maker. */
function isSoftware({ product }: DeviceDescription): boolean {
  return product.startsWith('software')
}
