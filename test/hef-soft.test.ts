import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { normalise } from '../src/core/normalise.ts'
import { type HeaderVersion, openContainer } from '../src/hef/container.ts'
import { type Quantisation, readHef } from '../src/hef/hef.ts'
import { readInt8Model } from '../src/hef/int8-model.ts'
import { decodeHef } from '../src/hef/schema.ts'
import { motifHead, type SoftHefOptions, softHef } from '../src/hef/soft-hef.ts'
import {
  decodeSoftNetwork,
  encodeSoftNetwork,
  type SoftLayer,
  type SoftNetwork,
} from '../src/hef/soft-network.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../src/project.ts'

const TIMESTEPS = 100
const CHANNELS = 9
const LATENT_DIMS = 64
const MOTIFS = 12
const WINDOWS = 64

/** Of the model that ships, from the project's folder. */
const FOLDER = relative(PROJECT_FOLDER, SHIPPED_MODEL_FOLDER)
const manifest = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'))
const normalisation = {
  mean: Float32Array.from(manifest.normalization.mean),
  std: Float32Array.from(manifest.normalization.std),
}
const model = readInt8Model(
  readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.int8.json'), 'utf8'),
  readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.int8.bin')),
)
const windows = floatsOf('golden_windows.f32')
const goldenLatents = readFileSync(join(SHIPPED_MODEL_FOLDER, 'golden_int8_latent_q.u8'))
const goldenLogits = floatsOf('golden_int8_motif_logits.f32')
const motifLogits = { min: -2.5, max: 7.5 }

test('the soft HEF and the motif head that ship are what their model makes, and the manifest lists them', () => {
  const head = Buffer.from(motifHead(model).buffer)
  for (const [name, bytes] of [
    ['tcn_encoder.soft.hef', hefOf({ headerVersion: 1 })],
    ['motif_head.f32', head],
  ] as const) {
    expect(readFileSync(join(SHIPPED_MODEL_FOLDER, name)).equals(bytes)).toBe(true)
    expect(manifest.files[name]).toEqual({ bytes: bytes.length, sha256: sha256Of(bytes) })
  }
  expect(manifest.motif_head).toEqual({
    version: '1.0.0',
    file: 'motif_head.f32',
    activation: 'softmax',
    input: 'latent',
  })
})

test.each([0, 1, 2, 3] as const)(
  'softHef() with header version %d reads back as a soft HEF',
  headerVersion => {
    const { networkGroups, ...hef } = readHef(hefOf({ headerVersion }))
    expect(hef).toMatchObject({ headerVersion, software: true, architecture: 'hailo8' })
    expect(networkGroups).toEqual([
      {
        name: 'tcn_encoder',
        bottleneckFps: 20_000,
        latencyMs: expect.closeTo(0.12, 9),
        inputs: [
          {
            kind: 'plain',
            name: 'tcn_encoder/input_layer1',
            originalNames: ['imu_window'],
            shape: { height: 1, width: 100, features: 9 },
            hardwareShape: { height: 1, width: 104, features: 9 },
            hardwareBytes: 936,
            order: 'NHCW',
            dataBytes: 1,
            quantisation: [quantisationOf(0.05319397151470184, 125)],
          },
        ],
        outputs: [
          {
            kind: 'plain',
            name: 'tcn_encoder/latent',
            originalNames: ['latent'],
            shape: { height: 1, width: 1, features: 64 },
            hardwareShape: { height: 1, width: 1, features: 64 },
            hardwareBytes: 64,
            order: 'NC',
            dataBytes: 1,
            quantisation: [quantisationOf(0.023968281224370003, 117)],
          },
        ],
      },
    ])
  },
)

test('softHef() gives the same bytes for the same model and options', () => {
  expect(hefOf({ motifLogits })).toEqual(hefOf({ motifLogits }))
})

test('softHef() with motifs puts the logits out, padded to 16, in a range that holds them with a margin', () => {
  const [group] = readHef(hefOf({ motifLogits })).networkGroups
  expect(group!.outputs.map(({ name }) => name)).toEqual(['tcn_encoder/latent', 'tcn_encoder/motif_logits'])
  const { hardwareBytes, shape, quantisation } = group!.outputs[1]!
  expect({ hardwareBytes, features: shape.features }).toEqual({ hardwareBytes: 16, features: 12 })
  const [{ limitMin, limitMax, scale, zeroPoint }] = quantisation as [Quantisation]
  expect(limitMin).toBeCloseTo(-3.5, 1)
  expect(limitMax).toBeCloseTo(8.5, 1)
  expect(Number.isInteger(zeroPoint)).toBe(true)
  expect((255 - zeroPoint) * scale).toBeCloseTo(limitMax, 5)
})

test('the network in the soft HEF gives the golden latents, bit by bit', () => {
  const network = networkIn(hefOf({}))
  const [input] = readHef(hefOf({})).networkGroups[0]!.inputs
  const quantise = (value: number) => quantised(value, input!.quantisation[0]!)
  for (let window = 0; window < WINDOWS; window += 4) {
    const normalised = new Float32Array(TIMESTEPS * CHANNELS)
    normalise(windowAt(window), normalisation, normalised)
    const tensors = run(network, Int32Array.from(transposed(normalised), quantise))
    const latent = tensors[network.outputs[0]!.tensor]
    expect(latent).toEqual([...goldenLatents.subarray(window * LATENT_DIMS, (window + 1) * LATENT_DIMS)])
  }
})

test('the network in the soft HEF with motifs gives the golden logits, bit by bit', () => {
  const network = networkIn(hefOf({ motifLogits }))
  expect(network.outputs.map(({ stream }) => stream)).toEqual([
    'tcn_encoder/latent',
    'tcn_encoder/motif_logits',
  ])
  for (const window of [0, 31, 63]) {
    const [quantisation] = readHef(hefOf({})).networkGroups[0]!.inputs[0]!.quantisation
    const normalised = new Float32Array(TIMESTEPS * CHANNELS)
    normalise(windowAt(window), normalisation, normalised)
    const input = Int32Array.from(transposed(normalised), value => quantised(value, quantisation!))
    const logits = run(network, input)[network.outputs[1]!.tensor]
    expect(logits).toEqual([...goldenLogits.subarray(window * MOTIFS, (window + 1) * MOTIFS)])
  }
})

test('the soft HEF that ends at the latent carries nothing of the motif head', () => {
  expect(networkIn(hefOf({})).tensors.some(({ channels }) => channels === MOTIFS)).toBe(false)
  expect(networkIn(hefOf({ motifLogits })).layers).toHaveLength(networkIn(hefOf({})).layers.length + 1)
})

test('motifHead() turns latents of the device into the golden logits', () => {
  const head = motifHead(model)
  expect(head).toHaveLength(MOTIFS * LATENT_DIMS + MOTIFS)
  const { scale, zeroPoint } = model.tensors.get('latent')!.quantisation!
  const latents = Float64Array.from(goldenLatents, q => (q - zeroPoint) * scale)
  for (let window = 0; window < WINDOWS; window++) {
    for (let motif = 0; motif < MOTIFS; motif++) {
      let logit = head[MOTIFS * LATENT_DIMS + motif]!
      for (let index = 0; index < LATENT_DIMS; index++) {
        logit += head[motif * LATENT_DIMS + index]! * latents[window * LATENT_DIMS + index]!
      }
      expect(Math.abs(logit - goldenLogits[window * MOTIFS + motif]!)).toBeLessThan(1e-5)
    }
  }
})

const SMALL: SoftNetwork = {
  input: 1,
  tensors: [
    { channels: 3, length: 1, zeroPoint: 0, scale: 1 },
    { channels: 2, length: 5, zeroPoint: 255, scale: 0.5 },
  ],
  outputs: [{ stream: 'net/out', tensor: 0, scale: 0.25, zeroPoint: 1.5 }],
  layers: [
    {
      op: 'conv1d',
      inputs: [1],
      output: 0,
      relu: true,
      floatOutput: false,
      kernel: 1,
      stride: 2,
      dilation: 3,
      padding: [4, 5],
      inputMultipliers: [0, 0],
      weights: Int8Array.of(-128, -1, 0, 1, 127),
      bias: Int32Array.of(-(2 ** 31), 0, 2 ** 31 - 1),
      multipliers: Float32Array.of(0.5, 0.25, 0.125),
    },
    {
      op: 'add',
      inputs: [0, 1],
      output: 0,
      relu: false,
      floatOutput: false,
      kernel: 0,
      stride: 0,
      dilation: 0,
      padding: [0, 0],
      inputMultipliers: [0.1, 0.2],
      weights: new Int8Array(),
      bias: new Int32Array(),
      multipliers: new Float32Array(),
    },
  ],
}

test('decodeSoftNetwork() returns what encodeSoftNetwork() was given', () => {
  expect(decodeSoftNetwork(encodeSoftNetwork(SMALL))).toEqual(SMALL)
})

// The bytes are a contract with the software HailoRT, which reads them in C++.
test('encodeSoftNetwork() lays the network out as drawn', () => {
  const bytes = Buffer.from(encodeSoftNetwork(SMALL))
  const tensors = 24
  const outputs = tensors + 2 * 16
  const layers = outputs + 140
  expect(bytes.toString('latin1', 0, 8)).toBe('SOFTNET1')
  expect([8, 12, 16, 20].map(at => bytes.readUInt32LE(at))).toEqual([2, 2, 1, 1])
  expect(bytes.readInt32LE(tensors + 16 + 8)).toBe(255)
  expect(bytes.readFloatLE(tensors + 16 + 12)).toBe(0.5)
  expect(bytes.toString('latin1', outputs, outputs + 9)).toBe('net/out\0\0')
  expect(bytes.readFloatLE(outputs + 136)).toBe(1.5)
  const words = [1, 1, 0xffff_ffff, 0, 1, 0, 1, 2, 3, 4, 5]
  expect(words.map((_, index) => bytes.readUInt32LE(layers + index * 4))).toEqual(words)
  const weights = layers + 44 + 16
  expect(bytes.readUInt32LE(weights)).toBe(5)
  expect([...bytes.subarray(weights + 4, weights + 12)]).toEqual([128, 255, 0, 1, 127, 0, 0, 0])
  expect(bytes.readUInt32LE(weights + 12)).toBe(3)
  const add = weights + 16 + 3 * 8
  expect(bytes.readUInt32LE(add)).toBe(3)
  expect(bytes.readDoubleLE(add + 52)).toBe(0.2)
  expect(bytes.length).toBe(add + 44 + 16 + 8)
})

test('decodeSoftNetwork() refuses what is not whole', () => {
  const bytes = encodeSoftNetwork(SMALL)
  for (let length = 0; length < bytes.length; length++) {
    expect(() => decodeSoftNetwork(bytes.subarray(0, length))).toThrow(RangeError)
  }
  expect(() => decodeSoftNetwork(Buffer.concat([bytes, Buffer.alloc(4)]))).toThrow('expected ')
  expect(() => decodeSoftNetwork(Buffer.from('SOFTNET2'))).toThrow('it begins with "SOFTNET2"')
})

test('encodeSoftNetwork() refuses a name that leaves no zero behind it', () => {
  const named = (stream: string) => ({ ...SMALL, outputs: [{ ...SMALL.outputs[0]!, stream }] })
  expect(() => encodeSoftNetwork(named('n'.repeat(128)))).toThrow('expected fewer than 128 bytes')
  expect(decodeSoftNetwork(encodeSoftNetwork(named('n'.repeat(127)))).outputs[0]!.stream).toHaveLength(127)
})

test('hef:soft --check passes for what ships', async () => {
  expect(await runHefSoft('.', '--check')).toEqual({ code: 0, stdout: '', stderr: '' })
})

test('hef:soft repairs what --check complains of, and changes the manifest in nothing else', async () => {
  const project = copyOfProject()
  writeFileSync(join(project, FOLDER, 'motif_head.f32'), 'stale')
  rmSync(join(project, FOLDER, 'tcn_encoder.soft.hef'))
  const { code, stderr } = await runHefSoft(project, '--check')
  expect(code).toBe(1)
  expect(stderr).toBe(
    `${FOLDER}/tcn_encoder.soft.hef is not what \`npm run hef:soft\` writes: run it\n` +
      `${FOLDER}/motif_head.f32 is not what \`npm run hef:soft\` writes: run it\n`,
  )
  expect(await runHefSoft(project)).toMatchObject({ code: 0, stderr: '' })
  for (const name of ['model.json', 'motif_head.f32', 'tcn_encoder.soft.hef']) {
    expect(readFileSync(join(project, FOLDER, name))).toEqual(readFileSync(join(SHIPPED_MODEL_FOLDER, name)))
  }
})

test('hef:soft refuses an int8 model that is not the one the manifest lists', async () => {
  const project = copyOfProject()
  const path = join(project, FOLDER, 'model.int8.bin')
  const bytes = readFileSync(path)
  bytes[1000]! ^= 1
  writeFileSync(path, bytes)
  expect(await runHefSoft(project)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/Cannot use \S+\/model\.int8\.bin: sha256 \w{64}, expected \w{64}/),
  })
})

test('hef:soft --out writes one HEF there, as the options say', async () => {
  const folder = temporaryFolder()
  const path = join(folder, 'other.hef')
  const before = readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'))
  const { code } = await runHefSoft('.', '--out', path, '--motifs', '--header-version', '3')
  expect(code).toBe(0)
  const { headerVersion, networkGroups } = readHef(readFileSync(path))
  expect(headerVersion).toBe(3)
  const { limitMin, limitMax } = networkGroups[0]!.outputs[1]!.quantisation[0]!
  expect(limitMin).toBeLessThan(Math.min(...floatsOf('golden_motif_logits.f32')))
  expect(limitMax).toBeGreaterThan(Math.max(...floatsOf('golden_motif_logits.f32')))
  expect(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'))).toEqual(before)
})

test.each([
  ['--header-version 4', 'Cannot parse --header-version 4: expected 0, 1, 2 or 3'],
  ['--motifs', 'name another place with --out'],
  [`--motifs --out ${FOLDER}/tcn_encoder.soft.hef`, 'name another place with --out'],
  ['--check --out other.hef', 'choose one'],
  ['--weights', "Unknown option '--weights'"],
])('hef:soft exits with 64 for wrong usage: %s', async (args, message) => {
  const { code, stderr } = await runHefSoft('.', ...args.split(' '))
  expect(stderr).toContain(message)
  expect(code).toBe(64)
})

function hefOf(options: Partial<SoftHefOptions>): Buffer {
  return Buffer.from(
    softHef(model, {
      headerVersion: 1 as HeaderVersion,
      motifLogits: null,
      ...options,
    }),
  )
}

function networkIn(hef: Uint8Array): SoftNetwork {
  return decodeSoftNetwork(decodeHef(openContainer(hef).proto).mapping)
}

function quantisationOf(scale: number, zeroPoint: number): Quantisation {
  const limitMin = Math.fround((0 - zeroPoint) * scale)
  return { scale, zeroPoint, limitMin, limitMax: Math.fround((255 - zeroPoint) * scale) }
}

/** As HailoRT quantises, in float32, halves to even. */
function quantised(value: number, { zeroPoint, scale, limitMin, limitMax }: Quantisation): number {
  const clipped = Math.min(Math.max(value, limitMin), limitMax)
  const exact = Math.fround(Math.fround(clipped / scale) + zeroPoint)
  const rounded = Math.round(exact)
  return exact % 1 === 0.5 && rounded % 2 === 1 ? rounded - 1 : rounded
}

/**
 * The arithmetic of model.int8.json, written for reading.
 * @param input uint8[channels][length]
 * @returns every tensor, by its index
 */
function run({ input, tensors, layers }: SoftNetwork, values: Int32Array): number[][] {
  const filled: number[][] = []
  filled[input] = [...values]
  for (const layer of layers) filled[layer.output] = outputOf(layer, tensors, filled)
  return filled
}

function outputOf(layer: SoftLayer, tensors: SoftNetwork['tensors'], filled: number[][]): number[] {
  const { op, inputs, relu, inputMultipliers, multipliers } = layer
  const [a, b] = inputs
  const from = tensors[a]!
  const to = tensors[layer.output]!
  const clamped = (real: number) =>
    Math.min(Math.max(Math.floor(real + 0.5) + to.zeroPoint, relu ? to.zeroPoint : 0), 255)
  const steps = (tensor: number) => filled[tensor]!.map(q => q - tensors[tensor]!.zeroPoint)
  const x = steps(a)
  switch (op) {
    case 'add': {
      const y = steps(b!)
      return x.map((value, index) => clamped(value * inputMultipliers[0] + y[index]! * inputMultipliers[1]))
    }
    case 'global_avg_pool':
      return Array.from({ length: to.channels }, (_, channel) => {
        const row = x.slice(channel * from.length, (channel + 1) * from.length)
        return clamped(row.reduce((sum, value) => sum + value, 0) * inputMultipliers[0])
      })
    case 'conv1d':
    case 'gemm':
      return Array.from({ length: to.channels * to.length }, (_, place) => {
        const channel = Math.floor(place / to.length)
        const sum = sumAt(layer, x, { channel, step: place % to.length, from })
        return layer.floatOutput
          ? Math.fround(sum * multipliers[channel]!)
          : clamped(sum * multipliers[channel]!)
      })
  }
}

interface Place {
  channel: number
  step: number
  from: { channels: number; length: number }
}

function sumAt(layer: SoftLayer, x: number[], { channel, step, from }: Place): number {
  const { kernel, stride, dilation, padding, weights, bias } = layer
  let sum = bias[channel]!
  for (let tap = 0; tap < kernel; tap++) {
    const at = step * stride - padding[0] + tap * dilation
    if (at < 0 || at >= from.length) continue
    for (let each = 0; each < from.channels; each++) {
      sum += x[each * from.length + at]! * weights[(channel * from.channels + each) * kernel + tap]!
    }
  }
  return sum
}

function windowAt(index: number): Float32Array {
  return windows.subarray(index * TIMESTEPS * CHANNELS, (index + 1) * TIMESTEPS * CHANNELS)
}

/** [100][9] to [9][100] */
function transposed(window: Float32Array): Float32Array {
  return window.map((_, index) => window[(index % TIMESTEPS) * CHANNELS + Math.floor(index / TIMESTEPS)]!)
}

function floatsOf(name: string): Float32Array {
  const bytes = readFileSync(join(SHIPPED_MODEL_FOLDER, name))
  return Float32Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readFloatLE(index * 4))
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'hef-soft-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return folder
}

function copyOfProject(): string {
  const folder = temporaryFolder()
  const names = ['model.json', 'model.int8.json', 'model.int8.bin', 'motif_head.f32', 'tcn_encoder.soft.hef']
  for (const path of ['package.json', 'dist/src', ...names.map(name => join(FOLDER, name))]) {
    cpSync(path, join(folder, path), { recursive: true })
  }
  symlinkSync(resolve('node_modules'), join(folder, 'node_modules'))
  return folder
}

function runHefSoft(project: string, ...args: string[]) {
  return new Promise<{ code: number | null; stdout: string; stderr: string }>(resolve => {
    const script = join(project, 'dist/src/cli/hef-soft.js')
    const child = execFile(process.execPath, [script, ...args], (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    )
  })
}
