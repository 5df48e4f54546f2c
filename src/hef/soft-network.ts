/**
 * The network that rides in a soft HEF, in the field `mapping`, for the software HailoRT. Little-endian and packed:
 * nothing is aligned, so readers copy.
 *
 *   byte  0   char[8]  "SOFTNET1"
 *   byte  8   u32      tensor count, layer count, output count, input tensor
 *   byte 24   tensor count × {
 *               u32    channels, length                                1 for a vector
 *               i32    zero point                                      0 for float32
 *               f32    scale                                           1 for float32
 *             }
 *             output count × {
 *               char[128]  name of the HEF's stream, padded with zeros
 *               u32    tensor
 *               f32    scale, zero point                               of the stream
 *             }
 *             layer count × {
 *               u32    op (1 conv1d, 2 gemm, 3 add, 4 global_avg_pool), input a, input b, output   b: 0xffffffff if none
 *               u32    relu, float output                              0 or 1
 *               u32    kernel, stride, dilation, padding left, padding right                0 for add and pool
 *               f64    multiplier a, multiplier b                      0 for conv1d and gemm, b 0 for pool
 *               u32    weight bytes
 *               i8     weights[out][in][kernel], then zeros to a multiple of 4
 *               u32    channel count
 *               i32    bias[channel count]
 *               f32    multiplier[channel count]
 *             }
 *
 * A float32 tensor leaves the device as q = clamp(floor(x / scale + 0.5) + zero point, 0, 255) of its stream.
 */
const MAGIC = 'SOFTNET1'
const NAME_BYTES = 128
const NO_INPUT = 0xffff_ffff
const ALIGNMENT_BYTES = 4

const OPS = ['conv1d', 'gemm', 'add', 'global_avg_pool'] as const

/** Tensors are named by their index. */
export interface SoftNetwork {
  readonly input: number
  readonly tensors: readonly SoftTensor[]
  readonly outputs: readonly SoftOutput[]
  readonly layers: readonly SoftLayer[]
}

export interface SoftTensor {
  readonly channels: number
  readonly length: number
  readonly zeroPoint: number
  readonly scale: number
}

export interface SoftOutput {
  readonly stream: string
  readonly tensor: number
  readonly scale: number
  readonly zeroPoint: number
}

export interface SoftLayer {
  readonly op: (typeof OPS)[number]
  readonly inputs: readonly [number] | readonly [number, number]
  readonly output: number
  readonly relu: boolean
  readonly floatOutput: boolean
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  readonly padding: readonly [number, number]
  readonly inputMultipliers: readonly [number, number]
  readonly weights: Int8Array
  readonly bias: Int32Array
  readonly multipliers: Float32Array
}

export function encodeSoftNetwork({ input, tensors, outputs, layers }: SoftNetwork): Uint8Array {
  const parts: Buffer[] = [Buffer.from(MAGIC)]
  const put = (bytes: number, write: (part: Buffer) => void) => {
    const part = Buffer.alloc(bytes)
    write(part)
    parts.push(part)
  }
  const u32 = (...values: number[]) => values.forEach(value => put(4, part => part.writeUInt32LE(value)))
  const i32 = (value: number) => put(4, part => part.writeInt32LE(value))
  const f32 = (value: number) => put(4, part => part.writeFloatLE(value))
  const f64 = (value: number) => put(8, part => part.writeDoubleLE(value))

  u32(tensors.length, layers.length, outputs.length, input)
  for (const { channels, length, zeroPoint, scale } of tensors) {
    u32(channels, length)
    i32(zeroPoint)
    f32(scale)
  }
  for (const { stream, tensor, scale, zeroPoint } of outputs) {
    if (Buffer.byteLength(stream) >= NAME_BYTES) {
      throw new RangeError(`Cannot name a stream ${stream}: expected fewer than ${NAME_BYTES} bytes`)
    }
    put(NAME_BYTES, part => part.write(stream))
    u32(tensor)
    f32(scale)
    f32(zeroPoint)
  }
  for (const layer of layers) {
    const [a, b = NO_INPUT] = layer.inputs
    u32(OPS.indexOf(layer.op) + 1, a, b, layer.output)
    u32(Number(layer.relu), Number(layer.floatOutput))
    u32(layer.kernel, layer.stride, layer.dilation, ...layer.padding)
    layer.inputMultipliers.forEach(f64)
    u32(layer.weights.length)
    parts.push(Buffer.from(layer.weights), Buffer.alloc(-layer.weights.length & (ALIGNMENT_BYTES - 1)))
    u32(layer.bias.length)
    layer.bias.forEach(i32)
    layer.multipliers.forEach(f32)
  }
  return Buffer.concat(parts)
}

/** @throws RangeError when the bytes end too soon or are something else */
export function decodeSoftNetwork(bytes: Uint8Array): SoftNetwork {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  const skip = (count: number) => {
    at += count
    return at - count
  }
  const take = (count: number) => {
    if (at + count > buffer.length) throw new RangeError(`Cannot read soft network: it ends at byte ${at}`)
    return buffer.subarray(skip(count), at)
  }
  const u32 = () => buffer.readUInt32LE(skip(4))
  const i32 = () => buffer.readInt32LE(skip(4))
  const f32 = () => buffer.readFloatLE(skip(4))
  const f64 = () => buffer.readDoubleLE(skip(8))
  const times = <T>(count: number, read: () => T) => Array.from({ length: count }, read)

  const magic = take(MAGIC.length).toString('latin1')
  if (magic !== MAGIC) {
    throw new RangeError(
      `Cannot read soft network: it begins with ${JSON.stringify(magic)}, expected ${MAGIC}`,
    )
  }
  const [tensorCount, layerCount, outputCount, input] = [u32(), u32(), u32(), u32()]
  const network = {
    input,
    tensors: times(tensorCount, () => ({
      channels: u32(),
      length: u32(),
      zeroPoint: i32(),
      scale: f32(),
    })),
    outputs: times(outputCount, () => ({
      stream: take(NAME_BYTES).toString().replace(/\0+$/, ''),
      tensor: u32(),
      scale: f32(),
      zeroPoint: f32(),
    })),
    layers: times(layerCount, (): SoftLayer => {
      const [op, a, b, output] = [OPS[u32() - 1], u32(), u32(), u32()]
      if (op === undefined) throw new RangeError(`Cannot read soft network: unknown op before byte ${at}`)
      const shape = {
        op,
        inputs: b === NO_INPUT ? ([a] as const) : ([a, b] as const),
        output,
        relu: u32() !== 0,
        floatOutput: u32() !== 0,
        kernel: u32(),
        stride: u32(),
        dilation: u32(),
        padding: [u32(), u32()] as const,
        inputMultipliers: [f64(), f64()] as const,
      }
      const weightBytes = u32()
      const weights = Int8Array.from(take(weightBytes), byte => (byte << 24) >> 24)
      skip(-weightBytes & (ALIGNMENT_BYTES - 1))
      const channelCount = u32()
      return {
        ...shape,
        weights,
        bias: Int32Array.from(times(channelCount, i32)),
        multipliers: Float32Array.from(times(channelCount, f32)),
      }
    }),
  }
  if (at !== buffer.length) {
    throw new RangeError(`Cannot read soft network: it has ${buffer.length} bytes, expected ${at}`)
  }
  return network
}
