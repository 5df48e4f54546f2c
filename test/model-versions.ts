import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { loadConfig } from '../src/config.ts'
import { LATENT_DIMS } from '../src/core/window.ts'
import { loadModel } from '../src/model.ts'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'
import { openOnnx } from '../workers/backends/onnx.ts'
import { GOLDEN, MOTIF_COUNT, windowOf } from './windows.ts'

const ONNX = 'model_dynamic.onnx'
const GOLDEN_FILES = ['golden.json', 'golden_windows.f32', 'golden_latent.f32', 'golden_motif_probs.f32']
/** In the ONNX file, before the float32[64] that are added to the latent: its name, then the tag and the length of its bytes. */
const LATENT_BIAS = Buffer.from('mu.biasJ\x80\x02', 'latin1')

export type Files = Record<string, Uint8Array>

/** Two versions of a model that answer differently, and a link to the one that is served: see turn(). */
export interface ModelVersions {
  /** For ONNX_PATH: it leads through the link. */
  readonly onnxPath: string
  readonly first: ModelVersion
  readonly second: ModelVersion
  /** Makes the link lead to that version, as `mv` does: it is never missing. */
  turn(version: string): void
  /** One more, made of what another has. */
  add(name: string, files: Files, changes?: object): void
}

export interface ModelVersion {
  readonly version: string
  /** Of the ONNX file. */
  readonly sha256: string
  readonly files: Files
  /** The answer to the golden window `index`, float32[64 + 12]. */
  expected(index: number): Float32Array
}

export async function versionsForTest(): Promise<ModelVersions> {
  const folder = mkdtempSync(join(tmpdir(), 'versions-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const shipped = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'))
  const link = join(folder, 'current')

  const add = (name: string, files: Files, changes: object = {}) => {
    mkdirSync(join(folder, name))
    const listed: Record<string, object> = {}
    for (const [file, bytes] of Object.entries(files)) {
      writeFileSync(join(folder, name, file), bytes)
      listed[file] = { bytes: bytes.length, sha256: sha256Of(bytes) }
    }
    writeFileSync(
      join(folder, name, 'model.json'),
      JSON.stringify({ ...shipped, version: name, files: listed, ...changes }),
    )
  }
  const turn = (version: string) => {
    symlinkSync(version, `${link}.new`)
    renameSync(`${link}.new`, link)
  }
  const versionOf = async (version: string, onnx: Buffer): Promise<ModelVersion> => {
    const files = await withGolden(onnx)
    add(version, files)
    const [latents, scores] = [
      float32(files['golden_latent.f32']!),
      float32(files['golden_motif_probs.f32']!),
    ]
    const row = (values: Float32Array, length: number, index: number) =>
      values.subarray(index * length, (index + 1) * length)
    return {
      version,
      files,
      sha256: sha256Of(onnx),
      expected: index =>
        Float32Array.of(...row(latents, LATENT_DIMS, index), ...row(scores, MOTIF_COUNT, index)),
    }
  }

  const onnx = readFileSync(join(SHIPPED_MODEL_FOLDER, ONNX))
  const first = await versionOf('1.0.0', onnx)
  const second = await versionOf('1.1.0', anotherOf(onnx))
  turn(first.version)
  return { onnxPath: join(link, ONNX), first, second, turn, add }
}

/** The largest difference of any value. */
export function differenceOf(output: Float32Array, expected: Float32Array): number {
  return Math.max(...expected.map((value, at) => Math.abs(value - (output[at] ?? Number.NaN))))
}

/** The same network with other weights. */
function anotherOf(onnx: Buffer): Buffer {
  const other = Buffer.from(onnx)
  const at = other.indexOf(LATENT_BIAS) + LATENT_BIAS.length
  for (let dim = 0; dim < LATENT_DIMS; dim += 2) {
    other.writeFloatLE(other.readFloatLE(at + dim * 4) + 0.5, at + dim * 4)
  }
  return other
}

/** The file, and golden vectors that are its own answers. @param stretch of the standard deviations of its z-score */
export async function withGolden(bytes: Buffer, stretch = 1): Promise<Files> {
  const { plan } = await loadModel(loadConfig({}))
  if (plan.kind !== 'onnx') throw new Error('the shipped model is not ONNX')
  const { mean, std } = plan.model.normalisation
  const normalisation = { mean, std: std.map(value => value * stretch) }
  const backend = await openOnnx({ ...plan.model, bytes, normalisation }, MOTIF_COUNT)
  const latents: number[] = []
  const scores: number[] = []
  for (let index = 0; index < GOLDEN.count; index++) {
    const output = new Float32Array(LATENT_DIMS + MOTIF_COUNT)
    backend.submit(windowOf(index))
    await backend.collect(output)
    latents.push(...output.subarray(0, LATENT_DIMS))
    scores.push(...output.subarray(LATENT_DIMS))
  }
  await backend.close()
  const own: Files = {
    [ONNX]: bytes,
    'golden_latent.f32': new Uint8Array(Float32Array.from(latents).buffer),
    'golden_motif_probs.f32': new Uint8Array(Float32Array.from(scores).buffer),
  }
  const shared = GOLDEN_FILES.filter(name => own[name] === undefined)
  return {
    ...Object.fromEntries(shared.map(name => [name, readFileSync(join(SHIPPED_MODEL_FOLDER, name))])),
    ...own,
  }
}

function float32(bytes: Uint8Array): Float32Array {
  return new Float32Array(Uint8Array.from(bytes).buffer)
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
