import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { requireArchitecture } from '../src/hef/architecture.ts'
import { type HeaderVersion, sealContainer } from '../src/hef/container.ts'
import { HefError } from '../src/hef/error.ts'
import { readHef } from '../src/hef/hef.ts'
import { encodeHef, type SparseMessage } from '../src/hef/schema.ts'
import { wholeRandomOf } from './random.ts'

type Proto = SparseMessage<'Hef'>
type CoreOp = SparseMessage<'CoreOp'>
type EdgeLayer = SparseMessage<'EdgeLayer'>

const NET_FLOW = 13
const OUTPUT_SCALE_PER_FEATURE = 25
const PERIPH_CALCULATION_IN_HAILORT = 26
const HEADER_BYTES = [32, 28, 44, 56]

const INPUT: EdgeLayer = {
  direction: 0,
  layer: {
    name: 'net/in',
    originalNames: ['image'],
    base: {
      height: 2,
      paddedHeight: 2,
      width: 100,
      paddedWidth: 104,
      features: 9,
      paddedFeatures: 16,
      format: 1,
      bytesPerBuffer: 1664,
      buffersPerFrame: 2,
      dataBytes: 1,
    },
    numeric: { zeroPoint: 128, scale: 0.0625, limitMin: -8, limitMax: 7.9375 },
  },
  connection: { contextName: 'context_0', buffers: 0xffff_ffff, cacheId: -1 },
}
const OUTPUT = layerOf({ direction: 1, name: 'net/out' })

test.each([0, 1, 2, 3] as const)('readHef() reads header version %d', headerVersion => {
  const bytes = hefOf({}, headerVersion)
  expect(readHef(bytes)).toEqual({
    headerVersion,
    checksum: ['md5', 'crc32', 'xxh3-64', 'xxh3-64'][headerVersion],
    bytes: bytes.length,
    architecture: 'hailo8p',
    compilerVersion: '3.29.0',
    compiledAt: new Date(1_760_000_000_000),
    software: false,
    networkGroups: [
      {
        name: 'net',
        bottleneckFps: 3460.25,
        latencyMs: 3.25,
        inputs: [
          {
            kind: 'plain',
            name: 'net/in',
            originalNames: ['image'],
            shape: { height: 2, width: 100, features: 9 },
            hardwareShape: { height: 2, width: 104, features: 16 },
            hardwareBytes: 3328,
            order: 'NHCW',
            dataBytes: 1,
            quantisation: [{ zeroPoint: 128, scale: 0.0625, limitMin: -8, limitMax: 7.9375 }],
          },
        ],
        outputs: [
          expect.objectContaining({
            name: 'net/out',
            order: 'NC',
            shape: { height: 1, width: 1, features: 4 },
          }),
        ],
      },
    ],
  })
})

test.each([1, 2, 3] as const)(
  'readHef() counts what follows the protobuf in header version %d',
  headerVersion => {
    const ccws = Buffer.alloc(1234, 0xcc)
    expect(readHef(withTail(hefOf({}, headerVersion), ccws)).bytes).toBe(
      hefOf({}, headerVersion).length + ccws.length,
    )
  },
)

test('sealContainer() lets configuration words begin at 4 KiB in header version 3', () => {
  for (const protoBytes of [0, 4039, 4040, 4041]) {
    const header = Buffer.from(sealContainer(new Uint8Array(protoBytes), 3))
    expect(header.length % 4096).toBe(0)
    expect(56 + protoBytes + header.readUInt32BE(28)).toBe(header.length)
  }
})

test('readHef() reads bytes in shared memory and in the middle of a buffer', () => {
  const bytes = hefOf({}, 2)
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length + 3)).subarray(3)
  shared.set(bytes)
  expect(readHef(shared)).toEqual(readHef(bytes))
})

test('readHef() tells a network group in the graph form of HAILO_NET_FLOW', () => {
  const proto = {
    networkGroups: [{ name: 'graph', ops: [{}, { coreOp: groupOf() }] }],
    extensions: [{ type: PERIPH_CALCULATION_IN_HAILORT }, { type: NET_FLOW }],
  }
  const [group] = readHef(hefOf(proto)).networkGroups
  expect(group).toMatchObject({ name: 'graph', bottleneckFps: 3460.25, inputs: [{ name: 'net/in' }] })
})

test.each([
  ['partial_network_groups', (coreOp: CoreOp) => ({ partials: [{ coreOp }, { coreOp: {} }] }), []],
  [
    'partial_core_ops',
    (coreOp: CoreOp) => ({ name: 'net', ops: [{ coreOp: { partials: [{ coreOp }] } }] }),
    [{ type: NET_FLOW }],
  ],
])('readHef() reads the first of several layouts in %s', (_, wrap, extensions) => {
  const proto = {
    networkGroups: [wrap(groupOf())],
    extensions: [{ type: PERIPH_CALCULATION_IN_HAILORT }, ...extensions],
  }
  expect(readHef(hefOf(proto)).networkGroups).toEqual(readHef(hefOf({})).networkGroups)
})

test('readHef() gives outputs in the order that the HEF states, unnamed ones last', () => {
  const edges = ['a', 'b', 'c', 'd'].map(name => layerOf({ direction: 1, name }))
  const outputsOf = (group: object) =>
    readHef(hefOf({ networkGroups: [{ ...groupOf([INPUT, ...edges]), ...group }] })).networkGroups[0]!.outputs
  expect(outputsOf({ sortedOutputs: ['c', 'a', 'b'] }).map(({ name }) => name)).toEqual(['c', 'a', 'b', 'd'])
  expect(outputsOf({ sortedOutputs: [] }).map(({ name }) => name)).toEqual(['a', 'b', 'c', 'd'])
})

test('readHef() passes over the edges between contexts', () => {
  const between = [1, 2, 3].map(type => ({
    ...layerOf({ direction: 1, name: `edge ${type}` }),
    connection: { type },
  }))
  const [group] = readHef(hefOf({ networkGroups: [groupOf([INPUT, OUTPUT, ...between])] })).networkGroups
  expect(group!.outputs.map(({ name }) => name)).toEqual(['net/out'])
})

test('readHef() takes one scale per feature only when the HEF says that they count', () => {
  const numeric = {
    scale: 0.5,
    zeroPoint: 3,
    limitMax: 9,
    zeroPoints: [0, -1.5, 0, 0],
    scales: [0.1, 2, 3, 4],
  }
  const edges = [0, 1].map(direction => layerOf({ direction, name: 'x', numeric }))
  const quantisationOf = (...extensions: number[]) => {
    const types = [PERIPH_CALCULATION_IN_HAILORT, ...extensions].map(type => ({ type }))
    const hef = hefOf({ networkGroups: [groupOf(edges)], extensions: types })
    return readHef(hef).networkGroups[0]!.outputs[0]!.quantisation
  }
  expect(quantisationOf()).toEqual([{ zeroPoint: 3, scale: 0.5, limitMin: 0, limitMax: 9 }])
  expect(quantisationOf(OUTPUT_SCALE_PER_FEATURE)).toEqual([
    { zeroPoint: 0, scale: Math.fround(0.1), limitMin: 0, limitMax: 9 },
    { zeroPoint: -1.5, scale: 2, limitMin: 0, limitMax: 9 },
    { zeroPoint: 0, scale: 3, limitMin: 0, limitMax: 9 },
    { zeroPoint: 0, scale: 4, limitMin: 0, limitMax: 9 },
  ])
})

test('readHef() joins scales that are the same for every feature', () => {
  const numeric = { zeroPoints: [7, 7, 7, 7], scales: [0.25, 0.25, 0.25, 0.25] }
  const edges = [0, 1].map(direction => layerOf({ direction, name: 'x', numeric }))
  const types = [PERIPH_CALCULATION_IN_HAILORT, OUTPUT_SCALE_PER_FEATURE].map(type => ({ type }))
  const [group] = readHef(hefOf({ networkGroups: [groupOf(edges)], extensions: types })).networkGroups
  expect(group!.outputs[0]!.quantisation).toEqual([{ zeroPoint: 7, scale: 0.25, limitMin: 0, limitMax: 0 }])
})

test('readHef() reports mux and planes as what they are', () => {
  const base = { height: 4, width: 8, features: 2, format: 3, bytesPerBuffer: 64, buffersPerFrame: 1 }
  const plane = { layer: { name: 'y', originalNames: ['luma'], base } }
  const edges: EdgeLayer[] = [
    { kind: 2, planes: { name: 'net/nv12', height: 4, width: 8, features: 3, planes: [plane, plane] } },
    { direction: 1, kind: 1, mux: { name: 'net/mux', originalNames: ['a', 'b'], base } },
  ]
  const [group] = readHef(hefOf({ networkGroups: [groupOf(edges)] })).networkGroups
  expect(group!.inputs[0]).toMatchObject({ kind: 'planes', name: 'net/nv12', hardwareBytes: 128 })
  expect(group!.outputs[0]).toMatchObject({ kind: 'mux', order: 'FCR', originalNames: ['a', 'b'] })
})

test('readHef() exchanges height and width of a transposed layer, but not of a vector', () => {
  const base = { height: 1, width: 6, features: 3 }
  const edges = [
    { layer: { name: 'in', transposed: true, base } },
    { direction: 1, layer: { name: 'out', transposed: true, base: { ...base, format: 2 } } },
  ]
  const [group] = readHef(hefOf({ networkGroups: [groupOf(edges)] })).networkGroups
  expect(group!.inputs[0]!.shape).toEqual({ height: 6, width: 1, features: 3 })
  expect(group!.outputs[0]!.shape).toEqual({ height: 1, width: 6, features: 3 })
})

test('readHef() gives numbers it does not know as they are, and no date where there is none', () => {
  const header = { architecture: 104, timestampMs: 9e15 }
  expect(readHef(hefOf({ header }))).toMatchObject({ architecture: 'unknown (104)', compiledAt: null })
  expect(readHef(hefOf({ header: {} }))).toMatchObject({ architecture: 'hailo8', compiledAt: null })
})

const FETCH_AGAIN = 'The file is truncated: fetch it again'
const PUT_HEF = 'Put the HEF that the Hailo Dataflow Compiler makes in its place'
test.each<[reason: string, message: string, bytes: Uint8Array]>([
  ['empty', 'an empty file, expected a compiled HEF. Fetch it again or compile it', Buffer.of()],
  [
    'placeholder',
    `a placeholder, 17 bytes of text, expected a compiled HEF. ${PUT_HEF}`,
    Buffer.from('token: hunter2 é\n', 'latin1'),
  ],
  [
    'placeholder',
    `a placeholder, 19 bytes of JSON, expected a compiled HEF. ${PUT_HEF}`,
    Buffer.from('\n{"todo":"hunter2"}'),
  ],
  [
    'placeholder',
    'a placeholder, a Git LFS pointer, expected a compiled HEF. Run `git lfs pull`',
    Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:75f3\nsize 434783\n'),
  ],
  ['too_short', `3 bytes, expected a header of at least 12. ${FETCH_AGAIN}`, Buffer.of(1, 0x48, 0x45)],
  ['too_short', `11 bytes, expected a header of at least 12. ${FETCH_AGAIN}`, hefOf({}).subarray(0, 11)],
  ['too_short', `27 bytes, expected a header of at least 28. ${FETCH_AGAIN}`, hefOf({}).subarray(0, 27)],
  [
    'bad_magic',
    'it begins with the bytes 00000000, expected 01484546. The file is something else or has lost its beginning: fetch it again',
    Buffer.alloc(4096),
  ],
  [
    'unknown_header_version',
    'header version 4, expected 0 to 3. Recompile the model with a Hailo Dataflow Compiler of the 3.x line',
    patched(hefOf({}), hef => hef.writeUInt32BE(4, 4)),
  ],
])('readHef() refuses as %s: %s', (reason, message, bytes) => {
  expect(refusalOf(bytes)).toEqual({ code: 'ERR_HEF', reason, message: `Cannot use HEF: ${message}` })
})

test.each([0, 1, 2, 3] as const)('readHef() counts the bytes of header version %d', headerVersion => {
  const hef = hefOf({}, headerVersion)
  expect(refusalOf(hef.subarray(0, -1))).toMatchObject({
    reason: 'truncated',
    message: `Cannot use HEF: ${hef.length - 1} bytes, expected ${hef.length} as its header says. ${FETCH_AGAIN}`,
  })
  expect(refusalOf(Buffer.concat([hef, Buffer.alloc(7)]))).toMatchObject({
    reason: 'trailing_bytes',
    message: `Cannot use HEF: ${hef.length + 7} bytes, 7 of them behind its end, expected ${hef.length} as its header says. Something was appended to the file: fetch it again`,
  })
})

test.each([0, 1, 2, 3] as const)(
  'readHef() sees one flipped bit anywhere behind header %d',
  headerVersion => {
    const hef = hefOf({}, headerVersion)
    for (const at of [HEADER_BYTES[headerVersion]!, hef.length - 1]) {
      const flipped = patched(hef, bytes => bytes.writeUInt8(bytes[at]! ^ 4, at))
      expect(refusalOf(flipped)).toMatchObject({
        reason: 'checksum_mismatch',
        message: expect.stringMatching(
          /: (md5|crc32|xxh3-64) \w{8,32}, expected \w{8,32} as its header says\. The file is damaged: fetch it again$/,
        ),
      })
    }
  },
)

test('readHef() takes sizes of 64 bits for what they are: a file that is too short', () => {
  const hef = patched(hefOf({}, 3), bytes => {
    bytes.fill(0xff, 20, 28)
    bytes.fill(0xff, 32, 40)
  })
  expect(refusalOf(hef)).toMatchObject({
    reason: 'truncated',
    message: expect.stringContaining('expected 3689348814741910'),
  })
})

test.each<[reason: string, message: string, proto: Proto | Buffer]>([
  [
    'bad_protobuf',
    'its 4 bytes of protobuf do not parse, expected the description of a network. Its checksum is right, so it was written like this: recompile the model',
    Buffer.from('0a7fffff', 'hex'),
  ],
  [
    'no_network_group',
    'it holds no network group, expected at least one. Recompile the model',
    { networkGroups: [] },
  ],
  [
    'no_input',
    'its network group "net" has no input stream, expected at least one. Recompile the model',
    { networkGroups: [groupOf([{ direction: 1, layer: { name: 'net/out' } }])] },
  ],
  [
    'no_output',
    'its network group "n\\u001b[2J\\u202e" has no output stream, expected at least one. Recompile the model',
    {
      networkGroups: [
        { ...groupOf([{ layer: { name: 'net/in' } }]), metadata: { name: 'n\u001b[2J\u202e' } },
      ],
    },
  ],
  [
    'no_input',
    'its network group "net" has no input stream, expected at least one. Recompile the model',
    { networkGroups: [{ name: 'net' }] },
  ],
  [
    'bad_stream',
    'a stream without a layer, expected a layer, a mux or planes. Recompile the model',
    { networkGroups: [groupOf([{ direction: 1 }])] },
  ],
  [
    'bad_stream',
    '4 zero points and 3 scales in the stream "x", expected 4 of each, one per feature. Recompile the model',
    {
      networkGroups: [
        groupOf([
          layerOf({ direction: 0, name: 'x', numeric: { zeroPoints: [0, 0, 0, 0], scales: [1, 1, 1] } }),
        ]),
      ],
      extensions: [{ type: OUTPUT_SCALE_PER_FEATURE }, { type: PERIPH_CALCULATION_IN_HAILORT }],
    },
  ],
  [
    'outdated_compiler',
    'its compiler "3.29.0" left out the extension PERIPH_CALCULATION_IN_HAILORT, expected a compiler that supports HailoRT 4.17 and newer. Recompile the model with a newer Hailo Dataflow Compiler',
    { extensions: [{ type: 3 }] },
  ],
])('readHef() refuses a whole container as %s: %s', (reason, message, proto) => {
  const hef = Buffer.isBuffer(proto) ? sealContainer(proto, 1) : hefOf(proto as Proto)
  expect(refusalOf(hef)).toEqual({ code: 'ERR_HEF', reason, message: `Cannot use HEF: ${message}` })
})

// Sealed again after the damage, so that it reaches the protobuf and not only the checksum.
test('readHef() throws nothing but HefError, whatever the bytes are', () => {
  const seed = 0x5eed
  const random = wholeRandomOf(seed)
  const proto = encodeHef(protoOf({}))
  const reasons = new Set<string>()
  const read = (bytes: Uint8Array, what: string) => {
    try {
      reasons.add(readHef(bytes).compilerVersion === '3.29.0' ? 'read' : 'read otherwise')
    } catch (error) {
      if (!(error instanceof HefError))
        throw new Error(`seed ${seed}, ${what}: ${String(error)}`, { cause: error })
      reasons.add(error.reason)
    }
  }
  for (let run = 0; run < 4000; run++) {
    const version = (run % 4) as HeaderVersion
    const damaged = damage(proto, random)
    read(sealContainer(damaged, version), `run ${run}, damaged protobuf`)
    read(damage(sealContainer(proto, version), random), `run ${run}, damaged file`)
  }
  expect([...reasons].sort()).toEqual(
    expect.arrayContaining([
      'bad_protobuf',
      'checksum_mismatch',
      'no_output',
      'read',
      'read otherwise',
      'truncated',
    ]),
  )
})

test('readHef() refuses a protobuf that nests deeper than any real one', () => {
  // Groups 2 → 7 → 1 → 7 → 1 …: layouts within layouts.
  let nested: Uint8Array = Buffer.of()
  for (let level = 0; level < 10_000; level++) nested = field(level % 2 === 0 ? 1 : 7, nested)
  expect(refusalOf(sealContainer(field(2, nested), 1)).reason).toBe('bad_protobuf')
})

test.each<[architecture: number, device: string, found: string]>([
  [0, 'hailo8', 'it is compiled for the first silicon (hailo8), which no device on sale runs'],
  [3, 'hailo8', 'it is compiled for the Hailo-8L (hailo8l), which leaves part of this Hailo-8 idle'],
  [1, 'hailo8l', 'it is compiled for the Hailo-8 (hailo8p), which has more clusters than this Hailo-8L'],
  [2, 'hailo8l', 'it is compiled for the Hailo-8 (hailo8r), which has more clusters than this Hailo-8L'],
  [4, 'hailo8', 'it is compiled for hailo15m, and this engine runs only Hailo-8 and Hailo-8L'],
  [5, 'hailo8', 'it is compiled for hailo10h, and this engine runs only Hailo-8 and Hailo-8L'],
  [6, 'hailo8l', 'it is compiled for hailo15l, and this engine runs only Hailo-8 and Hailo-8L'],
  [103, 'hailo8', 'it is compiled for hailo15h, and this engine runs only Hailo-8 and Hailo-8L'],
  [104, 'hailo8', 'its architecture is unknown (104)'],
])('requireArchitecture() refuses architecture %d on %s: %s', (architecture, device, found) => {
  const expected = device === 'hailo8' ? 'hailo8p or hailo8r for a Hailo-8' : 'hailo8l for a Hailo-8L'
  expect(mismatchOf(architecture, device)).toBe(
    `Cannot use HEF: ${found}, expected ${expected}. Recompile the model with hw_arch=${device}`,
  )
})

test('requireArchitecture() refuses every HEF on a device of another family', () => {
  expect(() => requireArchitecture({ architecture: 'hailo15h', software: false }, 'hailo15h')).toThrow(
    'expected a Hailo-8 or a Hailo-8L, not this hailo15h',
  )
})

test('requireArchitecture() takes what runs on the device', () => {
  expect(mismatchOf(1, 'hailo8')).toBeNull()
  expect(mismatchOf(2, 'hailo8')).toBeNull()
  expect(mismatchOf(3, 'hailo8l')).toBeNull()
})

test('requireArchitecture() keeps soft HEFs and devices apart', () => {
  expect(mismatchOf(0, 'software', 'soft-1.0.0')).toBeNull()
  for (const architecture of [0, 1])
    expect(mismatchOf(architecture, 'hailo8', 'soft-1.0.0')).toBe(
      'Cannot use HEF: it is a soft HEF, which only the software HailoRT runs, expected hailo8p or hailo8r for a Hailo-8. Set HEF_PATH to a HEF that the Hailo Dataflow Compiler made',
    )
  expect(mismatchOf(1, 'software')).toBe(
    'Cannot use HEF: it is compiled for hailo8p, expected a soft HEF for the software HailoRT. Make one with `npm run hef:soft`, or run it on a device',
  )
})

test('hef prints for people what is in a HEF', async () => {
  const path = fileOf(hefOf({}))
  const { code, stdout } = await runHef(path)
  expect(code).toBe(0)
  expect(stdout).toContain('version 1, crc32 is right\n')
  expect(stdout).toContain('hailo8p\n')
  expect(stdout).toContain(`sha256        ${createHash('sha256').update(hefOf({})).digest('hex')}\n`)
  expect(stdout).toContain('network group net: 3460.25 frames/s at the bottleneck, latency 3.25 ms\n')
  expect(stdout).toMatch(
    /^in +net\/in +image +2x100x9 +NHCW 2x104x16 of 8 bit, 3328 bytes +zero point 128, scale 0\.0625, -8 to 7\.9375$/m,
  )
})

test('hef --json prints for machines what readHef() returns', async () => {
  const path = fileOf(hefOf({}))
  const { code, stdout } = await runHef(path, '--json')
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject(JSON.parse(JSON.stringify({ path, ...readHef(hefOf({})) })))
})

test('hef keeps control characters in names from the terminal', async () => {
  const header = { compilerVersion: '\u001b[2J' }
  const { stdout } = await runHef(fileOf(hefOf({ header })))
  expect(stdout).toContain('"\\u001b[2J"\n')
})

test('hef exits with 1 for a file that is no HEF or cannot be read, with 64 for wrong usage', async () => {
  const path = fileOf(Buffer.from('put the model here'))
  expect(await runHef(path)).toEqual({
    code: 1,
    stdout: '',
    stderr: `${path}: Cannot use HEF: a placeholder, 18 bytes of text, expected a compiled HEF. ${PUT_HEF}\n`,
  })
  expect(await runHef(`${path}.missing`)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('ENOENT'),
  })
  expect(await runHef()).toMatchObject({ code: 64, stderr: expect.stringContaining('expected one FILE') })
  expect(await runHef(path, '--yaml')).toMatchObject({ code: 64 })
  expect(await runHef('--help')).toMatchObject({ code: 0, stdout: expect.stringContaining('npm run hef') })
})

function layerOf({ direction, name, numeric = {} }: LayerFacts): EdgeLayer {
  const base = { height: 1, width: 1, features: 4, format: 2, bytesPerBuffer: 4, buffersPerFrame: 1 }
  return { direction, layer: { name, base, numeric } }
}
interface LayerFacts {
  direction: number
  name: string
  numeric?: SparseMessage<'Numeric'>
}

function groupOf(edgeLayers: EdgeLayer[] = [INPUT, OUTPUT]): CoreOp {
  return {
    metadata: { name: 'net', bottleneckFps: 3460.25, latencySeconds: 0.00325 },
    contexts: [{}, { metadata: { edgeLayers } }],
    sortedOutputs: ['net/out'],
  }
}

function protoOf(changes: Proto): Proto {
  return {
    header: { architecture: 1, timestampMs: 1_760_000_000_000, compilerVersion: '3.29.0' },
    networkGroups: [groupOf()],
    extensions: [{ type: PERIPH_CALCULATION_IN_HAILORT }],
    ...changes,
  }
}

function hefOf(changes: Proto, headerVersion: HeaderVersion = 1): Buffer {
  return Buffer.from(sealContainer(encodeHef(protoOf(changes)), headerVersion))
}

/** The same HEF with configuration words behind its protobuf, as the compiler writes them. */
function withTail(hef: Buffer, ccws: Buffer): Buffer {
  const version = hef.readUInt32BE(4)
  const sizeByte = version === 1 ? 16 : 20
  const header = hef.subarray(0, HEADER_BYTES[version])
  const rest = Buffer.concat([hef.subarray(header.length), ccws])
  const sealed = Buffer.from(sealContainer(rest, version === 3 ? 2 : (version as HeaderVersion)))
  const checksum = sealed.subarray(12, version === 1 ? 16 : 20)
  const sized = patched(header, bytes => {
    bytes.writeBigUInt64BE(bytes.readBigUInt64BE(sizeByte) + BigInt(ccws.length), sizeByte)
    checksum.copy(bytes, 12)
  })
  return Buffer.concat([sized, rest])
}

function patched(bytes: Buffer, change: (copy: Buffer) => void): Buffer {
  const copy = Buffer.from(bytes)
  change(copy)
  return copy
}

function refusalOf(bytes: Uint8Array): { code: string; reason: string; message: string } {
  try {
    readHef(bytes)
  } catch (error) {
    if (!(error instanceof HefError)) throw error
    const { code, reason, message } = error
    return { code, reason, message }
  }
  throw new Error('readHef() took the bytes')
}

function mismatchOf(architecture: number, device: string, compilerVersion = '3.29.0'): string | null {
  const hef = readHef(hefOf({ header: { architecture, compilerVersion } }))
  try {
    requireArchitecture(hef, device)
    return null
  } catch (error) {
    expect(error).toBeInstanceOf(HefError)
    expect(error).toMatchObject({ reason: 'wrong_architecture' })
    return (error as HefError).message
  }
}

/** A length-delimited field of a protobuf. */
function field(number: number, content: Uint8Array): Buffer {
  const varint: number[] = []
  let rest = content.length
  for (; rest > 127; rest >>>= 7) varint.push((rest & 127) | 128)
  return Buffer.concat([Buffer.of((number << 3) | 2, ...varint, rest), content])
}

/** Up to three bytes changed, taken out or put in, or the end cut off. */
function damage(bytes: Uint8Array, random: (below: number) => number): Uint8Array {
  const damaged = [...bytes]
  for (let change = random(3); change >= 0; change--) {
    const at = random(damaged.length)
    const kind = random(8)
    if (kind === 0) damaged.length = at
    else if (kind === 1) damaged.splice(at, 1 + random(8))
    else if (kind === 2) damaged.splice(at, 0, random(256))
    else damaged[at] = kind < 5 ? random(256) : damaged[at]! ^ (1 << random(8))
  }
  return Uint8Array.from(damaged)
}

function fileOf(bytes: Uint8Array): string {
  const folder = mkdtempSync(join(tmpdir(), 'hef-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'model.hef')
  writeFileSync(path, bytes)
  return path
}

function runHef(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise(resolve => {
    const child = execFile(process.execPath, ['dist/src/cli/hef.js', ...args], (_, stdout, stderr) =>
      resolve({ code: child.exitCode!, stdout, stderr }),
    )
  })
}
