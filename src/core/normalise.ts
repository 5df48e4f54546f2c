import { CHANNELS, SENSORS, TIMESTEPS, WINDOW_VALUES } from './window.ts'

/** The z-score of the model's manifest, per channel, in raw sensor units. */
export interface Normalisation {
  /** float32[9] */
  readonly mean: Float32Array
  /** float32[9], > 0 */
  readonly std: Float32Array
}

/** Windows whose mean lies further off than this are taken to be in other units. */
const SUSPECT_SIGMA = 6

/**
 * Writes the z-score of `window` to `target`: (x - mean) / std in float32, as the model was trained.
 * @param window float32[100][9], raw sensor units. @param target float32[100][9], no unit.
 */
export function normalise(window: Float32Array, { mean, std }: Normalisation, target: Float32Array): void {
  for (let channel = 0; channel < CHANNELS; channel++) {
    const channelMean = mean[channel]!
    const channelStd = std[channel]!
    for (let value = channel; value < WINDOW_VALUES; value += CHANNELS) {
      target[value] = Math.fround(window[value]! - channelMean) / channelStd
    }
  }
}

/**
 * The sensors whose mean over the window is more than 6 sigma away from the data the model was
 * trained on, as a bit mask over SENSORS. Degrees per second sent for rad/s is the common mistake.
 */
export function suspectSensors(window: Float32Array, { mean, std }: Normalisation): number {
  let mask = 0
  for (let sensor = 0; sensor < SENSORS.length; sensor++) {
    const first = 3 * sensor
    // Three sums at a time: none waits for the others.
    let x = 0
    let y = 0
    let z = 0
    for (let value = first; value < WINDOW_VALUES; value += CHANNELS) {
      x += window[value]!
      y += window[value + 1]!
      z += window[value + 2]!
    }
    const isSuspect = (sum: number, channel: number) =>
      Math.abs(sum / TIMESTEPS - mean[channel]!) > SUSPECT_SIGMA * std[channel]!
    if (isSuspect(x, first) || isSuspect(y, first + 1) || isSuspect(z, first + 2)) mask |= 1 << sensor
  }
  return mask
}
