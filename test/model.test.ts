import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { loadConfig } from '../src/config.ts'
import { loadFallback, loadModel, ModelError } from '../src/model.ts'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { type HefFacts, hefFolder, hefOf } from './hef-file.ts'

const ARTIFACT = 'model_dynamic.onnx'
const SHA256 = '75f3ac60d958f80e05f27e3f343a4c8ed99ea9ce46c9d26bdc48a09788002a0e'
const BYTES = 434_783
const manifest = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'))
const NORMALISATION = {
  mean: Float32Array.from(manifest.normalization.mean),
  std: Float32Array.from(manifest.normalization.std),
}

test('loadModel() describes the shipped model as its manifest does', async () => {
  const { golden, plan, ...model } = await loadModel(loadConfig({}))
  expect(model).toEqual({
    name: 'tcn-vae-motion-12',
    servedName: 'tcn_encoder',
    version: '1.0.0',
    sha256: SHA256,
    manifestSha256: sha256Of(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'))),
    path: join(SHIPPED_MODEL_FOLDER, ARTIFACT),
    versionFolder: SHIPPED_MODEL_FOLDER,
    motifLabels: manifest.motif_labels,
    normalisation: NORMALISATION,
    accuracy: 0.9004,
  })
  expect(plan).toEqual({
    kind: 'onnx',
    model: {
      bytes: expect.any(Uint8Array),
      inputName: 'imu_window',
      latentName: 'latent',
      motifName: 'motif_logits',
      motifActivation: 'softmax',
      normalisation: NORMALISATION,
    },
  })
})

test('loadModel() reads the golden vectors as little-endian float32', async () => {
  const { golden } = await loadModel(loadConfig({}))
  expect(golden?.count).toBe(64)
  expect(golden?.windows).toEqual(floatsOf('golden_windows.f32'))
  expect(golden?.latents).toEqual(floatsOf('golden_latent.f32'))
  expect(golden?.motifScores).toEqual(floatsOf('golden_motif_probs.f32'))
})

test('loadModel() hands out the verified bytes in shared memory', async () => {
  const { plan } = await loadModel(loadConfig({}))
  assert(plan.kind === 'onnx')
  expect(plan.model.bytes.buffer).toBeInstanceOf(SharedArrayBuffer)
  expect(sha256Of(Buffer.from(plan.model.bytes))).toBe(SHA256)
})

test('loadModel() lets the configuration replace version and accuracy', async () => {
  const model = await loadModel(loadConfig({ MODEL_VERSION: '2-field', MODEL_ACCURACY: '0' }))
  expect(model).toMatchObject({ version: '2-field', accuracy: 0 })
})

test('loadModel() in stub mode opens no file', async () => {
  const env = {
    INFER_MODE: 'stub',
    ONNX_PATH: '/no/such.onnx',
    NUM_MOTIFS: '2',
    EXPECTED_SHA256: 'a'.repeat(64),
  }
  expect(await loadModel(loadConfig(env))).toEqual({
    name: 'stub',
    servedName: 'tcn_encoder',
    version: '0',
    sha256: 'stub',
    manifestSha256: null,
    path: null,
    versionFolder: null,
    plan: { kind: 'stub' },
    motifLabels: ['motif_0', 'motif_1'],
    normalisation: null,
    accuracy: null,
    golden: null,
  })
  expect((await loadModel(loadConfig({ ...env, MODEL_VERSION: '7' }))).version).toBe('7')
})

test('loadModel() returns a value that nobody can change', async () => {
  const model = await loadModel(loadConfig({}))
  for (const part of [model, model.motifLabels, model.normalisation, model.golden]) {
    expect(Object.isFrozen(part)).toBe(true)
  }
})

test.each([
  ['that is missing', 'no such file', (path: string) => rmSync(path)],
  ['that is a directory', 'a directory', (path: string) => rmSync(path) ?? mkdirSync(path)],
  ['that is empty', 'an empty file', (path: string) => truncateSync(path)],
  ['that never ends', 'a pipe or a device', (path: string) => rmSync(path) ?? symlinkSync('/dev/zero', path)],
  ['that is text', '18 bytes of text', (path: string) => writeFileSync(path, 'put the model here')],
])('loadModel() refuses a model %s: %s', async (_, found, spoil) => {
  const folder = copyOfArtifacts()
  spoil(join(folder, ARTIFACT))
  expect(await refusalOf(folder)).toBe(
    `${join(folder, ARTIFACT)}: ${found}, expected an ONNX model. Set ONNX_PATH to one, or INFER_MODE=stub to run without a model`,
  )
})

test.each([ARTIFACT, 'model.json', 'golden_windows.f32'])(
  'loadModel() knows a Git LFS pointer: %s',
  async name => {
    const folder = copyOfArtifacts()
    writeFileSync(
      join(folder, name),
      'version https://git-lfs.github.com/spec/v1\noid sha256:75f3\nsize 434783\n',
    )
    expect(await refusalOf(folder)).toMatch(/: a Git LFS pointer, expected .+\. Run `git lfs pull`$/)
  },
)

test('loadModel() refuses a model whose path leads through a file', async () => {
  expect(await refusalOf(SHIPPED_MODEL_FOLDER, { ONNX_PATH: 'package.json/model.onnx' })).toContain(
    'cannot be read (ENOTDIR',
  )
})

test('loadModel() refuses a truncated model, with both hashes and both sizes', async () => {
  const folder = copyOfArtifacts()
  truncateSync(join(folder, ARTIFACT), BYTES - 1)
  const message = await refusalOf(folder)
  expect(message).toContain(
    `sha256 ${sha256Of(readFileSync(join(folder, ARTIFACT)))} of ${BYTES - 1} bytes, expected ${SHA256} of ${BYTES} bytes`,
  )
  expect(message).toContain(
    `${join(folder, 'model.json')} lists. The file may be truncated or be another model`,
  )
})

test('loadModel() reads no large file that has another size than the manifest lists, and no large manifest', async () => {
  for (const [name, found] of [
    [ARTIFACT, `1900000000 bytes, expected ${BYTES} bytes as `],
    ['golden_windows.f32', '1900000000 bytes, expected 230400 bytes as '],
    ['model.json', '1900000000 bytes, expected the manifest of a model'],
  ] as const) {
    const folder = copyOfArtifacts()
    truncateSync(join(folder, name), 1.9e9)
    const { maxRSS: before } = process.resourceUsage()
    expect(await refusalOf(folder)).toContain(`${join(folder, name)}: ${found}`)
    const { maxRSS: after } = process.resourceUsage()
    expect((after - before) / 1024).toBeLessThan(500) // MiB, of 1812 in the file
  }
})

test('loadModel() refuses a model with one bit flipped, with both hashes', async () => {
  const folder = copyOfArtifacts()
  const flipped = flipBit(join(folder, ARTIFACT))
  expect(await refusalOf(folder)).toContain(`sha256 ${sha256Of(flipped)}, expected ${SHA256} as `)
})

test('loadModel() refuses a model that the manifest does not list', async () => {
  const folder = copyOfArtifacts()
  cpSync(join(folder, ARTIFACT), join(folder, 'dog.onnx'))
  expect(await refusalOf(folder, { ONNX_PATH: join(folder, 'dog.onnx') })).toBe(
    `${join(folder, 'model.json')}: files does not list dog.onnx, expected its bytes and sha256. Set MODEL_MANIFEST to the manifest that belongs to it`,
  )
})

test('loadModel() takes the model that EXPECTED_SHA256 names and no other', async () => {
  expect((await loadModel(loadConfig({ EXPECTED_SHA256: SHA256.toUpperCase() }))).sha256).toBe(SHA256)
  expect(await refusalOf(SHIPPED_MODEL_FOLDER, { EXPECTED_SHA256: 'a'.repeat(64) })).toContain(
    `sha256 ${SHA256}, expected EXPECTED_SHA256 ${'a'.repeat(64)}. `,
  )
})

test('loadModel() refuses a model whose motifs are not NUM_MOTIFS', async () => {
  expect(await refusalOf(SHIPPED_MODEL_FOLDER, { NUM_MOTIFS: '10' })).toContain(
    'the model has 12 motifs, expected 10 as NUM_MOTIFS says. Set NUM_MOTIFS=12, or ONNX_PATH to another model',
  )
})

test.each([
  ['input.window is 128', { input: { ...manifest.input, window: 128 } }],
  ['input.channels is 6', { input: { ...manifest.input, channels: 6 } }],
  [
    'input.channel_order is ["gx",',
    { input: { ...manifest.input, channel_order: ['gx', 'gy', 'gz', 'ax', 'ay', 'az', 'mx', 'my', 'mz'] } },
  ],
  ['input.units is ["g",', { input: { ...manifest.input, units: ['g', ...manifest.input.units.slice(1)] } }],
  ['input.name is missing', { input: { ...manifest.input, name: undefined } }],
  ['normalization.method is "min_max"', { normalization: { ...manifest.normalization, method: 'min_max' } }],
  ['normalization.mean is [0]', { normalization: { ...manifest.normalization, mean: [0] } }],
  [
    'normalization.std.8 is 0',
    { normalization: { ...manifest.normalization, std: [1, 1, 1, 1, 1, 1, 1, 1, 0] } },
  ],
  [
    'normalization.std.0 is 1e-60',
    { normalization: { ...manifest.normalization, std: [1e-60, 1, 1, 1, 1, 1, 1, 1, 1] } },
  ],
  [
    'expected latent, its last dimension 64',
    { outputs: [{ name: 'latent', shape: [1, 32] }, manifest.outputs[1]] },
  ],
  ['outputs lists neither motif_logits nor motif_scores', { outputs: [manifest.outputs[0]] }],
  ['12 motif scores have 11 motif_labels', { motif_labels: manifest.motif_labels.slice(1) }],
  ['files.x.sha256 is "abc"', { files: { x: { bytes: 1, sha256: 'abc' } } }],
])('loadModel() refuses a manifest in which %s', async (found, change) => {
  const folder = copyOfArtifacts(change)
  const message = await refusalOf(folder)
  expect(message.startsWith(`${join(folder, 'model.json')}: `)).toBe(true)
  expect(message).toContain(found)
  expect(message).toContain('MODEL_MANIFEST')
})

test('loadModel() refuses a manifest that is not JSON', async () => {
  const folder = copyOfArtifacts()
  writeFileSync(join(folder, 'model.json'), '{"name":')
  expect(await refusalOf(folder)).toContain(`${join(folder, 'model.json')}: not JSON (`)
})

test('loadModel() takes motif_scores as they are, and a model that nobody has measured', async () => {
  const outputs = [manifest.outputs[0], { name: 'motif_scores', shape: [1, 12] }]
  const { plan, accuracy } = await loadModel(configOf(copyOfArtifacts({ outputs, metrics: undefined })))
  expect(plan).toMatchObject({ model: { motifName: 'motif_scores', motifActivation: 'none' } })
  expect(accuracy).toBeNull()
})

test('loadModel() has no golden vectors when the manifest lists none', async () => {
  const { 'golden.json': _, ...files } = manifest.files
  expect((await loadModel(configOf(copyOfArtifacts({ files })))).golden).toBeNull()
})

test.each(['golden_windows.f32', 'golden_latent.f32', 'golden_motif_probs.f32'])(
  'loadModel() refuses %s with one bit flipped, and when it is missing',
  async name => {
    const folder = copyOfArtifacts()
    const path = join(folder, name)
    const flipped = flipBit(path)
    expect(await refusalOf(folder)).toContain(
      `${path}: sha256 ${sha256Of(flipped)}, expected ${manifest.files[name].sha256}`,
    )
    rmSync(path)
    expect(await refusalOf(folder)).toContain(
      `${path}: no such file, expected the golden vectors that the manifest lists`,
    )
  },
)

test('loadModel() refuses golden files that do not belong together', async () => {
  const latents = readFileSync(join(SHIPPED_MODEL_FOLDER, 'golden_latent.f32')).subarray(256)
  const files = {
    ...manifest.files,
    'golden_latent.f32': { bytes: latents.length, sha256: sha256Of(latents) },
  }
  const folder = copyOfArtifacts({ files })
  writeFileSync(join(folder, 'golden_latent.f32'), latents)
  expect(await refusalOf(folder)).toContain(
    'the golden files hold 64 windows, 63 latents and 64 rows of motif scores',
  )
})

describe('loadModel() of a HEF', () => {
  test('describes it as the HEF and its manifest do, and hands out the verified bytes', async () => {
    const { hefPath, sha256 } = hefFolder()
    const env = { HAILO_DEVICE_ID: '0000:01:00.0', HAILORT_LIB: 'libhailort.so.4.23.0', WORKERS: '3' }
    const model = await loadModel(loadConfig({ HEF_PATH: hefPath, HAILO_SCHEDULER: 'none', ...env }))
    expect(model).toMatchObject({
      name: 'tcn-vae-motion-12',
      servedName: 'tcn_encoder',
      sha256,
      path: hefPath,
      normalisation: NORMALISATION,
    })
    expect(model.golden?.count).toBe(64)
    expect(model.plan).toEqual({
      kind: 'hailo',
      model: {
        hef: expect.any(Uint8Array),
        architecture: 'hailo8p',
        software: false,
        library: 'libhailort.so.4.23.0',
        deviceId: '0000:01:00.0',
        io: 'async',
        scheduler: 'none',
        streamCount: 3,
        inputName: 'tcn/input_layer1',
        latentName: 'tcn/latent',
        motifName: 'tcn/motif_logits',
        motifActivation: 'softmax',
        motifHead: null,
        normalisation: NORMALISATION,
      },
    })
    assert(model.plan.kind === 'hailo')
    expect(model.plan.model.hef.buffer).toBeInstanceOf(SharedArrayBuffer)
    expect(sha256Of(Buffer.from(model.plan.model.hef))).toBe(sha256)
  })

  test('leaves the z-score to a HEF that says it does it itself, and still knows it', async () => {
    const normalization = { ...manifest.normalization, in_hef: true }
    const { hefPath } = hefFolder(hefOf(), { changes: { normalization } })
    const { plan, normalisation } = await loadModel(loadConfig({ HEF_PATH: hefPath }))
    expect(plan).toMatchObject({ model: { normalisation: null } })
    expect(normalisation).toEqual(NORMALISATION)
  })

  test.each([
    [{ outputs: { 'a/motif_scores': 12, 'a/latent': 64 } }, ['a/latent', 'a/motif_scores', 'none']],
    [{ outputs: { 'a/fc1': 64, 'a/fc2': 12 } }, ['a/fc1', 'a/fc2', 'softmax']],
    [
      { outputs: { 'a/fc1': 64, 'a/fc2': 12 }, originalNames: { 'a/fc2': 'motif_scores' } },
      ['a/fc1', 'a/fc2', 'none'],
    ],
    // Sizes would say nothing here.
    [
      { outputs: { 'a/fc1': 64, 'a/fc2': 64, 'a/fc3': 12 }, originalNames: { 'a/fc2': 'latent' } },
      ['a/fc2', 'a/fc3', 'softmax'],
    ],
  ])('finds what its outputs are: %j', async (facts, [latentName, motifName, motifActivation]) => {
    const { hefPath } = hefFolder(hefOf(facts as HefFacts))
    const { plan } = await loadModel(loadConfig({ HEF_PATH: hefPath }))
    expect(plan).toMatchObject({ model: { latentName, motifName, motifActivation, motifHead: null } })
  })

  test('takes the last layer from the manifest where the HEF ends at the latent', async () => {
    const layer = Float32Array.from({ length: 12 * 64 + 12 }, (_, n) => n / 8)
    const motif_head = { version: '1', file: 'head.f32', activation: 'softmax', input: 'latent' }
    const { hefPath, folder } = hefFolder(hefOf({ outputs: { 'a/latent': 64 } }), {
      changes: { motif_head, outputs: [manifest.outputs[0]] },
      files: { 'head.f32': new Uint8Array(layer.buffer) },
    })
    const { plan } = await loadModel(loadConfig({ HEF_PATH: hefPath }))
    expect(plan).toMatchObject({
      model: {
        latentName: 'a/latent',
        motifName: null,
        motifActivation: 'softmax',
        motifHead: { weights: layer.slice(0, 768), bias: layer.slice(768) },
      },
    })
    flipBit(join(folder, 'head.f32'))
    expect(await hefRefusalOf(hefPath)).toContain(`${join(folder, 'head.f32')}: sha256 `)
  })

  test('refuses a HEF that ends at the latent when there is nothing to make motif scores of it', async () => {
    const hef = hefOf({ outputs: { 'a/latent': 64 } })
    const { hefPath, folder } = hefFolder(hef, { changes: { motif_head: undefined } })
    expect(await hefRefusalOf(hefPath)).toBe(
      `${join(folder, 'model.json')}: no motif_head, expected motif_head: the layer from latent[64] to 12 motifs, as the HEF has no motif scores. Add it to the manifest, or compile the model with its motif scores`,
    )
  })

  test('refuses a last layer of another size', async () => {
    const motif_head = { version: '1', file: 'head.f32', activation: 'softmax', input: 'latent' }
    const { hefPath } = hefFolder(hefOf({ outputs: { 'a/latent': 64 } }), {
      changes: { motif_head },
      files: { 'head.f32': new Uint8Array(3072) },
    })
    expect(await hefRefusalOf(hefPath)).toContain(
      '3072 bytes, expected 3120: float32[12][64], then float32[12]',
    )
  })

  test.each([
    [
      { inputs: { 'a/in': { width: 90, features: 9 } } },
      'its inputs are a/in 1x90x9, expected one of 100 time',
    ],
    [
      { inputs: { 'a/in': { width: 100, features: 9 }, 'a/in2': { width: 100, features: 9 } } },
      'its inputs are a/in 1x100x9, a/in2 1x100x9, expected one of',
    ],
    [{ outputs: { 'a/fc': 32, 'a/motif_scores': 12 } }, 'its outputs are a/fc 1x1x32, a/motif_scores 1x1x12'],
    [{ outputs: { 'a/latent': 32, 'a/fc': 64 } }, 'expected a latent of 64 features'],
    [{ outputs: { 'a/latent': 64, 'a/motif_scores': 8 } }, 'expected 12 motif scores, as NUM_MOTIFS says'],
    [{ architecture: 5 }, 'it is compiled for hailo10h, expected Hailo-8 or Hailo-8L'],
    [{ architecture: 103 }, 'it is compiled for hailo15h, expected Hailo-8 or Hailo-8L'],
  ])('refuses a HEF %j: %s', async (facts, message) => {
    const { hefPath } = hefFolder(hefOf(facts as HefFacts))
    const refusal = await hefRefusalOf(hefPath)
    expect(refusal.startsWith(`${hefPath}: `)).toBe(true)
    expect(refusal).toContain(message)
  })

  test.each([0, 1, 2, 3])('takes the architecture %d', async architecture => {
    const { hefPath } = hefFolder(hefOf({ architecture }))
    const { plan } = await loadModel(loadConfig({ HEF_PATH: hefPath }))
    expect(plan).toMatchObject({ model: { software: false, architecture: expect.stringMatching(/^hailo8/) } })
  })

  test('takes the shipped soft HEF, and says that it is one', async () => {
    const { plan, golden } = await loadModel(
      loadConfig({ HEF_PATH: join(SHIPPED_MODEL_FOLDER, 'tcn_encoder.soft.hef') }),
    )
    expect(plan).toMatchObject({
      model: {
        software: true,
        inputName: 'tcn_encoder/input_layer1',
        latentName: 'tcn_encoder/latent',
        motifHead: { weights: { length: 12 * 64 }, bias: { length: 12 } },
      },
    })
    expect(golden?.count).toBe(64)
  })

  test('refuses a placeholder, a HEF of which one bit is wrong, and one that the manifest does not list', async () => {
    const { hefPath } = hefFolder()
    flipBit(hefPath)
    expect(await hefRefusalOf(hefPath)).toContain(`${hefPath}: Cannot use HEF: `)
    writeFileSync(hefPath, 'This is a placeholder for the compiled HEF model.')
    expect(await hefRefusalOf(hefPath)).toContain(`${hefPath}: Cannot use HEF: `)
    writeFileSync(hefPath, hefOf({ compilerVersion: '3.30.0' }))
    expect(await hefRefusalOf(hefPath)).toMatch(/: sha256 \w{64}.*, expected \w{64} as /)
  })

  test('takes the HEF that EXPECTED_SHA256 names and no other', async () => {
    const { hefPath, sha256 } = hefFolder()
    expect((await loadModel(loadConfig({ HEF_PATH: hefPath, EXPECTED_SHA256: sha256 }))).sha256).toBe(sha256)
    expect(await hefRefusalOf(hefPath, { EXPECTED_SHA256: SHA256 })).toContain(
      `expected EXPECTED_SHA256 ${SHA256}`,
    )
  })
})

describe('loadFallback()', () => {
  test('gives the shipped model beside a HEF, the stub, or nothing', async () => {
    const fallbackOf = async (FALLBACK: string) => {
      const config = loadConfig({ HEF_PATH: hefFolder().hefPath, FALLBACK })
      return loadFallback(config, await loadModel(config))
    }
    expect(await fallbackOf('none')).toBeNull()
    expect(await fallbackOf('stub')).toMatchObject({ sha256: 'stub', plan: { kind: 'stub' } })
    expect(await fallbackOf('onnx')).toMatchObject({ sha256: SHA256, plan: { kind: 'onnx' } })
  })

  test('is not what EXPECTED_SHA256 means', async () => {
    const { hefPath, sha256 } = hefFolder()
    const config = loadConfig({ HEF_PATH: hefPath, FALLBACK: 'onnx', EXPECTED_SHA256: sha256 })
    expect(loadFallback(config, await loadModel(config))?.sha256).toBe(SHA256)
  })

  test('refuses a model whose motifs mean something else', async () => {
    const motif_labels = [...manifest.motif_labels].reverse()
    const { hefPath } = hefFolder(hefOf(), { changes: { motif_labels } })
    const config = loadConfig({ HEF_PATH: hefPath, FALLBACK: 'onnx' })
    const model = await loadModel(config)
    expect(() => loadFallback(config, model)).toThrow(
      /model\.json: motif_labels phone_seated .*, expected those of the model that it stands in for, watch_sitting_down /,
    )
  })

  test('refuses a model that lies in MODEL_DIR and is not that of the HEF, and takes what ONNX_PATH names', async () => {
    const latents = readFileSync(join(SHIPPED_MODEL_FOLDER, 'golden_latent.f32'))
    latents.writeFloatLE(0.5, 0)
    const { hefPath } = hefFolder(hefOf(), { files: { 'golden_latent.f32': latents } })
    const config = loadConfig({ HEF_PATH: hefPath, FALLBACK: 'onnx' })
    const model = await loadModel(config)
    expect(() => loadFallback(config, model)).toThrow(
      /onnx: its golden vectors are others, expected those of the model that it stands in for, .*model\.hef\. Set ONNX_PATH /,
    )
    const named = loadFallback({ ...config, onnxPath: join(SHIPPED_MODEL_FOLDER, ARTIFACT) }, model)
    expect(named?.sha256).toBe(SHA256)
  })
})

async function hefRefusalOf(hefPath: string, env: Record<string, string> = {}): Promise<string> {
  try {
    await loadModel(loadConfig({ HEF_PATH: hefPath, ...env }))
  } catch (error) {
    if (error instanceof ModelError) return error.message
    throw error
  }
  throw new Error('loadModel() took the HEF')
}

/** A folder with the shipped model and golden vectors, and their manifest with `changes`. */
function copyOfArtifacts(changes: object = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'model-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  for (const name of [ARTIFACT, 'golden_windows.f32', 'golden_latent.f32', 'golden_motif_probs.f32']) {
    cpSync(join(SHIPPED_MODEL_FOLDER, name), join(folder, name))
  }
  writeFileSync(join(folder, 'model.json'), JSON.stringify({ ...manifest, ...changes }))
  return folder
}

function configOf(folder: string, env: Record<string, string> = {}) {
  return loadConfig({ ONNX_PATH: join(folder, ARTIFACT), MODEL_MANIFEST: join(folder, 'model.json'), ...env })
}

async function refusalOf(folder: string, env?: Record<string, string>): Promise<string> {
  try {
    await loadModel(configOf(folder, env))
  } catch (error) {
    if (error instanceof ModelError) return error.message
    throw error
  }
  throw new Error('loadModel() took the model')
}

function floatsOf(name: string): Float32Array {
  const bytes = readFileSync(join(SHIPPED_MODEL_FOLDER, name))
  return Float32Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readFloatLE(index * 4))
}

function flipBit(path: string): Buffer {
  const bytes = readFileSync(path)
  bytes[bytes.length >> 1]! ^= 1
  writeFileSync(path, bytes)
  return bytes
}

function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
