import { createHash } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { sealContainer } from '../src/hef/container.ts'
import { readInt8Model } from '../src/hef/int8-model.ts'
import { encodeHef, type SparseMessage } from '../src/hef/schema.ts'
import { softHef } from '../src/hef/soft-hef.ts'
import { SHIPPED_MODEL_FOLDER } from '../src/project.ts'

const PERIPH_CALCULATION_IN_HAILORT = 26
const NHCW = 1
const NC = 2
const GOLDEN_FILES = ['golden_windows.f32', 'golden_latent.f32', 'golden_motif_probs.f32']

export interface HefFacts {
  readonly architecture?: number
  readonly compilerVersion?: string
  /** Names with sizes: `tcn/latent` of 64 features. */
  readonly inputs?: Record<string, { width: number; features: number }>
  readonly outputs?: Record<string, number>
  readonly originalNames?: Record<string, string>
}

/** A HEF without a network in it: enough for whoever reads it, and for no device. */
export function hefOf({
  architecture = 1,
  compilerVersion = '3.29.0',
  inputs = { 'tcn/input_layer1': { width: 100, features: 9 } },
  outputs = { 'tcn/latent': 64, 'tcn/motif_logits': 12 },
  originalNames = {},
}: HefFacts = {}): Buffer {
  const layerOf = (
    name: string,
    { direction, width, features, format }: Record<'direction' | 'width' | 'features' | 'format', number>,
  ): SparseMessage<'EdgeLayer'> => ({
    direction,
    layer: {
      name,
      originalNames: originalNames[name] === undefined ? [] : [originalNames[name]],
      base: {
        height: 1,
        paddedHeight: 1,
        width,
        paddedWidth: width,
        features,
        paddedFeatures: features,
        format,
        bytesPerBuffer: width * features,
        buffersPerFrame: 1,
        dataBytes: 1,
      },
      numeric: { zeroPoint: 128, scale: 0.0625, limitMin: -8, limitMax: 7.9375 },
    },
  })
  const edgeLayers = [
    ...Object.entries(inputs).map(([name, size]) => layerOf(name, { direction: 0, format: NHCW, ...size })),
    ...Object.entries(outputs).map(([name, features]) =>
      layerOf(name, { direction: 1, format: NC, width: 1, features }),
    ),
  ]
  const proto = encodeHef({
    header: { architecture, timestampMs: 1_760_000_000_000, compilerVersion },
    networkGroups: [
      {
        metadata: { name: 'tcn' },
        contexts: [{ metadata: { edgeLayers } }],
        sortedOutputs: Object.keys(outputs),
      },
    ],
    extensions: [{ type: PERIPH_CALCULATION_IN_HAILORT }],
  })
  return Buffer.from(sealContainer(proto, 1))
}

export interface HefFolder {
  readonly folder: string
  /** For HEF_PATH. */
  readonly hefPath: string
  readonly sha256: string
}

/**
 * A folder with a HEF, the shipped golden vectors and a manifest that lists them; gone with the test.
 * @param changes to the shipped manifest @param files more files, listed too
 */
export function hefFolder(
  hef: Uint8Array = hefOf(),
  { changes = {}, files = {} }: { changes?: object; files?: Record<string, Uint8Array> } = {},
): HefFolder {
  const folder = mkdtempSync(join(tmpdir(), 'hef-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const manifest = JSON.parse(readFileSync(join(SHIPPED_MODEL_FOLDER, 'model.json'), 'utf8'))
  for (const name of GOLDEN_FILES) cpSync(join(SHIPPED_MODEL_FOLDER, name), join(folder, name))
  for (const [name, bytes] of Object.entries({ 'model.hef': hef, ...files })) {
    writeFileSync(join(folder, name), bytes)
    manifest.files[name] = { bytes: bytes.length, sha256: sha256Of(bytes) }
  }
  writeFileSync(join(folder, 'model.json'), JSON.stringify({ ...manifest, ...changes }))
  return { folder, hefPath: join(folder, 'model.hef'), sha256: sha256Of(hef) }
}

/** The smallest and the largest that the shipped network gives for its golden windows, and a little more. */
const MOTIF_LOGITS = { min: -2.5, max: 7.5 }

/** The shipped network in integers, for the software device. @param motifs whether it has them too, or the host makes them */
export function softHefOf({ motifs }: { motifs: boolean }): Buffer {
  const model = readInt8Model(shippedFile('model.int8.json').toString(), shippedFile('model.int8.bin'))
  return Buffer.from(softHef(model, { headerVersion: 1, motifLogits: motifs ? MOTIF_LOGITS : null }))
}

export function shippedFile(name: string): Buffer {
  return readFileSync(join(SHIPPED_MODEL_FOLDER, name))
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
