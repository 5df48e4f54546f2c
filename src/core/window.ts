/** Time steps in one window: one second at 100 Hz. */
export const TIMESTEPS = 100
/** ax ay az gx gy gz mx my mz */
export const CHANNELS = 9
export const WINDOW_VALUES = TIMESTEPS * CHANNELS
/** float32[100][9], little-endian, row-major */
export const WINDOW_BYTES = WINDOW_VALUES * 4
export const LATENT_DIMS = 64
/** As many motif scores as fit into a slot behind the latent. */
export const MAX_MOTIFS = 44

export const CHANNEL_NAMES = ['ax', 'ay', 'az', 'gx', 'gy', 'gz', 'mx', 'my', 'mz'] as const

/** Three channels each, in this order. A sample beyond the limit cannot come from a real sensor. */
export const SENSORS = [
  { name: 'accelerometer', unit: 'm/s²', limit: 500 },
  { name: 'gyroscope', unit: 'rad/s', limit: 35 },
  { name: 'magnetometer', unit: 'µT', limit: 2000 },
] as const

const CHANNEL_SENSORS = CHANNEL_NAMES.map((_, channel) => SENSORS[Math.floor(channel / 3)]!)
const CHANNEL_LIMITS = Float64Array.from(CHANNEL_SENSORS, sensor => sensor.limit)

/**
 * Copies a window from the wire into a slot and checks it there.
 * @param bytes 3600 bytes, little-endian float32[100][9]
 * @param target the same bytes twice, as float32[900] and as uint8[3600]
 * @returns what is wrong with the window, null when it is good
 */
export function readWindow(
  bytes: Uint8Array,
  target: { input: Float32Array; inputBytes: Uint8Array },
): string | null {
  if (bytes.length !== WINDOW_BYTES) {
    return `Cannot read window: the body has ${bytes.length} bytes, expected ${WINDOW_BYTES} (little-endian float32[100][9])`
  }
  target.inputBytes.set(bytes)
  const window = target.input
  for (let step = 0; step < WINDOW_VALUES; step += CHANNELS) {
    for (let channel = 0; channel < CHANNELS; channel++) {
      const value = window[step + channel]!
      if (!withinLimit(value, channel)) return outOfRange(step / CHANNELS, channel, value)
    }
  }
  return null
}

/**
 * Writes a window that came as JSON into a slot, checking it on the way.
 * @param rows whatever the client sent, expected 100 arrays of 9 numbers
 * @param window float32[100][9]; holds rubbish when the window is refused
 * @returns what is wrong with the window, null when it is good
 */
export function parseWindow(rows: unknown, window: Float32Array): string | null {
  if (!Array.isArray(rows)) {
    return `Cannot parse window: got ${kindOf(rows)}, expected an array of 100 rows of 9 numbers`
  }
  if (rows.length !== TIMESTEPS) {
    return `Cannot parse window: it has ${rows.length} rows, expected ${TIMESTEPS}`
  }
  for (let step = 0; step < TIMESTEPS; step++) {
    const row: unknown = rows[step]
    if (!Array.isArray(row)) {
      return `Cannot parse window: row ${step} is ${kindOf(row)}, expected an array of 9 numbers`
    }
    if (row.length !== CHANNELS) {
      return `Cannot parse window: row ${step} has ${row.length} channels, expected ${CHANNELS} (${CHANNEL_NAMES.join(' ')})`
    }
    for (let channel = 0; channel < CHANNELS; channel++) {
      const value: unknown = row[channel]
      if (typeof value !== 'number') {
        return `Cannot parse window: row ${step} channel ${channel} (${CHANNEL_NAMES[channel]}) is ${kindOf(value)}, expected a number`
      }
      if (!withinLimit(value, channel)) return outOfRange(step, channel, value)
      window[step * CHANNELS + channel] = value
    }
  }
  return null
}

function withinLimit(value: number, channel: number): boolean {
  return Math.abs(value) <= CHANNEL_LIMITS[channel]! // false for NaN too
}

function outOfRange(step: number, channel: number, value: number): string {
  const { limit, unit } = CHANNEL_SENSORS[channel]!
  return `Cannot accept window: row ${step} channel ${channel} (${CHANNEL_NAMES[channel]}) is ${value}, expected a finite number from -${limit} to ${limit} ${unit}`
}

/** The kind of a JSON value, in words. The value itself is never echoed: it is the client's. */
function kindOf(value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
