import type { BackendFailure, BackendFault, BackendKind, DeviceReport } from '../core/backend.ts'

/** What answers at the moment, for those who tell clients and operators. */
export interface BackendStatus {
  /** Each that serves at least one stream. Empty: no worker has a model. */
  readonly answering: readonly BackendKind[]
  /** Null while every stream that is served has its primary backend. */
  readonly fallback: Fallback | null
  /** Why a primary backend does not serve, of several reasons the gravest. Null while all do, and when nobody knows. */
  readonly fault: BackendFault | null
  /** Null when no stream has a device. */
  readonly device: DeviceReport | null
}

/** Another backend than the configured one answers. */
export interface Fallback {
  readonly from: BackendKind
  readonly to: BackendKind
  readonly cause: BackendFailure
  readonly detail: string
  /** On the monotonic clock. */
  readonly sinceMs: number
}

/** What runs the model, in words: a device by its name, or why there is none. */
export function deviceName(primary: BackendKind, { device, fault }: BackendStatus): string {
  if (primary === 'onnx') return 'cpu'
  if (primary === 'stub') return 'none (stub)'
  if (device !== null) return device.name
  return fault === null ? 'none' : `none (${fault.cause}: ${fault.detail})`
}

/** What answers in place of the configured backend, and why. Null while the configured one does. */
export function fallbackInWords({ fallback }: BackendStatus): string | null {
  return (
    fallback && `${fallback.to} answers in place of ${fallback.from}: ${fallback.cause}: ${fallback.detail}`
  )
}
