/** What a worker can run windows on. The order is the encoding in a slot and in a ring: append only. */
export const BACKENDS = ['hailo', 'onnx', 'stub'] as const

export type BackendKind = (typeof BACKENDS)[number]

export function perBackend<Value>(value: (backend: BackendKind) => Value): Record<BackendKind, Value> {
  return Object.fromEntries(BACKENDS.map(kind => [kind, value(kind)])) as Record<BackendKind, Value>
}

/** Why a backend cannot be opened, or is lost. A closed list: it is a label of metrics. */
export const BACKEND_FAILURES = [
  'library_missing',
  'library_unsupported',
  'version_mismatch', // library, driver and firmware do not fit each other
  'no_device',
  'device_in_use', // by another process
  'device_lost',
  'device_hot',
  'timeout',
  'aborted',
  'hef_refused',
  'wrong_answers', // not those of the trained model
  'open_failed',
] as const

export type BackendFailure = (typeof BACKEND_FAILURES)[number]

/** A failure, and what was found, in words for the operator. */
export interface BackendFault {
  readonly cause: BackendFailure
  readonly detail: string
}

/** What a device says of itself. */
export interface DeviceReport {
  /** As the system names it, for example a PCI address. */
  readonly id: string
  /** For people, for example `hailo8 (software)`. */
  readonly name: string
  readonly libraryVersion: string
  readonly firmwareVersion: string
  /** Null when the device does not tell. */
  readonly temperatureCelsius: number | null
  readonly clockMhz: number | null
  /** Slowed down, mostly by heat. */
  readonly throttled: boolean
  /** Time it was busy, 0 to 100. */
  readonly utilisationPercent: number
  /** Counts how often this process has opened the device: it grows when a lost one is opened anew. */
  readonly generation: number
}

const SHORTEST_BACKOFF_MS = 100
export const LONGEST_BACKOFF_MS = 5000

/** How long to wait before trying again what has just failed after a wait of `backoffMs`. */
export function longerBackoffMs(backoffMs: number): number {
  return Math.min(Math.max(SHORTEST_BACKOFF_MS, backoffMs * 2), LONGEST_BACKOFF_MS)
}
