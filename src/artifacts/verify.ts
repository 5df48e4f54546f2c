import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { loadConfig } from '../config.ts'
import { type GoldenVectors, goldenWindow, Parity } from '../core/golden.ts'
import type { OnnxModel } from '../core/stream-task.ts'
import { LATENT_DIMS } from '../core/window.ts'
import { loadModel, type Manifest, type Model, ModelError, readManifest } from '../model.ts'
import {
  ArtifactError,
  isVersionName,
  MANIFEST_NAME,
  type ModelKind,
  modelIn,
  versionsIn,
} from './current.ts'

const KINDS: readonly ModelKind[] = ['onnx', 'hef']

/** What was found out about a version. */
export interface Verification {
  readonly version: string
  /** Null when it cannot be read. */
  readonly manifest: Manifest | null
  /** Why it must not be served. Empty: it may be. */
  readonly problems: readonly string[]
  /** Worth knowing, and no reason not to serve it. */
  readonly warnings: readonly string[]
  /** What is good, a line for each thing that was looked at. */
  readonly findings: readonly string[]
}

/**
 * Everything that can be known of a version without its device: its manifest, its files, and what its ONNX models
 * answer to the golden windows, on the CPU of this thread. What a HEF answers is asked once it is opened on a device.
 * @param modelNamed ONNX_PATH or HEF_PATH says which of its files is the model
 * @throws ArtifactError when there is no such version
 */
export async function verify(folder: string, version: string, modelNamed = false): Promise<Verification> {
  const checked = verifyFiles(folder, version)
  const { manifest } = checked
  if (manifest === null || checked.problems.length > 0) return checked
  const problems: string[] = []
  const warnings = [...checked.warnings]
  const findings = [...checked.findings]
  const names = Object.keys(manifest.files)
  const kinds = KINDS.filter(kind => names.some(name => name.endsWith(`.${kind}`)))
  if (kinds.length === 0) problems.push(`${MANIFEST_NAME}: files lists no *.onnx and no *.hef`)
  else {
    const refusals = KINDS.flatMap(kind => refusalOf(names, kind) ?? [])
    const isForNobody = refusals.length === KINDS.length && !modelNamed
    if (isForNobody) problems.push(...refusals)
    else warnings.push(...refusals)
  }
  if (manifest.files['golden.json'] === undefined) {
    warnings.push(`${MANIFEST_NAME} lists no golden windows: nobody can tell whether its answers are right`)
  }
  for (const name of names.filter(name => kinds.some(kind => name.endsWith(`.${kind}`)))) {
    try {
      findings.push(`${name}: ${await tryModel(join(folder, version, name), manifest)}`)
    } catch (error) {
      const words = inWords(error).replaceAll(join(folder, version, '/'), '')
      problems.push(words.startsWith(`${name}: `) ? words : `${name}: ${words}`)
    }
  }
  return { ...checked, problems, warnings, findings }
}

/** Why a server in that mode would not start with this version. Null: it would. */
function refusalOf(names: readonly string[], kind: ModelKind): string | null {
  try {
    modelIn(names, kind, MANIFEST_NAME)
    return null
  } catch (error) {
    return `${kind === 'hef' ? 'INFER_MODE=hailo' : 'INFER_MODE=onnx'} cannot serve it: ${inWords(error)}`
  }
}

/**
 * The same for the manifest and the files' bytes alone. Blocks while it reads them.
 * @throws ArtifactError when there is no such version
 */
export function verifyFiles(folder: string, version: string): Verification {
  const versions = versionsIn(folder)
  if (!isVersionName(version) || !versions.includes(version)) {
    const there = versions.length === 0 ? 'none' : versions.join(', ')
    throw new ArtifactError(`There is no version ${version} in ${folder}, only ${there}`)
  }
  let manifest: Manifest
  try {
    manifest = readManifest(join(folder, version, MANIFEST_NAME))
  } catch (error) {
    if (!(error instanceof ModelError)) throw error
    return { version, manifest: null, problems: [error.message], warnings: [], findings: [] }
  }
  const listed = Object.entries(manifest.files)
  const problems = listed.flatMap(([name, wanted]) => problemOf(join(folder, version), name, wanted) ?? [])
  const bytes = listed.reduce((sum, [, file]) => sum + file.bytes, 0)
  return {
    version,
    manifest,
    problems,
    warnings:
      manifest.version === version
        ? []
        : [`${MANIFEST_NAME} says version ${manifest.version}: clients are told that, not ${version}`],
    findings:
      problems.length > 0 ? [] : [`${listed.length} files, ${bytes} bytes, are those of ${MANIFEST_NAME}`],
  }
}

function problemOf(folder: string, name: string, wanted: { bytes: number; sha256: string }): string | null {
  // A manifest comes from somewhere else: it must not have us read other files, or one that never ends.
  if (/[/\\]/.test(name) || name === '..') return `${name}: expected a file beside ${MANIFEST_NAME}`
  const path = join(folder, name)
  try {
    const found = statSync(path)
    if (!found.isFile()) return `${name}: it is no file`
    if (found.size !== wanted.bytes) return `${name}: ${found.size} bytes, expected ${wanted.bytes}`
    const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex')
    return sha256 === wanted.sha256 ? null : `${name}: sha256 ${sha256}, expected ${wanted.sha256}`
  } catch (error) {
    return `${name}: cannot be read (${(error as NodeJS.ErrnoException).code})`
  }
}

/** @returns what is good about it @throws Error whose first line says what is not */
async function tryModel(path: string, { motif_labels }: Manifest): Promise<string> {
  const key = path.endsWith('.hef') ? 'HEF_PATH' : 'ONNX_PATH'
  const model = await loadModel(loadConfig({ [key]: path, NUM_MOTIFS: String(motif_labels.length) }))
  const { plan, golden } = model
  if (plan.kind === 'hailo') {
    const device = plan.model.software ? 'the software device' : `a ${plan.model.architecture}`
    return `a good HEF for ${device}, where its answers are checked when it is opened`
  }
  if (plan.kind !== 'onnx' || golden === null) return 'it can be loaded'
  const parity = await parityOf(plan.model, golden, model)
  if (!parity.holds) throw new ArtifactError(`golden windows are answered wrongly: ${parity}`)
  return `${golden.count} golden windows answered rightly: ${parity}`
}

async function parityOf(plan: OnnxModel, golden: GoldenVectors, { motifLabels }: Model): Promise<Parity> {
  const parity = Parity.of('onnx', golden)!
  const output = new Float32Array(LATENT_DIMS + motifLabels.length)
  // ONNX Runtime takes longer to load than all that is read here, and a list of versions needs none.
  const { openOnnx } = await import('../../workers/backends/onnx.ts')
  const backend = await openOnnx(plan, motifLabels.length)
  try {
    for (let index = 0; index < golden.count; index++) {
      backend.submit(goldenWindow(golden, index))
      await backend.collect(output)
      parity.add(output, index)
    }
  } finally {
    await backend.close()
  }
  return parity
}

function inWords(error: unknown): string {
  // ONNX Runtime adds lines that tell where in its sources it was.
  return (error as Error).message.split('\n')[0]!
}
