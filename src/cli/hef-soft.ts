/** Makes the soft HEF and the motif head from the int8 model, and lists them in the model's manifest. */
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { HeaderVersion } from '../hef/container.ts'
import { readInt8Model } from '../hef/int8-model.ts'
import { motifHead, type SoftHefOptions, softHef } from '../hef/soft-hef.ts'
import { PROJECT_FOLDER, SHIPPED_MODEL_FOLDER } from '../project.ts'

const HELP = `Makes a soft HEF from the int8 model: npm run hef:soft -- [options]

A soft HEF holds the int8 network for the software HailoRT. HailoRT parses it; no device runs it. Without options,
writes tcn_encoder.soft.hef and motif_head.f32 beside the model that ships, and lists both in its model.json.

  --out FILE            write a HEF there and nothing else. The options below need it
  --header-version N    0 to 3 (1: the newest that every supported HailoRT reads, 4.17 and later)
  --motifs              also put out the motif logits, not only the latent
  --check               write nothing; is what lies there what would be written?
  --help                this text

Exit code: 0 written, or all is as it would be written; 1 not so; 64 wrong usage.`

/** EX_USAGE of sysexits.h */
const EXIT_USAGE = 64

/** As people read it, from the project's folder. */
const FOLDER = relative(PROJECT_FOLDER, SHIPPED_MODEL_FOLDER)
const SOFT_HEF = 'tcn_encoder.soft.hef'
const MOTIF_HEAD = 'motif_head.f32'
const MANIFEST = 'model.json'
/** Version 1 is read by HailoRT 4.17 and later, version 2 only from 4.20. */
const HEADER_VERSION: HeaderVersion = 1

interface Options {
  /** Null for the places beside the model that ships. */
  readonly out: string | null
  readonly headerVersion: HeaderVersion
  readonly motifs: boolean
  readonly check: boolean
}

function main(args: string[]): number {
  let options: Options | 'help'
  try {
    options = parseOptions(args)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}\n`)
    return EXIT_USAGE
  }
  if (options === 'help') {
    process.stdout.write(`${HELP}\n`)
    return 0
  }

  const { hef, head, manifest } = build(options)
  if (options.out !== null) {
    writeFileSync(options.out, hef)
    process.stdout.write(`wrote ${options.out}, ${hef.length} bytes\n`)
    return 0
  }
  const files = [
    [SOFT_HEF, hef],
    [MOTIF_HEAD, head],
    [MANIFEST, manifest],
  ] as const
  const different = files.filter(([name, bytes]) => !isWritten(join(SHIPPED_MODEL_FOLDER, name), bytes))
  if (options.check) {
    for (const [name] of different) {
      process.stderr.write(`${FOLDER}/${name} is not what \`npm run hef:soft\` writes: run it\n`)
    }
    return different.length === 0 ? 0 : 1
  }
  for (const [name, bytes] of files) {
    writeFileSync(join(SHIPPED_MODEL_FOLDER, name), bytes)
    process.stdout.write(`wrote ${FOLDER}/${name}, ${bytes.length} bytes, sha256 ${sha256Of(bytes)}\n`)
  }
  return 0
}

/** The bytes of the three files. */
function build({ headerVersion, motifs }: Options) {
  const manifestText = readFileSync(join(SHIPPED_MODEL_FOLDER, MANIFEST), 'utf8')
  const manifest = JSON.parse(manifestText)
  const read = (name: string) => verified(name, manifest)

  const model = readInt8Model(read('model.int8.json').toString(), read('model.int8.bin'))
  const options: SoftHefOptions = {
    headerVersion,
    motifLogits: motifs ? rangeOf(read('golden_motif_logits.f32')) : null,
  }
  const hef = Buffer.from(softHef(model, options))
  const head = littleEndian(motifHead(model))
  return { hef, head, manifest: withArtifacts(manifest, { [SOFT_HEF]: hef, [MOTIF_HEAD]: head }) }
}

interface Manifest {
  readonly files: Record<string, { bytes: number; sha256: string }>
}

/** @throws Error when the file is not the one that the manifest lists */
function verified(name: string, { files }: Manifest): Buffer {
  const bytes = readFileSync(join(SHIPPED_MODEL_FOLDER, name))
  const [found, expected] = [sha256Of(bytes), files[name]?.sha256]
  if (found !== expected) {
    throw new Error(
      `Cannot use ${FOLDER}/${name}: sha256 ${found}, expected ${expected} as ${MANIFEST} lists`,
    )
  }
  return bytes
}

/** The manifest with the motif head and both files, the rest and its form as they were. */
function withArtifacts(manifest: Manifest, artifacts: Record<string, Buffer>): Buffer {
  const listed = Object.entries(artifacts).map(
    ([name, bytes]) => [name, { bytes: bytes.length, sha256: sha256Of(bytes) }] as const,
  )
  const { files, ...rest } = manifest
  const sorted = Object.entries({ ...files, ...Object.fromEntries(listed) }).sort(([a], [b]) =>
    a < b ? -1 : 1,
  )
  const motif_head = { version: '1.0.0', file: MOTIF_HEAD, activation: 'softmax', input: 'latent' }
  return Buffer.from(JSON.stringify({ ...rest, motif_head, files: Object.fromEntries(sorted) }, null, 1))
}

function rangeOf(bytes: Buffer): { min: number; max: number } {
  const values = Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readFloatLE(index * 4))
  return { min: Math.min(...values), max: Math.max(...values) }
}

function littleEndian(values: Float32Array): Buffer {
  const bytes = Buffer.alloc(values.length * 4)
  values.forEach((value, index) => bytes.writeFloatLE(value, index * 4))
  return bytes
}

function isWritten(path: string, bytes: Buffer): boolean {
  try {
    return readFileSync(path).equals(bytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** @throws TypeError when an option is unknown or makes no sense */
function parseOptions(args: string[]): Options | 'help' {
  const { values } = parseArgs({
    args,
    options: {
      out: { type: 'string' },
      'header-version': { type: 'string' },
      motifs: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  const { motifs, check, 'header-version': version } = values
  if (version !== undefined && !/^[0-3]$/.test(version)) {
    throw new TypeError(`Cannot parse --header-version ${version}: expected 0, 1, 2 or 3`)
  }
  const usual = values.out === undefined || resolve(values.out) === join(SHIPPED_MODEL_FOLDER, SOFT_HEF)
  if (usual && (motifs || version !== undefined)) {
    throw new TypeError('Cannot change what ships: name another place with --out')
  }
  if (!usual && check) throw new TypeError('Cannot use --check and --out together: choose one')
  return {
    out: usual ? null : values.out!,
    headerVersion: version === undefined ? HEADER_VERSION : (Number(version) as HeaderVersion),
    motifs,
    check,
  }
}

process.exitCode = main(process.argv.slice(2))
