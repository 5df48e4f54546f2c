import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import type { Config } from './config.ts'
import type { GoldenVectors } from './core/golden.ts'
import type { Normalisation } from './core/normalise.ts'
import { CHANNEL_NAMES, CHANNELS, LATENT_DIMS, TIMESTEPS, WINDOW_BYTES } from './core/window.ts'

/** What a backend needs to know of the model, verified against its manifest. Frozen. */
export interface Model {
  readonly name: string
  readonly version: string
  /** 64 lower-case hex digits of the artifact, `stub` for the stub. */
  readonly sha256: string
  /** The artifact. Null for the stub. */
  readonly path: string | null
  /** The artifact as it was verified, for every worker to read: nobody opens the file a second time. */
  readonly bytes: Uint8Array<SharedArrayBuffer> | null
  /** float32[n][100][9], z-scored by the host */
  readonly inputName: string
  /** float32[n][64] */
  readonly latentName: string
  /** float32[n][motifs] */
  readonly motifName: string
  /** What the host applies to the motif output to get scores in [0, 1]. */
  readonly motifActivation: 'softmax' | 'none'
  /** One per motif score, in their order. */
  readonly motifLabels: readonly string[]
  /** Null for the stub, which takes windows as they are. */
  readonly normalisation: Normalisation | null
  /** 0 to 1, null when nobody has measured it. */
  readonly accuracy: number | null
  readonly golden: GoldenVectors | null
}

/** The model cannot be used. `main.ts` prints the message and exits with 78. */
export class ModelError extends Error {
  readonly code = 'ERR_MODEL'

  constructor({ path, found, expected, remedy }: { path: string; found: string } & Wanted) {
    super(`${path}: ${found}, expected ${expected}. ${remedy}`)
    this.name = 'ModelError'
  }
}

/**
 * Reads and verifies the model and its golden vectors. Blocking: for the start, before any worker runs.
 * @throws ModelError saying which file, what was found, what was expected and what to do
 */
export function loadModel(config: Config): Model {
  if (config.mode === 'stub') return stub(config)
  const { onnxPath: path, manifestPath, expectedSha256, motifCount } = config

  const artifact = read(path, ARTIFACT)
  if (isText(artifact)) throw new ModelError({ path, found: `${artifact.length} bytes of text`, ...ARTIFACT })
  const manifest = readManifest(manifestPath)
  const sha256 = verify(artifact, path, manifest, manifestPath)
  if (expectedSha256 !== null && sha256 !== expectedSha256) {
    throw new ModelError({
      path,
      found: `sha256 ${sha256}`,
      expected: `EXPECTED_SHA256 ${expectedSha256}`,
      remedy: 'Install the model that was meant, or correct EXPECTED_SHA256',
    })
  }

  const { input, motif_labels, normalization } = manifest
  if (motif_labels.length !== motifCount) {
    throw new ModelError({
      path: manifestPath,
      found: `the model has ${motif_labels.length} motifs`,
      expected: `${motifCount} as NUM_MOTIFS says`,
      remedy: `Set NUM_MOTIFS=${motif_labels.length}, or ONNX_PATH to another model`,
    })
  }
  const motifName = manifest.outputs.find(isMotif)!.name
  return Object.freeze({
    name: manifest.name,
    version: config.modelVersion ?? manifest.version,
    sha256,
    path,
    bytes: shared(artifact),
    inputName: input.name,
    latentName: 'latent',
    motifName,
    motifActivation: motifName === 'motif_logits' ? 'softmax' : 'none',
    motifLabels: Object.freeze(motif_labels),
    normalisation: Object.freeze({
      mean: Float32Array.from(normalization.mean),
      std: Float32Array.from(normalization.std),
    }),
    accuracy: config.modelAccuracy ?? manifest.metrics?.test_all_windows?.accuracy ?? null,
    golden: readGolden(manifest, manifestPath),
  })
}

function stub(config: Config): Model {
  return Object.freeze({
    name: 'stub',
    version: config.modelVersion ?? '0',
    sha256: 'stub',
    path: null,
    bytes: null,
    inputName: 'imu_window',
    latentName: 'latent',
    motifName: 'motif_scores',
    motifActivation: 'none',
    motifLabels: Object.freeze(Array.from({ length: config.motifCount }, (_, motif) => `motif_${motif}`)),
    normalisation: null,
    accuracy: config.modelAccuracy,
    golden: null,
  })
}

const positive = z.float32().refine(value => Math.fround(value) > 0, 'expected a float32 above 0')
const exactly = (expected: readonly string[]) =>
  z.unknown().refine(actual => isDeepStrictEqual(actual, expected), `expected ${expected.join(' ')}`)

/** The parts of a manifest that the engine acts on. Whatever else it says is for people. */
const Manifest = z.object({
  name: z.string().min(1),
  version: z.string().min(1),
  input: z.object({
    name: z.string().min(1),
    window: z.literal(TIMESTEPS),
    channels: z.literal(CHANNELS),
    channel_order: exactly(CHANNEL_NAMES),
    units: exactly(['m/s^2', 'm/s^2', 'm/s^2', 'rad/s', 'rad/s', 'rad/s', 'uT', 'uT', 'uT']),
  }),
  normalization: z.object({
    method: z.literal('z_score_per_channel'),
    mean: z.array(z.float32()).length(CHANNELS),
    std: z.array(positive).length(CHANNELS),
  }),
  outputs: z
    .array(z.object({ name: z.string(), shape: z.array(z.int()) }))
    .refine(outputs => outputs.some(isLatent), `expected latent, its last dimension ${LATENT_DIMS}`)
    .refine(outputs => outputs.some(isMotif), 'expected motif_logits or motif_scores'),
  motif_labels: z.array(z.string().min(1)),
  files: z.record(z.string(), z.object({ bytes: z.int(), sha256: z.hash('sha256').toLowerCase() })),
  metrics: z
    .object({ test_all_windows: z.object({ accuracy: z.number().min(0).max(1) }).optional() })
    .optional(),
})
type Manifest = z.infer<typeof Manifest>

interface Output {
  readonly name: string
  readonly shape: readonly number[]
}
const isLatent = ({ name, shape }: Output) => name === 'latent' && shape.at(-1) === LATENT_DIMS
const isMotif = ({ name }: Output) => name === 'motif_logits' || name === 'motif_scores'

function readManifest(path: string): Manifest {
  const text = read(path, MANIFEST).toString()
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (cause) {
    throw new ModelError({ path, found: `not JSON (${(cause as Error).message})`, ...MANIFEST })
  }
  const parsed = Manifest.safeParse(content, { reportInput: true })
  if (!parsed.success) {
    const found = parsed.error.issues.map(
      ({ path, input, message }) =>
        `${path.join('.')} is ${(JSON.stringify(input) ?? 'missing').slice(0, 200)} (${message})`,
    )
    throw new ModelError({ path, found: found.join('; '), ...MANIFEST })
  }
  const scores = parsed.data.outputs.find(isMotif)!.shape.at(-1)
  if (scores !== parsed.data.motif_labels.length) {
    const found = `${scores} motif scores have ${parsed.data.motif_labels.length} motif_labels`
    throw new ModelError({ path, found, ...MANIFEST })
  }
  return parsed.data
}

/** The golden vectors beside the manifest, null when it lists none. */
function readGolden(manifest: Manifest, manifestPath: string): GoldenVectors | null {
  if (manifest.files['golden.json'] === undefined) return null
  const readPart = (name: string) => {
    const path = join(dirname(manifestPath), name)
    const bytes = read(path, GOLDEN)
    verify(bytes, path, manifest, manifestPath)
    return bytes
  }
  const windows = readPart('golden_windows.f32')
  const latents = readPart('golden_latent.f32')
  const motifScores = readPart('golden_motif_probs.f32')

  const count = windows.length / WINDOW_BYTES
  const latentCount = latents.length / (LATENT_DIMS * 4)
  const scoresCount = motifScores.length / (manifest.motif_labels.length * 4)
  if (!Number.isInteger(count) || latentCount !== count || scoresCount !== count) {
    const found = `the golden files hold ${count} windows, ${latentCount} latents and ${scoresCount} rows of motif scores`
    throw new ModelError({ path: manifestPath, found, ...GOLDEN })
  }
  return Object.freeze({
    count,
    windows: float32(windows),
    latents: float32(latents),
    motifScores: float32(motifScores),
  })
}

function shared(bytes: Buffer): Uint8Array<SharedArrayBuffer> {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.length))
  copy.set(bytes)
  return copy
}

/** Copies little-endian bytes: a view would need them aligned, and a Buffer may begin anywhere in its pool. */
function float32(bytes: Buffer): Float32Array {
  return new Float32Array(Uint8Array.from(bytes).buffer)
}

/** What a file should be, and what to do when it is not. */
interface Wanted {
  readonly expected: string
  readonly remedy: string
}
const ARTIFACT: Wanted = {
  expected: 'an ONNX model',
  remedy: 'Set ONNX_PATH to one, or INFER_MODE=stub to run without a model',
}
const MANIFEST: Wanted = {
  expected: 'the manifest of a model from float32[n][100][9] to latent[64] and motifs',
  remedy: 'Put the right model.json beside the model, or set MODEL_MANIFEST to it',
}
const GOLDEN: Wanted = {
  expected: 'the golden vectors that the manifest lists',
  remedy: 'Fetch them again, or take golden.json out of the manifest to run without them',
}

/** The bytes of a file that can be what is wanted: there, not empty and not a Git LFS pointer. */
function read(path: string, { expected, remedy }: Wanted): Buffer {
  const refuse = (found: string, cure = remedy) => new ModelError({ path, found, expected, remedy: cure })
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') throw refuse('no such file')
    if (code === 'EISDIR') throw refuse('a directory')
    throw refuse(`cannot be read (${message})`)
  }
  if (bytes.length === 0) throw refuse('an empty file')
  if (bytes.subarray(0, 64).toString('latin1').startsWith('version https://git-lfs')) {
    throw refuse('a Git LFS pointer', 'Run `git lfs pull`')
  }
  return bytes
}

/** Text holds no control characters but white space. Every ONNX model does: it begins with the bytes of a field tag. */
function isText(bytes: Buffer): boolean {
  return bytes.subarray(0, 512).every(byte => byte >= 32 || (byte >= 9 && byte <= 13))
}

/** The sha256 of a file's bytes, 64 hex digits, once it is the one that the manifest lists for the file's name. */
function verify(bytes: Buffer, path: string, manifest: Manifest, manifestPath: string): string {
  const listed = manifest.files[basename(path)]
  if (listed === undefined) {
    throw new ModelError({
      path: manifestPath,
      found: `files does not list ${basename(path)}`,
      expected: 'its bytes and sha256',
      remedy: 'Set MODEL_MANIFEST to the manifest that belongs to it',
    })
  }
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  if (sha256 === listed.sha256) return sha256
  const sized = bytes.length !== listed.bytes
  throw new ModelError({
    path,
    found: sized ? `sha256 ${sha256} of ${bytes.length} bytes` : `sha256 ${sha256}`,
    expected: `${listed.sha256}${sized ? ` of ${listed.bytes} bytes` : ''} as ${manifestPath} lists`,
    remedy:
      'The file may be truncated or be another model: fetch it again, or set MODEL_MANIFEST to its own manifest',
  })
}
