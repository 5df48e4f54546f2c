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
  for (let step = 0; step < WINDOW_VALUES; step += CHANNELS) {
    for (let channel = 0; channel < CHANNELS; channel++) {
      target[step + channel] = Math.fround(window[step + channel]! - mean[channel]!) / std[channel]!
    }
  }
}

/**
 * The sensors whose mean over the window is more than 6 sigma away from the data the model was
 * trained on, as a bit mask over SENSORS. Degrees per second sent for rad/s is the common mistake.
 */
export function suspectSensors(window: Float32Array, { mean, std }: Normalisation): number {
  let mask = 0
  for (let channel = 0; channel < CHANNELS; channel++) {
    let sum = 0
    for (let value = channel; value < WINDOW_VALUES; value += CHANNELS) sum += window[value]!
    const sigmas = Math.abs(sum / TIMESTEPS - mean[channel]!) / std[channel]!
    if (sigmas > SUSPECT_SIGMA) mask |= 1 << Math.floor((channel * SENSORS.length) / CHANNELS)
  }
  return mask
}
