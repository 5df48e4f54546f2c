import { type Checksum, type HeaderVersion, openContainer } from './container.ts'
import { HefError, quoted } from './error.ts'
import { decodeHef, EXTENSION, type Message } from './schema.ts'

/** A compiled model, as far as the host has to know it. */
export interface Hef {
  readonly headerVersion: HeaderVersion
  readonly checksum: Checksum
  /** Size of the whole file. */
  readonly bytes: number
  readonly architecture: Architecture
  /** Of the compiler, as `3.29.0`. May be empty. */
  readonly compilerVersion: string
  readonly compiledAt: Date | null
  /** A soft HEF: made by this project for its software HailoRT. No device accepts it. */
  readonly software: boolean
  /** At least one. */
  readonly networkGroups: readonly NetworkGroup[]
}

export interface NetworkGroup {
  readonly name: string
  /** Frames per second of the slowest part, 0 when the compiler left it out. */
  readonly bottleneckFps: number
  /** Simulated by the compiler for one frame on the device, 0 when it left it out. */
  readonly latencyMs: number
  /** At least one. */
  readonly inputs: readonly HefStream[]
  /** At least one, in the order that HailoRT reports them. */
  readonly outputs: readonly HefStream[]
}

export interface HefStream {
  /** 'mux': several layers in one stream. 'planes': one picture in several streams. */
  readonly kind: 'plain' | 'mux' | 'planes'
  /** As HailoRT names it: `network/layer`. */
  readonly name: string
  /** Names that the layer had before it was compiled. */
  readonly originalNames: readonly string[]
  readonly shape: Shape
  /** With the padding that the device wants. */
  readonly hardwareShape: Shape
  /** Size of one frame on its way to or from the device. */
  readonly hardwareBytes: number
  /** Of the values on the device. */
  readonly order: Order
  /** 1 for uint8, 2 for uint16, 4 for float32. 0 for planes, which have it one by one. */
  readonly dataBytes: number
  /** One for all values or one per feature. None for mux and planes, whose layers have their own. */
  readonly quantisation: readonly Quantisation[]
}

export interface Shape {
  readonly height: number
  readonly width: number
  readonly features: number
}

/** value = (q - zeroPoint) * scale; values are clipped to the limits before they become q. */
export interface Quantisation {
  readonly zeroPoint: number
  readonly scale: number
  readonly limitMin: number
  readonly limitMax: number
}

const ARCHITECTURES = {
  0: 'hailo8',
  1: 'hailo8p',
  2: 'hailo8r',
  3: 'hailo8l',
  4: 'hailo15m',
  5: 'hailo10h',
  6: 'hailo15l',
  103: 'hailo15h',
} as const
/** What the compiler made it for. `hailo8` is the first silicon; the Hailo-8 that is sold is `hailo8p`. */
export type Architecture = (typeof ARCHITECTURES)[keyof typeof ARCHITECTURES] | `unknown (${number})`

const ORDERS = {
  0: 'NHWC',
  1: 'NHCW',
  2: 'NC',
  3: 'FCR',
  4: 'BAYER_RGB',
  5: 'NHW',
  6: 'NMS',
  7: 'F8CR',
  8: 'RGB888',
  11: 'YUY2',
  13: 'NHWC',
  14: 'YYUV',
  15: 'YYVU',
  16: 'YYYYUV',
} as const
/** The order in which the device holds the values of a stream. */
export type Order = (typeof ORDERS)[keyof typeof ORDERS] | `unknown (${number})`

const SOFTWARE = /^soft-/
const BOUNDARY = 0
const HOST_TO_DEVICE = 0
const DEVICE_TO_HOST = 1

/**
 * Reads and verifies a HEF. Copies what it keeps.
 * @throws HefError, and nothing else whatever the bytes are
 */
export function readHef(bytes: Uint8Array): Hef {
  const { headerVersion, checksum, proto } = openContainer(bytes)
  const { header, networkGroups, extensions } = decoded(proto)
  const extensionTypes = new Set(extensions.map(({ type }) => type))
  if (networkGroups.length === 0) {
    throw new HefError('no_network_group', {
      found: 'it holds no network group',
      expected: 'at least one',
      remedy: 'Recompile the model',
    })
  }
  if (!extensionTypes.has(EXTENSION.periphCalculationInHailoRt)) {
    throw new HefError('outdated_compiler', {
      found: `its compiler ${quoted(header?.compilerVersion ?? '')} left out the extension PERIPH_CALCULATION_IN_HAILORT`,
      expected: 'a compiler that supports HailoRT 4.17 and newer',
      remedy: 'Recompile the model with a newer Hailo Dataflow Compiler',
    })
  }
  const compilerVersion = header?.compilerVersion ?? ''
  return {
    headerVersion,
    checksum,
    bytes: bytes.length,
    architecture: named(ARCHITECTURES, header?.architecture ?? 0),
    compilerVersion,
    compiledAt: dateOf(Number(header?.timestampMs ?? 0)),
    software: SOFTWARE.test(compilerVersion),
    networkGroups: networkGroups.map(group => readNetworkGroup(group, extensionTypes)),
  }
}

function decoded(proto: Uint8Array): Message<'Hef'> {
  try {
    return decodeHef(proto)
  } catch (cause) {
    throw new HefError(
      'bad_protobuf',
      {
        found: `its ${proto.length} bytes of protobuf do not parse`,
        expected: 'the description of a network',
        remedy: 'Its checksum is right, so it was written like this: recompile the model',
      },
      { cause },
    )
  }
}

function readNetworkGroup(group: Message<'NetworkGroup'>, extensions: ReadonlySet<number>): NetworkGroup {
  // With HAILO_NET_FLOW the group is a graph of ops, of which one runs on the device.
  const netFlow = extensions.has(EXTENSION.netFlow)
  const whole = netFlow ? group.ops.find(({ coreOp }) => coreOp !== null)?.coreOp : group
  const core = whole?.partials[0]?.coreOp ?? whole
  const name = (netFlow && group.name) || core?.metadata?.name || group.metadata?.name || group.name

  const contexts = (core?.contexts ?? []).flatMap(({ metadata }) => metadata ?? [])
  const perFeature = extensions.has(EXTENSION.outputScalePerFeature)
  const transposed = core?.metadata?.transposed ?? false
  const inputs: HefStream[] = []
  const outputs: HefStream[] = []
  for (const edge of contexts.flatMap(({ edgeLayers }) => edgeLayers)) {
    if ((edge.connection?.type ?? BOUNDARY) !== BOUNDARY) continue
    const stream = readStream(edge, { perFeature, transposed })
    if (edge.direction === HOST_TO_DEVICE) inputs.push(stream)
    if (edge.direction === DEVICE_TO_HOST) outputs.push(stream)
  }
  if (inputs.length === 0) throw withoutStreams('no_input', name)
  if (outputs.length === 0) throw withoutStreams('no_output', name)

  const orders = [core?.sortedOutputs, group.sortedOutputs, contexts.at(-1)?.sortedOutputs]
  return {
    name,
    bottleneckFps: core?.metadata?.bottleneckFps ?? 0,
    latencyMs: (core?.metadata?.latencySeconds ?? 0) * 1e3,
    inputs,
    outputs: sortedBy(orders.find(order => order !== undefined && order.length > 0) ?? [], outputs),
  }
}

interface Reading {
  /** The lists of zero points and scales count, not the single values. */
  readonly perFeature: boolean
  /** Height and width of every layer are exchanged, as old compilers say it. */
  readonly transposed: boolean
}

function readStream({ layer, mux, planes }: Message<'EdgeLayer'>, reading: Reading): HefStream {
  if (layer !== null) return readLayer(layer, reading)
  if (mux !== null) {
    const { name, originalNames, base } = mux
    return { kind: 'mux', name, originalNames, ...geometryOf(base, false), quantisation: [] }
  }
  if (planes !== null) {
    const { name, height, width, features } = planes
    const layers = planes.planes.flatMap(({ layer }) => layer ?? [])
    return {
      kind: 'planes',
      name,
      originalNames: layers.flatMap(({ originalNames }) => originalNames),
      shape: { height, width, features },
      hardwareShape: { height, width, features },
      hardwareBytes: layers.reduce((sum, { base }) => sum + frameBytesOf(base), 0),
      order: layers[0]?.base ? named(ORDERS, layers[0].base.format) : 'NHWC',
      dataBytes: 0,
      quantisation: [],
    }
  }
  throw new HefError('bad_stream', {
    found: 'a stream without a layer',
    expected: 'a layer, a mux or planes',
    remedy: 'Recompile the model',
  })
}

function readLayer(layer: Message<'Layer'>, { perFeature, transposed }: Reading): HefStream {
  const { name, originalNames, base, numeric } = layer
  const geometry = geometryOf(base, transposed || layer.transposed)
  const limitMin = numeric?.limitMin ?? 0
  const limitMax = numeric?.limitMax ?? 0
  const stream = { kind: 'plain', name, originalNames, ...geometry } as const
  if (!perFeature || numeric === null) {
    const { zeroPoint, scale } = numeric ?? { zeroPoint: 0, scale: 0 }
    return { ...stream, quantisation: [{ zeroPoint, scale, limitMin, limitMax }] }
  }

  const { zeroPoints, scales } = numeric
  // Detections of NMS have one per coordinate.
  const count = geometry.order === 'NMS' ? scales.length : geometry.shape.features
  if (zeroPoints.length !== count || scales.length !== count || count === 0) {
    throw new HefError('bad_stream', {
      found: `${zeroPoints.length} zero points and ${scales.length} scales in the stream ${quoted(name)}`,
      expected: `${count} of each, one per feature`,
      remedy: 'Recompile the model',
    })
  }
  const same = scales.every((scale, index) => scale === scales[0] && zeroPoints[index] === zeroPoints[0])
  return {
    ...stream,
    quantisation: (same ? scales.slice(0, 1) : scales).map((scale, index) => ({
      // HailoRT reckons with float32, whatever the HEF holds.
      zeroPoint: Math.fround(zeroPoints[index]!),
      scale: Math.fround(scale),
      limitMin,
      limitMax,
    })),
  }
}

function geometryOf(base: Message<'LayerBase'> | null, transposed: boolean) {
  const { height = 0, width = 0, features = 0 } = base ?? {}
  const order = named(ORDERS, base?.format ?? 0)
  const swap = transposed && order !== 'NC'
  return {
    shape: swap ? { height: width, width: height, features } : { height, width, features },
    hardwareShape: {
      height: base?.paddedHeight ?? 0,
      width: base?.paddedWidth ?? 0,
      features: base?.paddedFeatures ?? 0,
    },
    hardwareBytes: frameBytesOf(base),
    order,
    dataBytes: base?.dataBytes ?? 0,
  }
}

function frameBytesOf(base: Message<'LayerBase'> | null): number {
  return base === null ? 0 : base.bytesPerBuffer * base.buffersPerFrame
}

/** The streams as `names` has them; those that it does not name follow as they were. */
function sortedBy(names: readonly string[], streams: readonly HefStream[]): HefStream[] {
  const places = new Map(names.map((name, place) => [name, place]))
  const placeOf = ({ name }: HefStream) => places.get(name) ?? names.length
  return streams.toSorted((a, b) => placeOf(a) - placeOf(b))
}

function withoutStreams(reason: 'no_input' | 'no_output', group: string): HefError {
  const direction = reason === 'no_input' ? 'input' : 'output'
  return new HefError(reason, {
    found: `its network group ${quoted(group)} has no ${direction} stream`,
    expected: 'at least one',
    remedy: 'Recompile the model',
  })
}

function named<const Names extends Record<number, string>>(
  names: Names,
  number: number,
): Names[keyof Names] | `unknown (${number})` {
  return (names[number] as Names[keyof Names] | undefined) ?? `unknown (${number})`
}

/** The date of a number of milliseconds, null for 0 and for what no Date can hold. */
function dateOf(timestampMs: number): Date | null {
  const date = new Date(timestampMs)
  return timestampMs === 0 || Number.isNaN(date.getTime()) ? null : date
}
