import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { cutWindows, loadRecording } from '../bench/recording.ts'
import { softmax } from '../src/core/motif-head.ts'
import { normalise, suspectSensors } from '../src/core/normalise.ts'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { GOLDEN, MOTIF_COUNT, windowOf } from './windows.ts'

const { normalization } = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'))
const NORMALISATION = {
  mean: Float32Array.from(normalization.mean),
  std: Float32Array.from(normalization.std),
}
/** Every recorded window that ships with the project: 1,134 of the replay and the 64 golden ones. */
const WINDOWS = [
  ...cutWindows(loadRecording(), 50).map(({ input }) => input),
  ...Array.from({ length: GOLDEN.count }, (_, n) => windowOf(n)),
]

test('normalise() writes (x - mean) / std, rounded to float32 after each step', () => {
  const { fround } = Math
  const { mean, std } = NORMALISATION
  const target = new Float32Array(900)
  for (const window of WINDOWS) {
    normalise(window, NORMALISATION, target)
    const wrong = target.findIndex(
      (value, at) => !Object.is(value, fround(fround(window[at]! - mean[at % 9]!) / std[at % 9]!)),
    )
    expect(wrong).toBe(-1)
  }
})

test('normalise() turns the mean of a channel into 0 and one sigma into 1', () => {
  const { mean, std } = NORMALISATION
  const target = new Float32Array(900)
  normalise(repeated(mean), NORMALISATION, target)
  expect(target).toEqual(new Float32Array(900))
  normalise(repeated(mean.map((value, channel) => value + std[channel]!)), NORMALISATION, target)
  for (const value of target) expect(value).toBeCloseTo(1, 6)
})

test('suspectSensors() suspects no sensor in any recorded window', () => {
  expect(WINDOWS).toHaveLength(1198)
  expect(WINDOWS.filter(window => suspectSensors(window, NORMALISATION) !== 0)).toEqual([])
})

// A gyroscope at rest reads the same in every unit: some windows cannot tell.
test.each([
  ['accelerometer', 'milli-g', { bit: 0b001, channels: [0, 1, 2], factor: 1000 / 9.80665, share: 1 }],
  ['gyroscope', 'degrees per second', { bit: 0b010, channels: [3, 4, 5], factor: 180 / Math.PI, share: 0.8 }],
  ['magnetometer', 'milligauss', { bit: 0b100, channels: [6, 7, 8], factor: 10, share: 1 }],
])('suspectSensors() names the %s, and it alone, when it sends %s', (_sensor, _unit, wrong) => {
  const masks = WINDOWS.map(window => {
    const scaled = window.map((value, at) => (wrong.channels.includes(at % 9) ? value * wrong.factor : value))
    return suspectSensors(scaled, NORMALISATION)
  })
  const named = masks.filter(mask => mask === wrong.bit)
  expect(named.length).toBeGreaterThanOrEqual(wrong.share * WINDOWS.length)
  expect(masks.filter(mask => mask !== 0)).toEqual(named)
})

test.each([0, 1, 2, 3, 4, 5, 6, 7, 8])(
  'suspectSensors() draws the line at 6 sigma in channel %d',
  channel => {
    const at = (sigmas: number) => {
      const row = NORMALISATION.mean.slice()
      row[channel]! += sigmas * NORMALISATION.std[channel]!
      return suspectSensors(repeated(row), NORMALISATION)
    }
    const bit = 1 << Math.floor(channel / 3)
    expect([at(-6.01), at(-5.99), at(5.99), at(6.01)]).toEqual([bit, 0, 0, bit])
  },
)

test('softmax() turns the trained logits into the trained probabilities, also in place', () => {
  const logits = floatsOf('golden_motif_logits.f32')
  for (let n = 0; n < GOLDEN.count; n++) {
    const [begin, end] = [n * MOTIF_COUNT, (n + 1) * MOTIF_COUNT]
    const scores = new Float32Array(MOTIF_COUNT)
    softmax(logits.subarray(begin, end), scores)
    expect(sumOf(scores)).toBeCloseTo(1, 6)
    GOLDEN.motifScores.subarray(begin, end).forEach((score, motif) => {
      expect(scores[motif]).toBeCloseTo(score, 6)
    })
    softmax(logits.subarray(begin, end), logits.subarray(begin, end))
    expect(logits.subarray(begin, end)).toEqual(scores)
  }
})

test.each([
  [
    [3e38, 0, -3e38],
    [1, 0, 0],
  ],
  [
    [-3e38, -3e38],
    [0.5, 0.5],
  ],
  [
    [1000, 1000, 1000, 1000],
    [0.25, 0.25, 0.25, 0.25],
  ],
  [[-1000], [1]],
])('softmax() survives %j', (logits, scores) => {
  const actual = new Float32Array(logits.length)
  softmax(Float32Array.from(logits), actual)
  expect([...actual]).toEqual(scores)
})

/** A window whose 100 rows are all the same. */
function repeated(row: Float32Array): Float32Array {
  return Float32Array.from({ length: 900 }, (_, at) => row[at % 9]!)
}

function sumOf(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value, 0)
}

function floatsOf(name: string): Float32Array {
  return new Float32Array(Uint8Array.from(readFileSync(join(SHIPPED_MODEL_FOLDER, name))).buffer)
}
