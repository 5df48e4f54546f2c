import { z } from 'zod'

/** The network in integers, as model.int8.json and model.int8.bin hold it. The JSON file writes its arithmetic out. */
export interface Int8Model {
  readonly input: string
  readonly tensors: ReadonlyMap<string, Int8Tensor>
  /** In the order in which they run. */
  readonly layers: readonly Int8Layer[]
}

/** uint8[channels][length] with value = (q - zeroPoint) * scale, or float32[channels]. */
export interface Int8Tensor {
  readonly channels: number
  /** 1 for a vector. */
  readonly length: number
  /** Null for float32. */
  readonly quantisation: { readonly scale: number; readonly zeroPoint: number } | null
}

export type Int8Layer = Int8Convolution | Int8Sum

interface LayerFacts {
  readonly output: string
  readonly relu: boolean
}

export interface Int8Convolution extends LayerFacts {
  readonly op: 'conv1d' | 'gemm'
  readonly input: string
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  /** Zeros before the first and behind the last time step. */
  readonly padding: readonly [number, number]
  /** int8[out][in][kernel] */
  readonly weights: Int8Array
  /** float32[out]: weight = int8 weight * scale */
  readonly weightScales: Float32Array
  /** int32[out] */
  readonly bias: Int32Array
  /** float32[out]: from the sum to the steps of the output, or to real values where the output is float32. */
  readonly multipliers: Float32Array
}

export interface Int8Sum extends LayerFacts {
  readonly op: 'add' | 'global_avg_pool'
  /** Two for add, one for global_avg_pool. */
  readonly inputs: readonly string[]
  /** One per input. */
  readonly multipliers: readonly number[]
}

const Part = z.object({ offset: z.int().min(0), bytes: z.int().min(0) })
const Tensor = z.object({
  shape: z.array(z.int().positive()).min(1).max(2),
  dtype: z.enum(['uint8', 'float32']),
  scale: z.number().positive().optional(),
  zero_point: z.int().min(0).max(255).optional(),
})
const Convolution = z.object({
  input: z.string(),
  output: z.string(),
  relu: z.boolean(),
  weight: Part,
  weight_scale: Part,
  bias: Part,
})
const Conv1d = Convolution.extend({
  op: z.literal('conv1d'),
  kernel: z.int().positive(),
  stride: z.int().positive(),
  dilation: z.int().positive(),
  padding: z.tuple([z.int().min(0), z.int().min(0)]),
  multiplier: Part,
})
const Gemm = Convolution.extend({
  op: z.literal('gemm'),
  multiplier: Part.optional(),
  dequant: Part.optional(),
})
/** Within this, the library's sums of such products are exact; see IsRatio() in native/soft/network.cc. */
const Ratio = z
  .number()
  .refine(value => value === Math.fround(value) && value >= 2 ** -12 && value < 2 ** 8, {
    error: 'expected a float32 from 2^-12 to below 2^8',
  })
const Add = z.object({
  op: z.literal('add'),
  inputs: z.tuple([z.string(), z.string()]),
  output: z.string(),
  relu: z.boolean(),
  multipliers: z.tuple([Ratio, Ratio]),
})
const Pool = z.object({
  op: z.literal('global_avg_pool'),
  input: z.string(),
  output: z.string(),
  multiplier_value: z.number(),
})
const Index = z.object({
  format: z.literal('tcn-vae-int8/1'),
  byte_order: z.literal('little'),
  input: z.string(),
  tensors: z.record(z.string(), Tensor),
  layers: z.array(z.discriminatedUnion('op', [Conv1d, Gemm, Add, Pool])),
})

/**
 * @param index the text of model.int8.json
 * @param weights the bytes of model.int8.bin. Copied.
 * @throws Error when the two are not such a model
 */
export function readInt8Model(index: string, weights: Uint8Array): Int8Model {
  const { input, tensors, layers } = Index.parse(JSON.parse(index))
  const bytesOf = ({ offset, bytes }: z.infer<typeof Part>): ArrayBuffer => {
    if (offset + bytes > weights.length) {
      throw new Error(
        `Cannot read model.int8.bin: it has ${weights.length} bytes, expected ${offset + bytes} or more`,
      )
    }
    return Uint8Array.from(weights.subarray(offset, offset + bytes)).buffer
  }
  const parametersOf = (layer: z.infer<typeof Convolution>) => ({
    input: layer.input,
    output: layer.output,
    relu: layer.relu,
    weights: new Int8Array(bytesOf(layer.weight)),
    weightScales: new Float32Array(bytesOf(layer.weight_scale)),
    bias: new Int32Array(bytesOf(layer.bias)),
  })
  return {
    input,
    tensors: new Map(Object.entries(tensors).map(([name, tensor]) => [name, readTensor(name, tensor)])),
    layers: layers.map((layer): Int8Layer => {
      switch (layer.op) {
        case 'conv1d': {
          const { op, kernel, stride, dilation, padding } = layer
          const multipliers = new Float32Array(bytesOf(layer.multiplier))
          return { op, ...parametersOf(layer), kernel, stride, dilation, padding, multipliers }
        }
        case 'gemm': {
          const scaling = layer.multiplier ?? layer.dequant
          if (scaling === undefined)
            throw new Error(`Cannot read layer of ${layer.output}: no multiplier and no dequant`)
          const position = { kernel: 1, stride: 1, dilation: 1, padding: [0, 0] } as const
          const multipliers = new Float32Array(bytesOf(scaling))
          return { op: 'gemm', ...parametersOf(layer), ...position, multipliers }
        }
        case 'add':
          return layer
        case 'global_avg_pool': {
          const { op, output, multiplier_value } = layer
          return { op, inputs: [layer.input], output, relu: false, multipliers: [multiplier_value] }
        }
      }
    }),
  }
}

function readTensor(name: string, { shape, dtype, scale, zero_point }: z.infer<typeof Tensor>): Int8Tensor {
  const [channels = 1, length = 1] = shape
  if (dtype === 'float32') return { channels, length, quantisation: null }
  if (scale === undefined || zero_point === undefined) {
    throw new Error(`Cannot read tensor ${name}: uint8 without scale and zero_point`)
  }
  return { channels, length, quantisation: { scale, zeroPoint: zero_point } }
}
