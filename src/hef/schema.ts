import protobuf from 'protobufjs/light.js'

/**
 * The part of a HEF's protobuf that we read or write, as `field: [number, type]`. The numbers have stayed the same
 * from HailoRT 4.17 to 5.2; the names are ours.
 */
const SCHEMA = {
  Hef: {
    header: [1, 'Header'],
    networkGroups: [2, 'repeated NetworkGroup'],
    mapping: [3, 'bytes'],
    includedFeatures: [4, 'IncludedFeatures'],
    extensions: [5, 'repeated Extension'],
    optionalExtensions: [6, 'repeated Extension'],
  },
  Header: {
    architecture: [1, 'uint32'],
    timestampMs: [2, 'uint64'],
    compilerVersion: [3, 'string'],
    formatVersion: [4, 'uint64'],
  },
  IncludedFeatures: {
    abbale: [1, 'bool'],
    paddedDdrBuffers: [7, 'bool'],
    sequencer: [8, 'bool'],
  },
  Extension: {
    type: [1, 'uint32'],
    name: [2, 'string'],
  },

  /** What runs on the device: in `ops` with the extension HAILO_NET_FLOW, else in the fields that CoreOp has too. */
  NetworkGroup: {
    metadata: [1, 'CoreOpMetadata'],
    preliminaryConfig: [2, 'PreliminaryConfig'],
    contexts: [3, 'repeated Context'],
    sortedOutputs: [4, 'repeated string'],
    fusedLayers: [5, 'FusedLayers'],
    networkNames: [6, 'repeated string'],
    partials: [7, 'repeated Partial'],
    ops: [8, 'repeated Op'],
    name: [10, 'string'],
  },
  Op: {
    coreOp: [4, 'CoreOp'],
  },
  CoreOp: {
    metadata: [1, 'CoreOpMetadata'],
    preliminaryConfig: [2, 'PreliminaryConfig'],
    contexts: [3, 'repeated Context'],
    sortedOutputs: [4, 'repeated string'],
    fusedLayers: [5, 'FusedLayers'],
    networkNames: [6, 'repeated string'],
    partials: [7, 'repeated Partial'],
  },
  /** The same network laid out for other numbers of clusters, as a Hailo-8L has fewer. All have the same streams. */
  Partial: {
    coreOp: [1, 'CoreOp'],
  },
  FusedLayers: {},
  CoreOpMetadata: {
    name: [1, 'string'],
    transposed: [3, 'bool'],
    bottleneckFps: [4, 'double'],
    configChannelCount: [5, 'uint32'],
    latencySeconds: [6, 'double'],
    configChannels: [7, 'repeated ConfigChannel'],
  },
  ConfigChannel: {},
  PreliminaryConfig: {
    operations: [1, 'repeated Operation'],
  },
  Operation: {
    trigger: [1, 'Trigger'],
  },
  Trigger: {
    none: [3, 'NoTrigger'],
  },
  NoTrigger: {},

  Context: {
    operations: [2, 'repeated Operation'],
    metadata: [3, 'ContextMetadata'],
  },
  ContextMetadata: {
    name: [1, 'string'],
    edgeLayers: [2, 'repeated EdgeLayer'],
    sortedOutputs: [5, 'repeated string'],
  },
  /** Where data enters or leaves a context. One of layer, mux and planes is there. */
  EdgeLayer: {
    direction: [1, 'uint32'],
    kind: [2, 'uint32'],
    layer: [3, 'Layer'],
    mux: [4, 'Mux'],
    connection: [5, 'Connection'],
    planes: [8, 'Planes'],
  },
  Connection: {
    contextName: [2, 'string'],
    type: [3, 'uint32'],
    buffers: [6, 'uint32'],
    cacheId: [9, 'int32'],
  },
  Layer: {
    name: [1, 'string'],
    base: [2, 'LayerBase'],
    numeric: [3, 'Numeric'],
    originalNames: [5, 'repeated string'],
    transposed: [6, 'bool'],
  },
  /** Several layers in one stream of the device. */
  Mux: {
    name: [1, 'string'],
    base: [2, 'LayerBase'],
    originalNames: [6, 'repeated string'],
  },
  /** One picture in several streams of the device. */
  Planes: {
    name: [1, 'string'],
    planes: [3, 'repeated Plane'],
    height: [4, 'uint32'],
    width: [5, 'uint32'],
    features: [6, 'uint32'],
  },
  Plane: {
    layer: [1, 'Layer'],
  },
  LayerBase: {
    height: [1, 'uint32'],
    paddedHeight: [2, 'uint32'],
    width: [3, 'uint32'],
    paddedWidth: [4, 'uint32'],
    features: [5, 'uint32'],
    paddedFeatures: [6, 'uint32'],
    format: [7, 'uint32'],
    streamIndex: [8, 'uint32'],
    bytesPerBuffer: [9, 'uint32'],
    buffersPerFrame: [10, 'uint32'],
    dataBytes: [12, 'uint32'],
    bufferIndices: [13, 'repeated BufferIndex'],
    maxShmifoBytes: [15, 'uint32'],
  },
  BufferIndex: {
    index: [1, 'uint32'],
  },
  /** With the extension OUTPUT_SCALE_PER_FEATURE the lists count, else the single values. */
  Numeric: {
    zeroPoint: [1, 'float'],
    scale: [2, 'float'],
    limitMin: [3, 'float'],
    limitMax: [4, 'float'],
    zeroPoints: [5, 'repeated double'],
    scales: [6, 'repeated double'],
  },
} as const

/** Numbers of the extensions that decide how the rest is read. */
export const EXTENSION = {
  abbale: 0,
  paddedDdrBuffers: 3,
  koRunAsap: 12,
  netFlow: 13,
  outputScalePerFeature: 25,
  periphCalculationInHailoRt: 26,
} as const

type Schema = typeof SCHEMA
interface Scalars {
  bool: boolean
  uint32: number
  int32: number
  /** Decoded to an object that Number() takes. */
  uint64: number | { toString(): string }
  float: number
  double: number
  string: string
  bytes: Uint8Array
}
type Item<Type> = Type extends keyof Scalars
  ? Scalars[Type]
  : Type extends keyof Schema
    ? Message<Type>
    : never
type Value<Type> = Type extends `repeated ${infer Each}`
  ? readonly Item<Each>[]
  : Type extends keyof Scalars
    ? Scalars[Type]
    : Item<Type> | null
/** A decoded message: what the bytes leave out is 0, empty or null. */
export type Message<Name extends keyof Schema> = {
  readonly [Field in keyof Schema[Name]]: Schema[Name][Field] extends readonly [number, infer Type]
    ? Value<Type>
    : never
}
type Sparse<T> = T extends Uint8Array
  ? T
  : T extends readonly (infer Each)[]
    ? readonly Sparse<Each>[]
    : T extends object
      ? { readonly [Key in keyof T]?: Sparse<T[Key]> }
      : T
/** A message to encode: what is left out is 0, empty or absent. */
export type SparseMessage<Name extends keyof Schema> = Sparse<Message<Name>>

const HefType = new protobuf.Root({ edition: 'proto3' })
  .add(
    protobuf.Namespace.fromJSON('hef', {
      nested: Object.fromEntries(Object.entries(SCHEMA).map(([name, fields]) => [name, typeOf(fields)])),
    }),
  )
  .resolveAll()
  .lookupType('hef.Hef')

function typeOf(fields: Record<string, readonly [id: number, type: string]>): protobuf.IType {
  const entries = Object.entries(fields).map(([name, [id, type]]) => {
    const [, repeated, item] = /^(repeated )?(\w+)$/.exec(type)!
    return [name, { id, type: item!, ...(repeated && { rule: 'repeated' }) }]
  })
  return { edition: 'proto3', fields: Object.fromEntries(entries) }
}

/** @throws Error of any kind when the bytes are not such a protobuf */
export function decodeHef(bytes: Uint8Array): Message<'Hef'> {
  return HefType.decode(bytes) as unknown as Message<'Hef'>
}

/** The same message always gives the same bytes: fields by their number, zeros left out as proto3 has it. */
export function encodeHef(message: SparseMessage<'Hef'>): Uint8Array {
  return HefType.encode(withoutZeros(message) as Record<string, unknown>).finish()
}

function withoutZeros(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutZeros)
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value
  const set = Object.entries(value).filter(([, each]) => each !== 0 && each !== false && each !== '')
  return Object.fromEntries(set.map(([name, each]) => [name, withoutZeros(each)]))
}
