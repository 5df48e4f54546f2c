import { type HeaderVersion, sealContainer } from './container.ts'
import type { Int8Convolution, Int8Layer, Int8Model, Int8Tensor } from './int8-model.ts'
import { EXTENSION, encodeHef, type SparseMessage } from './schema.ts'
import { encodeSoftNetwork, type SoftLayer } from './soft-network.ts'

export interface SoftHefOptions {
  readonly headerVersion: HeaderVersion
  /** Smallest and largest motif logit that the output should hold. Null for a HEF that ends at the latent. */
  readonly motifLogits: { readonly min: number; readonly max: number } | null
}

const NETWORK = 'tcn_encoder'
const COMPILER_VERSION = 'soft-1.0.0'
const FORMAT_VERSION = 5
/** hailo8, the first silicon: no device on sale accepts it. */
const ARCHITECTURE = 0
/** Fixed, so that the same model gives the same bytes. */
const TIMESTAMP_MS = Date.UTC(2025, 9, 9, 8, 53, 20)
const BOTTLENECK_FPS = 20_000
const LATENCY_SECONDS = 0.000_12

const CONTEXT = 'context_0'
const MAX_SHMIFO_BYTES = 65_536
/** The device takes rows and vectors in multiples of this many bytes. */
const ALIGNMENT_BYTES = 8
const LEVELS = 255
/** Of the range of motif logits, on either side: other windows go further than those that gave the range. */
const MOTIF_MARGIN = 0.1

/**
 * A HEF that holds the int8 network itself, for the software HailoRT: HailoRT parses it, no device runs it.
 * The same model and options give the same bytes.
 */
export function softHef(model: Int8Model, options: SoftHefOptions): Uint8Array<ArrayBuffer> {
  const streams = streamsOf(model, options)
  const edgeLayers = streams.map(edgeLayerOf)
  const sortedOutputs = streams.filter(({ format }) => format === 'NC').map(({ name }) => name)
  const proto = encodeHef({
    header: {
      architecture: ARCHITECTURE,
      timestampMs: TIMESTAMP_MS,
      compilerVersion: COMPILER_VERSION,
      formatVersion: FORMAT_VERSION,
    },
    networkGroups: [
      {
        metadata: {
          name: NETWORK,
          bottleneckFps: BOTTLENECK_FPS,
          configChannelCount: 1,
          latencySeconds: LATENCY_SECONDS,
          configChannels: [{}],
        },
        preliminaryConfig: { operations: [{ trigger: { none: {} } }] },
        contexts: [
          {
            operations: [{ trigger: { none: {} } }],
            metadata: { name: CONTEXT, edgeLayers, sortedOutputs },
          },
        ],
        sortedOutputs,
        fusedLayers: {},
        networkNames: [NETWORK],
      },
    ],
    mapping: networkOf(model, streams),
    includedFeatures: { abbale: true, paddedDdrBuffers: true, sequencer: true },
    extensions: [
      { type: EXTENSION.abbale, name: 'ABBALE' },
      { type: EXTENSION.paddedDdrBuffers, name: 'PADDED_DDR_BUFFERS' },
      { type: EXTENSION.periphCalculationInHailoRt, name: 'PERIPH_CALCULATION_IN_HAILORT' },
      { type: EXTENSION.koRunAsap, name: 'KO_RUN_ASAP' },
    ],
    optionalExtensions: [{ type: 8, name: 'Multi-network variable batch size' }],
  })
  return sealContainer(proto, options.headerVersion)
}

/**
 * What a HEF that ends at the latent leaves to the host: logits = weights · latent + bias, then softmax.
 * @returns float32[motifs][64] weights, then float32[motifs] bias
 */
export function motifHead({ layers, tensors }: Int8Model): Float32Array {
  const head = layers.find(isMotifHead)
  if (head === undefined) throw new Error('Cannot write the motif head: the model has no gemm to float32')
  const motifs = head.bias.length
  const inputs = head.weights.length / motifs
  const scaleOf = (motif: number) => head.weightScales[motif]!
  return Float32Array.from([
    ...Array.from(head.weights, (weight, index) => weight * scaleOf(Math.floor(index / inputs))),
    ...Array.from(head.bias, (bias, motif) => bias * head.multipliers[motif]!),
  ])

  function isMotifHead(layer: Int8Layer): layer is Int8Convolution {
    return layer.op === 'gemm' && tensors.get(layer.output)?.quantisation === null
  }
}

/** A stream of the HEF and the tensor that it carries. */
interface Stream {
  readonly name: string
  readonly originalName: string
  readonly tensor: string
  readonly streamIndex: number
  readonly format: 'NHCW' | 'NC'
  readonly width: number
  readonly features: number
  readonly zeroPoint: number
  readonly scale: number
}

function streamsOf(model: Int8Model, { motifLogits }: SoftHefOptions): Stream[] {
  const input = quantised(model, model.input)
  const inputStream: Stream = {
    name: `${NETWORK}/input_layer1`,
    originalName: 'imu_window',
    tensor: model.input,
    streamIndex: 1,
    format: 'NHCW',
    width: input.length,
    features: input.channels,
    zeroPoint: input.zeroPoint,
    scale: input.scale,
  }
  const latent = quantised(model, 'latent')
  const latentStream: Stream = {
    name: `${NETWORK}/latent`,
    originalName: 'latent',
    tensor: 'latent',
    streamIndex: 0,
    format: 'NC',
    width: 1,
    features: latent.channels,
    zeroPoint: latent.zeroPoint,
    scale: latent.scale,
  }
  if (motifLogits === null) return [inputStream, latentStream]
  const motifStream: Stream = {
    name: `${NETWORK}/motif_logits`,
    originalName: 'motif_logits',
    tensor: 'motif_logits',
    streamIndex: 2,
    format: 'NC',
    width: 1,
    features: tensorOf(model, 'motif_logits').channels,
    ...quantisationFor(motifLogits),
  }
  return [inputStream, latentStream, motifStream]
}

/** One step of 255 per value from min to max with a margin, and a whole zero point so that 0 is exact. */
function quantisationFor({ min, max }: { min: number; max: number }): { scale: number; zeroPoint: number } {
  const margin = (max - min) * MOTIF_MARGIN
  const scale = Math.fround((max - min + 2 * margin) / LEVELS)
  return { scale, zeroPoint: Math.min(Math.max(Math.round((margin - min) / scale), 0), LEVELS) }
}

function edgeLayerOf(stream: Stream): SparseMessage<'EdgeLayer'> {
  const { name, originalName, format, streamIndex, width, features } = stream
  const vector = format === 'NC'
  const paddedWidth = vector ? width : aligned(width)
  const paddedFeatures = vector ? aligned(features) : features
  return {
    direction: vector ? 1 : 0,
    layer: {
      name,
      base: {
        height: 1,
        paddedHeight: 1,
        width,
        paddedWidth,
        features,
        paddedFeatures,
        format: vector ? 2 : 1,
        streamIndex,
        bytesPerBuffer: paddedWidth * paddedFeatures,
        buffersPerFrame: 1,
        dataBytes: 1,
        bufferIndices: [{ index: streamIndex === 2 ? 1 : 0 }],
        maxShmifoBytes: MAX_SHMIFO_BYTES,
      },
      numeric: numericOf(stream),
      originalNames: [originalName],
    },
    connection: { contextName: CONTEXT, buffers: 0xffff_ffff, cacheId: -1 },
  }
}

function numericOf({ zeroPoint, scale }: Stream): SparseMessage<'Numeric'> {
  const limitMin = (0 - zeroPoint) * scale
  const limitMax = (LEVELS - zeroPoint) * scale
  return { zeroPoint, scale, limitMin, limitMax, zeroPoints: [zeroPoint], scales: [scale] }
}

function networkOf(model: Int8Model, streams: readonly Stream[]): Uint8Array {
  const outputs = streams.filter(({ format }) => format === 'NC')
  const layers = layersFor(
    model,
    outputs.map(({ tensor }) => tensor),
  )
  const names = [model.input, ...layers.map(({ output }) => output)]
  const indexOf = (tensor: string) => names.indexOf(tensor)
  return encodeSoftNetwork({
    input: indexOf(model.input),
    tensors: names.map(name => {
      const { channels, length, quantisation } = tensorOf(model, name)
      return { channels, length, ...(quantisation ?? { zeroPoint: 0, scale: 1 }) }
    }),
    outputs: outputs.map(({ name, tensor, scale, zeroPoint }) => ({
      stream: name,
      tensor: indexOf(tensor),
      scale,
      zeroPoint,
    })),
    layers: layers.map((layer): SoftLayer => {
      const output = indexOf(layer.output)
      if ('kernel' in layer) {
        const { op, relu, kernel, stride, dilation, padding, weights, bias, multipliers } = layer
        const floatOutput = tensorOf(model, layer.output).quantisation === null
        const inputs = [indexOf(layer.input)] as const
        const window = { kernel, stride, dilation, padding }
        return { op, inputs, output, relu, floatOutput, ...window, ...NO_SUM, weights, bias, multipliers }
      }
      const [a, b] = layer.inputs.map(indexOf)
      const [multiplierA = 0, multiplierB = 0] = layer.multipliers
      return {
        ...NO_CONVOLUTION,
        op: layer.op,
        inputs: b === undefined ? [a!] : [a!, b],
        output,
        relu: layer.relu,
        floatOutput: false,
        inputMultipliers: [multiplierA, multiplierB],
      }
    }),
  })
}

const NO_SUM = { inputMultipliers: [0, 0] } as const
const NO_CONVOLUTION = {
  kernel: 0,
  stride: 0,
  dilation: 0,
  padding: [0, 0],
  weights: new Int8Array(),
  bias: new Int32Array(),
  multipliers: new Float32Array(),
} as const

/** The layers that lead to one of `outputs`, in their order. */
function layersFor({ layers }: Int8Model, outputs: readonly string[]): Int8Layer[] {
  const needed = new Set(outputs)
  for (const layer of layers.toReversed()) {
    if (!needed.has(layer.output)) continue
    for (const input of 'kernel' in layer ? [layer.input] : layer.inputs) needed.add(input)
  }
  return layers.filter(({ output }) => needed.has(output))
}

function tensorOf({ tensors }: Int8Model, name: string): Int8Tensor {
  const tensor = tensors.get(name)
  if (tensor === undefined) throw new Error(`Cannot write soft HEF: the model has no tensor ${name}`)
  return tensor
}

function quantised(model: Int8Model, name: string) {
  const { channels, length, quantisation } = tensorOf(model, name)
  if (quantisation === null)
    throw new Error(`Cannot write soft HEF: tensor ${name} is float32, expected uint8`)
  return { channels, length, ...quantisation }
}

function aligned(count: number): number {
  return Math.ceil(count / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
}
