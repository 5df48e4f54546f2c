import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import {
  ArtifactError,
  currentVersion,
  inRealFolder,
  MANIFEST_NAME,
  type ModelKind,
  modelIn,
} from './artifacts/current.ts'
import type { Config, HailoConfig } from './config.ts'
import type { GoldenVectors } from './core/golden.ts'
import type { Normalisation } from './core/normalise.ts'
import type { BackendPlan, HailoModel, MotifHead, OnnxModel } from './core/stream-task.ts'
import { CHANNEL_NAMES, CHANNELS, LATENT_DIMS, TIMESTEPS, WINDOW_BYTES } from './core/window.ts'
import { HefError } from './hef/error.ts'
import type { Hef, HefStream } from './hef/hef.ts'

/** What a backend needs to know of the model, verified against its manifest. Frozen. */
export interface Model {
  readonly name: string
  /** What clients of the Open Inference Protocol call it, in their URLs. */
  readonly servedName: string
  readonly version: string
  /** 64 lower-case hex digits of the artifact, `stub` for the stub. */
  readonly sha256: string
  /** Of the manifest, which lists the hashes of all other files. Null for the stub. */
  readonly manifestSha256: string | null
  /** The artifact, with no link in the way to its folder. Null for the stub. */
  readonly path: string | null
  /** The folder of the version in `modelsFolder` that it is. Null where its path is configured, and for the stub. */
  readonly versionFolder: string | null
  /** What runs it, with the artifact as it was verified: nobody opens the file a second time. */
  readonly plan: BackendPlan
  /** One per motif score, in their order. */
  readonly motifLabels: readonly string[]
  /** The z-score of the data it was trained on, whoever applies it. Null for the stub. */
  readonly normalisation: Normalisation | null
  /** 0 to 1, null when nobody has measured it. */
  readonly accuracy: number | null
  readonly golden: GoldenVectors | null
}

/** The model cannot be used. `main.ts` prints the message and exits with 78. */
export class ModelError extends Error {
  readonly code = 'ERR_MODEL'

  constructor(refusal: string | ({ path: string; found: string } & Wanted)) {
    super(printable(typeof refusal === 'string' ? refusal : inWords(refusal)))
    this.name = 'ModelError'
  }
}

/**
 * Reads and verifies the model and its golden vectors. Where a link leads to them it is followed once, so that all
 * are of one version. Blocking, but for loading what reads a HEF, which only a start with a HEF has to wait for.
 * @throws ModelError saying which file, what was found, what was expected and what to do
 */
export async function loadModel(config: Config): Promise<Model> {
  const { mode, hailo, manifestPath, expectedSha256 } = config
  if (mode === 'stub') return stub(config)
  const model =
    hailo === null
      ? loadOnnx(placeOf('onnx', config, { manifestPath, versionFolder: null }), config)
      : await loadHef(placeOf('hef', config, { manifestPath, versionFolder: null }), hailo, config)
  if (expectedSha256 === null || model.sha256 === expectedSha256) return model
  throw new ModelError({
    path: model.path!,
    found: `sha256 ${model.sha256}`,
    expected: `EXPECTED_SHA256 ${expectedSha256}`,
    remedy: 'Install the model that was meant, or correct EXPECTED_SHA256',
  })
}

/**
 * The model that answers while the device of `primary` cannot, as FALLBACK says. Null: there is none.
 * @throws ModelError as loadFloatModel()
 */
export function loadFallback(config: Config, primary: Model): Model | null {
  if (config.fallback === null) return null
  if (config.fallback === 'stub') return stub(config)
  return loadFloatModel(config, primary)
}

/**
 * The model that a compiled one was made of, in float32.
 * @throws ModelError as loadModel(), when its motifs are others, and when nobody has named it and its golden vectors are others
 */
export function loadFloatModel(config: Config, primary: Model): Model {
  const place = placeOf('onnx', config, { manifestPath: null, versionFolder: primary.versionFolder })
  const model = loadOnnx(place, config)
  if (!isDeepStrictEqual(model.motifLabels, primary.motifLabels)) {
    throw new ModelError({
      path: place.manifestPath,
      found: `motif_labels ${model.motifLabels.join(' ')}`,
      expected: `those of the model that it stands in for, ${primary.motifLabels.join(' ')}`,
      remedy: `Set ${place.key} to the same model, or FALLBACK=none`,
    })
  }
  // One that is named is meant. One that only lies there may be another, trained anew.
  const mayBeAnother = place.key === 'MODEL_DIR' && model.golden !== null && primary.golden !== null
  if (mayBeAnother && !isDeepStrictEqual(model.golden, primary.golden)) {
    throw new ModelError({
      path: place.path,
      found: 'its golden vectors are others',
      expected: `those of the model that it stands in for, ${primary.path}`,
      remedy: 'Set ONNX_PATH to the float model of that, or FALLBACK=none',
    })
  }
  return model
}

/**
 * The float model that a device's answers are compared with. Null: nothing answers but itself. Words: why there is none.
 * Blocking.
 */
export function loadReference(config: Config, primary: Model): OnnxModel | string | null {
  if (config.mode !== 'hailo') return null
  try {
    const { plan } = loadFloatModel(config, primary)
    return plan.kind === 'onnx' ? plan.model : null
  } catch (error) {
    if (error instanceof ModelError) return error.message
    throw error
  }
}

/** Where a model and what belongs to it lie. */
interface Place {
  readonly path: string
  readonly manifestPath: string
  readonly versionFolder: string | null
  /** The key of the configuration that leads there. */
  readonly key: 'HEF_PATH' | 'ONNX_PATH' | 'MODEL_DIR'
}

/** @param versionFolder null: the current one @throws ModelError */
function placeOf(
  kind: ModelKind,
  { hailo, onnxPath, modelsFolder }: Config,
  told: Pick<Model, 'versionFolder'> & { manifestPath: string | null },
): Place {
  const named = kind === 'hef' ? hailo!.hefPath : onnxPath
  if (named !== null) {
    const path = inRealFolder(named)
    const manifestPath = told.manifestPath ?? join(dirname(path), MANIFEST_NAME)
    return { path, manifestPath, versionFolder: null, key: kind === 'hef' ? 'HEF_PATH' : 'ONNX_PATH' }
  }
  try {
    const versionFolder = told.versionFolder ?? currentVersion(modelsFolder)
    const manifestPath = told.manifestPath ?? join(versionFolder, MANIFEST_NAME)
    const name = modelIn(Object.keys(readManifest(manifestPath).files), kind, manifestPath)
    return { path: join(versionFolder, name), manifestPath, versionFolder, key: 'MODEL_DIR' }
  } catch (error) {
    if (error instanceof ArtifactError) throw new ModelError(error.message)
    throw error
  }
}

function loadOnnx(place: Place, config: Config): Model {
  const { path, manifestPath } = place
  const bytes = read(path, ONNX, () => readManifest(manifestPath))
  if (isText(bytes)) throw new ModelError({ path, found: `${bytes.length} bytes of text`, ...ONNX })
  const manifest = readManifest(manifestPath)
  const model = describe({ place, bytes, manifest, config })
  const motif = manifest.outputs.find(isMotif)
  if (motif === undefined) {
    const found = 'outputs lists neither motif_logits nor motif_scores'
    throw new ModelError({ path: manifestPath, found, ...MANIFEST })
  }
  return Object.freeze({
    ...model,
    plan: {
      kind: 'onnx' as const,
      model: Object.freeze({
        bytes: shared(bytes),
        inputName: manifest.input.name,
        latentName: 'latent',
        motifName: motif.name,
        motifActivation: activationOf(motif.name),
        normalisation: model.normalisation,
      }),
    },
  })
}

async function loadHef(place: Place, hailo: HailoConfig, config: Config): Promise<Model> {
  const { path, manifestPath } = place
  const bytes = read(path, HEF, () => readManifest(manifestPath))
  const hef = await parseHef(bytes, path)
  const manifest = readManifest(manifestPath)
  const model = describe({ place, bytes, manifest, config })
  const streams = streamsOf(hef, { path, manifest, motifCount: config.motifCount })
  return Object.freeze({
    ...model,
    plan: {
      kind: 'hailo' as const,
      model: Object.freeze({
        hef: shared(bytes),
        architecture: hef.architecture,
        software: hef.software,
        library: hailo.library,
        deviceId: hailo.deviceId,
        io: hailo.io,
        scheduler: hailo.scheduler,
        streamCount: config.workers,
        ...streams,
        motifHead: streams.motifName === null ? readMotifHead(manifest, manifestPath) : null,
        normalisation: manifest.normalization.in_hef ? null : model.normalisation,
      }),
    },
  })
}

/** What a manifest says of an artifact, once both belong together and fit the configuration. */
function describe({ place, bytes, manifest, config }: Artifact) {
  const { path, manifestPath, versionFolder, key } = place
  const sha256 = verify(bytes, path, manifest)
  const { motif_labels, normalization } = manifest
  if (motif_labels.length !== config.motifCount) {
    throw new ModelError({
      path: manifestPath,
      found: `the model has ${motif_labels.length} motifs`,
      expected: `${config.motifCount} as NUM_MOTIFS says`,
      remedy: `Set NUM_MOTIFS=${motif_labels.length}, or ${key} to another model`,
    })
  }
  return {
    name: manifest.name,
    servedName: manifest.served_name ?? manifest.name,
    version: config.modelVersion ?? manifest.version,
    sha256,
    manifestSha256: manifest.sha256,
    path,
    versionFolder,
    motifLabels: Object.freeze(motif_labels),
    normalisation: Object.freeze({
      mean: Float32Array.from(normalization.mean),
      std: Float32Array.from(normalization.std),
    }),
    accuracy: config.modelAccuracy ?? manifest.metrics?.test_all_windows?.accuracy ?? null,
    golden: readGolden(manifest, manifestPath),
  }
}

interface Artifact {
  readonly place: Place
  readonly bytes: Buffer
  readonly manifest: Manifest
  readonly config: Config
}

async function parseHef(bytes: Buffer, path: string): Promise<Hef> {
  const { readHef } = await import('./hef/hef.ts')
  let hef: Hef
  try {
    hef = readHef(bytes)
  } catch (error) {
    if (error instanceof HefError) throw new ModelError(`${path}: ${error.message}`)
    throw error
  }
  if (hef.software || /^hailo8/.test(hef.architecture)) return hef
  throw new ModelError({
    path,
    found: `it is compiled for ${hef.architecture}`,
    expected: 'Hailo-8 or Hailo-8L, which is what this engine runs',
    remedy: 'Recompile the model with hw_arch=hailo8 or hw_arch=hailo8l',
  })
}

/** Which stream of the HEF is what: by the name that the layer had before it was compiled, else by its size. */
function streamsOf(
  hef: Hef,
  { path, manifest, motifCount }: { path: string; manifest: Manifest; motifCount: number },
): Pick<HailoModel, 'inputName' | 'latentName' | 'motifName' | 'motifActivation'> {
  const { inputs, outputs } = hef.networkGroups[0]!
  const refuse = (what: string, streams: readonly HefStream[], expected: string) =>
    new ModelError({
      path,
      found: `its ${what} are ${streams.map(inShape).join(', ')}`,
      expected,
      remedy: 'Compile a model that takes windows and gives latents',
    })
  const [input, ...others] = inputs
  const { height, width, features } = input!.shape
  if (others.length > 0 || height * width !== TIMESTEPS || features !== CHANNELS) {
    throw refuse('inputs', inputs, `one of ${TIMESTEPS} time steps and ${CHANNELS} features`)
  }
  const roleOf = (role: RegExp, count: number) =>
    outputs.find(({ name, originalNames }) => [...originalNames, name].some(each => role.test(each))) ??
    outputs.find(({ shape }) => shape.height * shape.width === 1 && shape.features === count)
  const latent = roleOf(/(^|\/)latent$/, LATENT_DIMS)
  const motif = roleOf(/(^|\/)motif_(scores|logits)$/, motifCount)
  if (latent?.shape.features !== LATENT_DIMS) {
    throw refuse('outputs', outputs, `a latent of ${LATENT_DIMS} features`)
  }
  if (motif !== undefined && motif !== latent && motif.shape.features !== motifCount) {
    throw refuse('outputs', outputs, `${motifCount} motif scores, as NUM_MOTIFS says`)
  }
  const names = { inputName: input!.name, latentName: latent.name }
  if (motif === undefined || motif === latent) {
    return { ...names, motifName: null, motifActivation: 'softmax' }
  }
  const told = [...motif.originalNames, motif.name, manifest.outputs.find(isMotif)?.name ?? '']
  const named = told.find(name => /motif_(scores|logits)$/.test(name)) ?? 'motif_logits'
  return { ...names, motifName: motif.name, motifActivation: activationOf(named) }
}

function inShape({ name, shape }: HefStream): string {
  return `${name} ${shape.height}x${shape.width}x${shape.features}`
}

function activationOf(motifName: string): 'softmax' | 'none' {
  return motifName.endsWith('motif_logits') ? 'softmax' : 'none'
}

/** The layer that the host computes for a HEF that ends at the latent. */
function readMotifHead(manifest: Manifest, manifestPath: string): MotifHead {
  const motifs = manifest.motif_labels.length
  const expected = `motif_head: the layer from latent[${LATENT_DIMS}] to ${motifs} motifs, as the HEF has no motif scores`
  const remedy = 'Add it to the manifest, or compile the model with its motif scores'
  if (manifest.motif_head === undefined) {
    throw new ModelError({ path: manifestPath, found: 'no motif_head', expected, remedy })
  }
  const path = join(dirname(manifestPath), manifest.motif_head.file)
  const bytes = read(path, { expected, remedy }, () => manifest)
  verify(bytes, path, manifest)
  if (bytes.length !== motifs * (LATENT_DIMS + 1) * 4) {
    const expected = `${motifs * (LATENT_DIMS + 1) * 4}: float32[${motifs}][${LATENT_DIMS}], then float32[${motifs}]`
    throw new ModelError({ path, found: `${bytes.length} bytes`, expected, remedy })
  }
  const values = float32(bytes)
  const weights = values.slice(0, motifs * LATENT_DIMS)
  return Object.freeze({ weights, bias: values.slice(motifs * LATENT_DIMS) })
}

/** The name that the Open Inference Protocol's clients of this family use. */
const SERVED_NAME = 'tcn_encoder'

function stub(config: Config): Model {
  return Object.freeze({
    name: 'stub',
    servedName: SERVED_NAME,
    version: config.modelVersion ?? '0',
    sha256: 'stub',
    manifestSha256: null,
    path: null,
    versionFolder: null,
    plan: { kind: 'stub' as const },
    motifLabels: Object.freeze(Array.from({ length: config.motifCount }, (_, motif) => `motif_${motif}`)),
    normalisation: null,
    accuracy: config.modelAccuracy,
    golden: null,
  })
}

/** What a terminal, or who reads a log, would take for something else than a character: escapes, line ends, other directions. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u
const text = z
  .string()
  .min(1)
  .refine(text => !UNPRINTABLE.test(text), 'expected printable characters')
const positive = z.float32().refine(value => Math.fround(value) > 0, 'expected a float32 above 0')
const exactly = (expected: readonly string[]) =>
  z.unknown().refine(actual => isDeepStrictEqual(actual, expected), `expected ${expected.join(' ')}`)

/** The parts of a manifest that the engine acts on. Whatever else it says is for people. */
const Manifest = z.object({
  name: text,
  served_name: z
    .string()
    .regex(/^[\w.-]{1,128}$/)
    .optional(),
  version: text,
  input: z.object({
    name: text,
    window: z.literal(TIMESTEPS),
    channels: z.literal(CHANNELS),
    channel_order: exactly(CHANNEL_NAMES),
    units: exactly(['m/s^2', 'm/s^2', 'm/s^2', 'rad/s', 'rad/s', 'rad/s', 'uT', 'uT', 'uT']),
  }),
  normalization: z.object({
    method: z.literal('z_score_per_channel'),
    mean: z.array(z.float32()).length(CHANNELS),
    std: z.array(positive).length(CHANNELS),
    /** The HEF does it itself: it takes raw windows. */
    in_hef: z.boolean().default(false),
  }),
  outputs: z
    .array(z.object({ name: text, shape: z.array(z.int()) }))
    .refine(outputs => outputs.some(isLatent), `expected latent, its last dimension ${LATENT_DIMS}`),
  motif_head: z
    .object({
      version: text,
      /** Beside the manifest, listed in files. */
      file: z.string().regex(/^[^/\\]+$/),
      activation: z.literal('softmax'),
      input: z.literal('latent'),
    })
    .optional(),
  motif_labels: z.array(text),
  files: z.record(text, z.object({ bytes: z.int(), sha256: z.hash('sha256').toLowerCase() })),
  metrics: z
    .object({ test_all_windows: z.object({ accuracy: z.number().min(0).max(1) }).optional() })
    .optional(),
})
export type Manifest = z.infer<typeof Manifest> & { readonly path: string; readonly sha256: string }

interface Output {
  readonly name: string
  readonly shape: readonly number[]
}
const isLatent = ({ name, shape }: Output) => name === 'latent' && shape.at(-1) === LATENT_DIMS
const isMotif = ({ name }: Output) => name === 'motif_logits' || name === 'motif_scores'

/** @throws ModelError */
export function readManifest(path: string): Manifest {
  const bytes = read(path, MANIFEST, null)
  let content: unknown
  try {
    content = JSON.parse(bytes.toString())
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
  const { outputs, motif_head, motif_labels } = parsed.data
  const motif = outputs.find(isMotif)
  if (motif === undefined && motif_head === undefined) {
    const found = 'outputs lists neither motif_logits nor motif_scores, and there is no motif_head'
    throw new ModelError({ path, found, ...MANIFEST })
  }
  const scores = motif?.shape.at(-1) ?? motif_labels.length
  if (scores !== motif_labels.length) {
    const found = `${scores} motif scores have ${motif_labels.length} motif_labels`
    throw new ModelError({ path, found, ...MANIFEST })
  }
  return { ...parsed.data, path, sha256: sha256Of(bytes) }
}

/** The golden vectors beside the manifest, null when it lists none. */
function readGolden(manifest: Manifest, manifestPath: string): GoldenVectors | null {
  if (manifest.files['golden.json'] === undefined) return null
  const readPart = (name: string) => {
    const path = join(dirname(manifestPath), name)
    const bytes = read(path, GOLDEN, () => manifest)
    verify(bytes, path, manifest)
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

/** A message may quote what a file says. */
function printable(words: string): string {
  return words.replace(new RegExp(UNPRINTABLE, 'gu'), found => {
    return `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}

function inWords({ path, found, expected, remedy }: { path: string; found: string } & Wanted): string {
  return `${path}: ${found}, expected ${expected}. ${remedy}`
}

/** What a file should be, and what to do when it is not. */
interface Wanted {
  readonly expected: string
  readonly remedy: string
}
const HEF: Wanted = {
  expected: 'a HEF, as the Hailo Dataflow Compiler makes it',
  remedy: 'Set HEF_PATH to one, or try the engine without a device: npm run start:softhailo',
}
const ONNX: Wanted = {
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

/** A longer file is read only when it has the size that a manifest lists: what was put there by mistake may have any. */
const MAX_UNLISTED_BYTES = 1 << 20

/**
 * The bytes of a file that can be what is wanted: there, not empty and not a Git LFS pointer.
 * @param manifest asked for a file that is large; null: it is the manifest
 */
function read(path: string, { expected, remedy }: Wanted, manifest: (() => Manifest) | null): Buffer {
  const refuse = (found: string, cure = remedy) => new ModelError({ path, found, expected, remedy: cure })
  const orRefuse = <Result>(look: () => Result): Result => {
    try {
      return look()
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      throw refuse(code === 'ENOENT' ? 'no such file' : `cannot be read (${message})`)
    }
  }
  const file = orRefuse(() => statSync(path))
  if (!file.isFile()) throw refuse(file.isDirectory() ? 'a directory' : 'a pipe or a device') // which may never end
  if (file.size === 0) throw refuse('an empty file')
  if (file.size > MAX_UNLISTED_BYTES) {
    if (manifest === null) throw refuse(`${file.size} bytes`)
    const lists = manifest()
    const { bytes } = listedIn(lists, path)
    if (file.size !== bytes) throw notAsListed(path, `${file.size} bytes`, `${bytes} bytes`, lists)
  }
  const bytes = orRefuse(() => readFileSync(path))
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
function verify(bytes: Buffer, path: string, manifest: Manifest): string {
  const listed = listedIn(manifest, path)
  const sha256 = sha256Of(bytes)
  if (sha256 === listed.sha256) return sha256
  const inBytes = (count: number) => (bytes.length === listed.bytes ? '' : ` of ${count} bytes`)
  const found = `sha256 ${sha256}${inBytes(bytes.length)}`
  throw notAsListed(path, found, `${listed.sha256}${inBytes(listed.bytes)}`, manifest)
}

/** What the manifest says of the file. @throws ModelError when that is nothing */
function listedIn(manifest: Manifest, path: string): { bytes: number; sha256: string } {
  const listed = manifest.files[basename(path)]
  if (listed !== undefined) return listed
  throw new ModelError({
    path: manifest.path,
    found: `files does not list ${basename(path)}`,
    expected: 'its bytes and sha256',
    remedy: 'Set MODEL_MANIFEST to the manifest that belongs to it',
  })
}

function notAsListed(path: string, found: string, listed: string, manifest: Manifest): ModelError {
  return new ModelError({
    path,
    found,
    expected: `${listed} as ${manifest.path} lists`,
    remedy:
      'The file may be truncated or be another model: fetch it again, or set MODEL_MANIFEST to its own manifest',
  })
}

function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
