import { createRequire } from 'node:module'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PROJECT_FOLDER } from '../src/project.ts'

/** Why a device or a stream cannot be opened or was lost. The order is that of Cause in shim/failure.h. */
export const FAILURE_CAUSES = [
  'library_missing',
  'library_unsupported',
  'version_mismatch',
  'no_device',
  'device_in_use',
  'device_lost',
  'device_hot',
  'timeout',
  'aborted',
  'hef_refused',
  'open_failed',
] as const

export type FailureCause = (typeof FAILURE_CAUSES)[number]

/** HailoRT or the device does not do what it was asked to. The message tells what to do about it. */
export class HailoError extends Error {
  readonly code = 'ERR_HAILO'
  readonly failureCause: FailureCause

  constructor(failureCause: FailureCause, message: string) {
    super(message)
    this.name = 'HailoError'
    this.failureCause = failureCause
  }
}

export interface DeviceDescription {
  /** As in HAILO_DEVICE_ID, "0001:01:00.0". */
  readonly id: string
  readonly board: string
  readonly product: string
  readonly serial: string
  /** The firmware's version. */
  readonly firmware: string
  /** "hailo8", "hailo8l" … */
  readonly architecture: string
}

export interface DeviceState {
  /** The hotter of the chip's two sensors; NaN when it does not tell. */
  readonly temperatureCelsius: number
  /** Of the neural network core; 0 when unknown. */
  readonly clockHz: number
  /** The clock is below what it was when the device was opened. */
  readonly isThrottled: boolean
  /** Share of the last second in which a window was on the device, 0 to 100. */
  readonly utilisationPercent: number
  /** How often this process has opened the device. */
  readonly generation: number
}

export interface StreamOptions {
  readonly hef: Uint8Array
  /** HailoRT's names of the input and the outputs. */
  readonly inputName: string
  readonly latentName: string
  /** Null: `motifHead` makes the scores from the latent. */
  readonly motifName: string | null
  readonly motifHead: { readonly weights: Float32Array; readonly bias: Float32Array } | null
  readonly motifCount: number
  /** The motif outputs are logits. */
  readonly isSoftmax: boolean
  /** Null: the HEF carries the z-score. */
  readonly normalisation: { readonly mean: Float32Array; readonly std: Float32Array } | null
  /** HailoRT's own vstreams instead of raw asynchronous transfers. */
  readonly isVstream: boolean
  /** Streams that share one network group in single-model mode. */
  readonly streamCount: number
}

/** One inference stream, for one thread. Windows finish in the order they were submitted. */
export interface HailoStream {
  /** Windows that may be in flight at once, as HailoRT reports it. */
  readonly depth: number
  /** @param window float32[100][9], raw sensor units. Copied before return. @returns false: see failure() */
  submit(window: Float32Array): boolean
  /**
   * Blocks until the oldest window in flight ends, at most `timeoutMs`.
   * @param output float32[64 + motifs]: latent, then motif scores. Untouched unless true.
   * @returns false leaves the stream unusable: see failure(), then close()
   */
  collect(output: Float32Array, timeoutMs: number): boolean
  /** Why the stream is of no use any more, null while it is. To be asked now and then also while idle. */
  failure(): HailoError | null
  /** Does not wait: what is in flight ends on a thread of its own. */
  close(): void
}

/** A share in the vdevice of the process. It is released when the last share and the last stream are closed. */
export interface HailoDevice {
  readonly description: DeviceDescription
  readonly libraryVersion: string
  state(): DeviceState
  /** Whether it has been given up: no stream will work on it, and the next openDevice() opens another. */
  isLost(): boolean
  /** @throws HailoError */
  openStream(options: StreamOptions): Promise<HailoStream>
  close(): void
}

/** What the addon has; shim/addon.cc */
interface Addon {
  openLibrary(path: string): { path: string; version: string }
  openDevice(library: string, options: { deviceId: string; isSingleModel: boolean }): Ticket<AddonDevice>
  describeDevices(library: string): Ticket<DeviceDescription[]>
  awaitTeardowns(timeoutMs: number): boolean
}
interface AddonDevice {
  describe(): DeviceDescription
  state(): DeviceState
  isLost(): boolean
  openStream(options: StreamOptions): Ticket<AddonStream>
  close(): void
}
interface AddonStream extends Omit<HailoStream, 'failure'> {
  failure(): AddonError | null
}
interface AddonError extends Error {
  readonly failureCause: number
}
interface Ticket<Opened> {
  poll(): Opened | undefined
  abandon(): void
}

const ADDON_PATH = join(PROJECT_FOLDER, 'native', 'build', 'hailort.node')
/** Opening a device takes tenths of a second; this is for one that never answers. */
const OPEN_TIMEOUT_MS = 10_000
const POLL_INTERVAL_MS = 5

let addon: Addon | undefined

/** @throws HailoError library_missing when the addon was not built or does not fit this machine */
function loadAddon(): Addon {
  try {
    addon ??= createRequire(import.meta.url)(ADDON_PATH) as Addon
    return addon
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const reason = code === 'MODULE_NOT_FOUND' ? 'it has not been compiled' : message
    throw new HailoError(
      'library_missing',
      `Cannot load ${ADDON_PATH}: ${reason}. Run \`npm run native\`, which needs a C++ compiler (apt install g++)`,
    )
  }
}

/**
 * Opens libhailort, once per process; it takes some 12 ms.
 * @param path null: the library of each supported release is looked for by its own name
 * @throws HailoError library_missing, library_unsupported
 */
export function openLibrary(path: string | null): { path: string; version: string } {
  return translated(() => loadAddon().openLibrary(path ?? ''))
}

/**
 * The vdevice that this process holds, or a new one. Does not block the thread.
 * @throws HailoError
 */
export async function openDevice(options: {
  library: string | null
  /** Null: any. */
  deviceId: string | null
  /** One activated network group for all streams, without HailoRT's scheduler. */
  isSingleModel: boolean
}): Promise<HailoDevice> {
  const { version } = openLibrary(options.library)
  const { isSingleModel } = options
  const device = await opened(
    loadAddon().openDevice(options.library ?? '', { deviceId: options.deviceId ?? '', isSingleModel }),
    'open the device',
  )
  return {
    description: device.describe(),
    libraryVersion: version,
    state: () => device.state(),
    isLost: () => device.isLost(),
    openStream: async streamOptions => {
      const stream = await opened(device.openStream(streamOptions), 'open a stream')
      return {
        depth: stream.depth,
        submit: window => stream.submit(window),
        collect: (output, timeoutMs) => stream.collect(output, timeoutMs),
        failure: () => {
          const failure = stream.failure()
          return failure && hailoErrorOf(failure)
        },
        close: () => stream.close(),
      }
    },
    close: () => device.close(),
  }
}

/** What devices there are. Claims none of them. @throws HailoError */
export function describeDevices(library: string | null): Promise<DeviceDescription[]> {
  openLibrary(library)
  return opened(loadAddon().describeDevices(library ?? ''), 'describe the devices')
}

/** Waits until everything closed has been released. Blocks, at most `timeoutMs`. @returns whether it has */
export function awaitTeardowns(timeoutMs: number): boolean {
  return loadAddon().awaitTeardowns(timeoutMs)
}

async function opened<Opened>(ticket: Ticket<Opened>, action: string): Promise<Opened> {
  for (let waitedMs = 0; waitedMs < OPEN_TIMEOUT_MS; waitedMs += POLL_INTERVAL_MS) {
    const result = translated(() => ticket.poll())
    if (result !== undefined) return result
    await sleep(POLL_INTERVAL_MS)
  }
  ticket.abandon()
  throw new HailoError(
    'timeout',
    `Cannot ${action}: no answer from HailoRT within ${OPEN_TIMEOUT_MS / 1000} s`,
  )
}

function translated<Result>(call: () => Result): Result {
  try {
    return call()
  } catch (error) {
    if (error instanceof Error && 'failureCause' in error && typeof error.failureCause === 'number') {
      throw hailoErrorOf(error as AddonError)
    }
    throw error
  }
}

function hailoErrorOf({ failureCause, message }: AddonError): HailoError {
  return new HailoError(FAILURE_CAUSES[failureCause]!, message)
}
