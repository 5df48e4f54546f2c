import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { createXXHash3 } from 'hash-wasm'
import { HefError } from './error.ts'

/**
 * The container of a HEF, all numbers big-endian: a header, a protobuf, and for the device what the protobuf refers
 * to (configuration words, "ccws"). The checksum covers every byte behind the header.
 *
 *   byte  0   magic        4 B   01 48 45 46
 *   byte  4   version      4 B
 *   byte  8   proto size   4 B
 *
 *             version 0         version 1         version 2           version 3
 *   byte 12   reserved   4 B    crc32      4 B    xxh3-64      8 B    xxh3-64                8 B
 *   byte 16   md5       16 B    ccws size  8 B
 *   byte 20                                       ccws size    8 B    ccws size with padding 8 B
 *   byte 24                     reserved   4 B
 *   byte 28                     (end)             reserved    16 B    padding                4 B
 *   byte 32   (end)                                                   additional info size   8 B
 *   byte 40                                                           reserved              16 B
 *   byte 44                                       (end)
 *   byte 56                                                           (end)
 *
 * Readers: HailoRT reads version 0 and 1 from 4.17, version 2 from 4.20, version 3 from 4.21.
 */
const MAGIC = 0x01_48_45_46
const VERSION_BYTE = 4
const PROTO_SIZE_BYTE = 8
const COMMON_BYTES = 12

export type HeaderVersion = 0 | 1 | 2 | 3
export type Checksum = 'md5' | 'crc32' | 'xxh3-64'

interface Layout {
  readonly version: HeaderVersion
  readonly headerBytes: number
  readonly checksum: Checksum
  readonly checksumByte: number
  /** Where the 64-bit sizes of what follows the protobuf stand. */
  readonly sizeBytes: readonly number[]
}
const LAYOUTS: readonly Layout[] = [
  { version: 0, headerBytes: 32, checksum: 'md5', checksumByte: 16, sizeBytes: [] },
  { version: 1, headerBytes: 28, checksum: 'crc32', checksumByte: 12, sizeBytes: [16] },
  { version: 2, headerBytes: 44, checksum: 'xxh3-64', checksumByte: 12, sizeBytes: [20] },
  { version: 3, headerBytes: 56, checksum: 'xxh3-64', checksumByte: 12, sizeBytes: [20, 32] },
]
const CCWS_WITH_PADDING_BYTE = 20
const PADDING_BYTE = 28
/** In version 3 the ccws begin at a multiple of this. */
const CCWS_ALIGNMENT_BYTES = 4096

/** Made once: only its creation is asynchronous. */
const xxh3 = await createXXHash3()

const DIGESTS: Record<Checksum, (bytes: Uint8Array) => string> = {
  md5: bytes => createHash('md5').update(bytes).digest('hex'),
  crc32: bytes => crc32(bytes).toString(16).padStart(8, '0'),
  'xxh3-64': bytes => xxh3.init().update(bytes).digest('hex'),
}

export interface Container {
  readonly headerVersion: HeaderVersion
  readonly checksum: Checksum
  /** A view into the bytes of the HEF. */
  readonly proto: Uint8Array
}

/**
 * Finds the protobuf in a HEF whose size and checksum are right.
 * @throws HefError
 */
export function openContainer(bytes: Uint8Array): Container {
  refuseWhatIsNoHef(bytes)
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length >= 4 && header.getUint32(0) !== MAGIC) {
    throw new HefError('bad_magic', {
      found: `it begins with the bytes ${hexOf(bytes.subarray(0, 4))}`,
      expected: '01484546',
      remedy: 'The file is something else or has lost its beginning: fetch it again',
    })
  }
  if (bytes.length < COMMON_BYTES) throw tooShort(bytes, COMMON_BYTES)
  const version = header.getUint32(VERSION_BYTE)
  const layout = LAYOUTS[version]
  if (layout === undefined) {
    throw new HefError('unknown_header_version', {
      found: `header version ${version}`,
      expected: `0 to ${LAYOUTS.length - 1}`,
      remedy: 'Recompile the model with a Hailo Dataflow Compiler of the 3.x line',
    })
  }
  if (bytes.length < layout.headerBytes) throw tooShort(bytes, layout.headerBytes)

  const protoBytes = header.getUint32(PROTO_SIZE_BYTE)
  // Summed as bigint: two 64-bit sizes chosen by whoever wrote the file, which only ever get compared.
  const stated = layout.sizeBytes.reduce(
    (sum, at) => sum + header.getBigUint64(at),
    BigInt(layout.headerBytes + protoBytes),
  )
  if (BigInt(bytes.length) < stated) {
    throw new HefError('truncated', {
      found: `${bytes.length} bytes`,
      expected: `${stated} as its header says`,
      remedy: 'The file is truncated: fetch it again',
    })
  }
  if (BigInt(bytes.length) > stated) {
    throw new HefError('trailing_bytes', {
      found: `${bytes.length} bytes, ${BigInt(bytes.length) - stated} of them behind its end`,
      expected: `${stated} as its header says`,
      remedy: 'Something was appended to the file: fetch it again',
    })
  }

  const rest = bytes.subarray(layout.headerBytes)
  const actual = DIGESTS[layout.checksum](rest)
  const listed = hexOf(bytes.subarray(layout.checksumByte, layout.checksumByte + actual.length / 2))
  if (actual !== listed) {
    throw new HefError('checksum_mismatch', {
      found: `${layout.checksum} ${actual}`,
      expected: `${listed} as its header says`,
      remedy: 'The file is damaged: fetch it again',
    })
  }
  return { headerVersion: layout.version, checksum: layout.checksum, proto: rest.subarray(0, protoBytes) }
}

/** A HEF of a protobuf alone, without ccws. In version 3 padded with zeros to 4 KiB, where ccws would begin. */
export function sealContainer(proto: Uint8Array, version: HeaderVersion): Uint8Array<ArrayBuffer> {
  const { headerBytes, checksum, checksumByte } = LAYOUTS[version]!
  const usedBytes = headerBytes + proto.length
  const paddingBytes = version === 3 ? -usedBytes & (CCWS_ALIGNMENT_BYTES - 1) : 0

  const bytes = new Uint8Array(usedBytes + paddingBytes)
  bytes.set(proto, headerBytes)
  const header = new DataView(bytes.buffer)
  header.setUint32(0, MAGIC)
  header.setUint32(VERSION_BYTE, version)
  header.setUint32(PROTO_SIZE_BYTE, proto.length)
  if (version === 3) {
    header.setBigUint64(CCWS_WITH_PADDING_BYTE, BigInt(paddingBytes))
    header.setUint32(PADDING_BYTE, paddingBytes)
  }
  bytes.set(Buffer.from(DIGESTS[checksum](bytes.subarray(headerBytes)), 'hex'), checksumByte)
  return bytes
}

/** Repositories often hold a placeholder where a HEF should be. It may hold secrets: none of it is shown. */
function refuseWhatIsNoHef(bytes: Uint8Array): void {
  if (bytes.length === 0) {
    throw new HefError('empty', {
      found: 'an empty file',
      expected: 'a compiled HEF',
      remedy: 'Fetch it again or compile it',
    })
  }
  const beginning = bytes.subarray(0, 512)
  if (!beginning.every(isTextual)) return
  const text = Buffer.from(beginning).toString('latin1').trimStart()
  const lfs = text.startsWith('version https://git-lfs')
  const kind = lfs ? 'a Git LFS pointer' : `${bytes.length} bytes of ${/^[[{]/.test(text) ? 'JSON' : 'text'}`
  throw new HefError('placeholder', {
    found: `a placeholder, ${kind}`,
    expected: 'a compiled HEF',
    remedy: lfs ? 'Run `git lfs pull`' : 'Put the HEF that the Hailo Dataflow Compiler makes in its place',
  })
}

/** Text holds no control characters but white space. Every HEF does: it begins with the byte 1. */
function isTextual(byte: number): boolean {
  return byte >= 32 || (byte >= 9 && byte <= 13)
}

function tooShort(bytes: Uint8Array, headerBytes: number): HefError {
  return new HefError('too_short', {
    found: `${bytes.length} bytes`,
    expected: `a header of at least ${headerBytes}`,
    remedy: 'The file is truncated: fetch it again',
  })
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
