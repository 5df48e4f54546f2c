import { readFileSync, writeFileSync } from 'node:fs'
import { loadConfig } from '../../src/config.ts'
import type { BackendFailure, BackendFault, DeviceReport } from '../../src/core/backend.ts'
import type { HailoModel } from '../../src/core/stream-task.ts'
import { loadModel } from '../../src/model.ts'
import { type Backend, BackendError } from '../../workers/backends/backend.ts'
import { openOnnx } from '../../workers/backends/onnx.ts'

/** What the file says that HAILO_DEVICE_ID names, in JSON: the test writes it, the worker reads it. */
export interface PretendedDevice {
  /** Null: it is there and works. */
  readonly fault: (BackendFault & { readonly permanent?: boolean }) | null
  /** It answers, but not like the model. */
  readonly wrong?: boolean
  /** It answers with what is no number. */
  readonly nan?: boolean
  /** Lost by itself, before any window finds out. */
  readonly idle?: boolean
  readonly throttled?: boolean
  readonly temperatureCelsius?: number
}

export function writeDevice(path: string, device: PretendedDevice): void {
  writeFileSync(path, JSON.stringify(device))
}

let generation = 0

/** Answers like the device, with ONNX Runtime, as long as the file says that there is one. */
export async function openPretendedHailo(
  { deviceId }: HailoModel,
  motifCount: number,
  onDevice: (report: DeviceReport) => void,
): Promise<Backend> {
  const read = (): PretendedDevice => JSON.parse(readFileSync(deviceId!, 'utf8'))
  const { fault } = read()
  if (fault !== null)
    throw new BackendError(fault.cause, fault.detail, { permanent: fault.permanent ?? false })
  const { plan } = await loadModel(loadConfig({}))
  if (plan.kind !== 'onnx') throw new Error('the shipped model is not ONNX')
  const backend = await openOnnx(plan.model, motifCount)
  generation++
  let failure: BackendFault | null = null
  const reportDevice = () => {
    const { temperatureCelsius = 44.5, throttled = false } = read()
    onDevice({
      id: 'pretended-0',
      name: 'hailo8 (pretended)',
      libraryVersion: '4.23.0',
      firmwareVersion: '4.23.0',
      temperatureCelsius,
      clockMhz: throttled ? 200 : 400,
      throttled,
      utilisationPercent: 12.5,
      generation,
    })
  }
  reportDevice()
  return {
    depth: backend.depth,
    get batchSize() {
      return backend.batchSize
    },
    // What is ordered of the next window may take for ever.
    ready: 0,
    get failure() {
      const { fault, idle = false } = read()
      if (idle) failure = fault
      return failure
    },
    submit: input => backend.submit(input),
    async collect(output) {
      const { fault, wrong = false, nan = false } = read()
      if (fault !== null) {
        failure = { cause: fault.cause, detail: fault.detail }
        return LATE.has(fault.cause) ? 'deadline_exceeded' : 'model_unavailable'
      }
      const outcome = await backend.collect(output)
      if (wrong) output.reverse()
      if (nan) output.fill(Number.NaN)
      return outcome
    },
    reportDevice,
    close: () => backend.close(),
  }
}

const LATE: ReadonlySet<BackendFailure> = new Set(['timeout'])
