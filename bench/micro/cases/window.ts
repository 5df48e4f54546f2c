import { loadConfig } from '../../../src/config.ts'
import { goldenWindow } from '../../../src/core/golden.ts'
import { normalise, suspectSensors } from '../../../src/core/normalise.ts'
import { Ring } from '../../../src/core/ring.ts'
import { CHANNELS, parseWindow, readWindow, TIMESTEPS, WINDOW_VALUES } from '../../../src/core/window.ts'
import { encodeResult } from '../../../src/http/reply.ts'
import { loadModel } from '../../../src/model.ts'
import { NOOP_RESULT } from '../../contenders/noop.ts'
import { repeated } from '../case.ts'

const model = await loadModel(loadConfig({}))
const normalisation = model.normalisation!
const window = goldenWindow(model.golden!, 0).slice()
const rows = Array.from({ length: TIMESTEPS }, (_, step) => [
  ...window.subarray(step * CHANNELS, (step + 1) * CHANNELS),
])
export const JSON_BODY = Buffer.from(JSON.stringify({ x: rows }))
const shortJson = Buffer.from(
  JSON.stringify({ x: rows.map(row => row.map(value => Number(value.toFixed(3)))) }),
)
export const BINARY_BODY = Buffer.from(window.buffer)
// uWebSockets lends a piece of its own buffer: a body begins anywhere in it.
const unaligned = Buffer.concat([Buffer.of(0), BINARY_BODY]).subarray(1)
export const SLOT = Ring.create({ capacity: 2, motifCount: 12 }).nextSlot!
const normalised = new Float32Array(WINDOW_VALUES)

// All different, as those of a model are: V8 remembers the texts of numbers that it has seen.
const results = Array.from({ length: 4096 }, (_, index) =>
  NOOP_RESULT.map((value, at) => Math.fround(value * Math.sin(index + at))),
)
let encoded = 0
export const nextResult = () => results[encoded++ % results.length]!

const expectNoFault = (fault: string | null) => {
  if (fault !== null) throw new Error(fault)
}

const decodeJson = (body: Buffer) => expectNoFault(parseWindow(JSON.parse(body.toString()).x, SLOT.input))

/** What is done with the bytes of one window and of its result, in JavaScript. */
export const WINDOW_CASES = [
  repeated(`decode JSON of ${JSON_BODY.length} B: JSON.parse() and parseWindow()`, 10, () =>
    decodeJson(JSON_BODY),
  ),
  repeated(`decode JSON of ${shortJson.length} B: JSON.parse() and parseWindow()`, 10, () =>
    decodeJson(shortJson),
  ),
  repeated('decode binary: readWindow()', 100, () => expectNoFault(readWindow(BINARY_BODY, SLOT))),
  repeated('decode binary, not aligned: readWindow()', 100, () => expectNoFault(readWindow(unaligned, SLOT))),
  repeated('encode JSON: encodeResult()', 100, () => void encodeResult(nextResult())),
  repeated('z-score: normalise()', 100, () => normalise(SLOT.input, normalisation, normalised)),
  repeated('units: suspectSensors()', 100, () => void suspectSensors(SLOT.input, normalisation)),
]
