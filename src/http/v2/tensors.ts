import {
  CHANNELS,
  LATENT_DIMS,
  parseWindow,
  TIMESTEPS,
  WINDOW_BYTES,
  WINDOW_VALUES,
} from '../../core/window.ts'
import { codec } from '../codec.ts'
import type { Failure } from '../reply.ts'
import { faultBeforeParsing } from './json-scan.ts'
import {
  faultIn,
  INPUT_NAME,
  InferRequest,
  type InferResponse,
  OUTPUT_NAMES,
  type OutputName,
} from './schema.ts'

/** One request, decoded: its windows are good, but for a single binary one, which is checked in its slot. */
export interface DecodedRequest {
  readonly id: string | undefined
  /** count × float32[100][9], little-endian. May be the body's own bytes. */
  readonly windows: Uint8Array
  readonly count: number
  /** In the order in which they are answered. */
  readonly outputs: readonly WantedOutput[]
  /** From the first byte of the request; null for what the server grants. */
  readonly timeoutMs: number | null
  readonly priority: number
}

export interface WantedOutput {
  readonly name: OutputName
  readonly binary: boolean
}

/** A request that cannot be decoded. Thrown here, caught by the exchange. */
export class Undecodable extends Error {
  readonly failure: Failure

  constructor(code: 'invalid_window' | 'invalid_request', detail: string) {
    super(detail)
    this.failure = { code, detail }
  }
}

/** Where windows are looked at before the first of them is submitted. */
const CHECKED = new Float32Array(WINDOW_VALUES)
const SCRATCH = { input: CHECKED, inputBytes: new Uint8Array(CHECKED.buffer) }

/**
 * @param body all of it, inflated
 * @param headerLength Inference-Header-Content-Length, empty when the client sent none
 * @throws Undecodable
 */
export function decodeRequest(body: Uint8Array, headerLength: string, maxBatch: number): DecodedRequest {
  if (headerLength === '') return decodeDocument(body, null, maxBatch)
  if (!/^\d{1,15}$/.test(headerLength)) {
    throw invalidRequest('Cannot read Inference-Header-Content-Length, expected a number of bytes')
  }
  const jsonBytes = Number(headerLength)
  if (jsonBytes > body.length) {
    throw invalidRequest(
      `Inference-Header-Content-Length is ${jsonBytes}, expected at most the ${body.length} bytes of the body`,
    )
  }
  if (jsonBytes === 0) return decodeRaw(body)
  return decodeDocument(body.subarray(0, jsonBytes), body.subarray(jsonBytes), maxBatch)
}

/** A body that is nothing but one tensor: a batch of one, answered in binary. */
function decodeRaw(body: Uint8Array): DecodedRequest {
  if (body.length !== WINDOW_BYTES) {
    throw new Undecodable(
      'invalid_window',
      `The body has ${body.length} bytes, expected ${WINDOW_BYTES}: one ${INPUT_NAME}, as Inference-Header-Content-Length 0 says`,
    )
  }
  return {
    id: undefined,
    windows: body,
    count: 1,
    outputs: OUTPUT_NAMES.map(name => ({ name, binary: true })),
    timeoutMs: null,
    priority: 0,
  }
}

/** @param tail what follows the JSON; null when there is no header that divides the body */
function decodeDocument(json: Uint8Array, tail: Uint8Array | null, maxBatch: number): DecodedRequest {
  const { id, parameters = {}, inputs, outputs } = parseDocument(json)
  refuse(parameters, /^sequence_/, 'parameters', 'sequences')
  const input = inputs[0]!
  refuse(input.parameters ?? {}, /^shared_memory_/, 'inputs[0].parameters', 'shared memory')
  const [count] = input.shape
  if (count > maxBatch) {
    throw new Undecodable(
      'invalid_window',
      `inputs[0].shape has ${count} windows, expected at most ${maxBatch}`,
    )
  }
  return {
    id,
    windows: windowsOf(input, count, tail),
    count,
    outputs: wantedOutputs(outputs, parameters.binary_data_output ?? false),
    timeoutMs: parameters.timeout ? parameters.timeout / 1000 : null,
    priority: parameters.priority ?? 0,
  }
}

function parseDocument(json: Uint8Array): InferRequest {
  const fault = faultBeforeParsing(json)
  if (fault !== null) throw invalidRequest(`The request's JSON ${fault}, expected {"inputs":[…]}`)
  let document: unknown
  try {
    document = JSON.parse(Buffer.from(json.buffer, json.byteOffset, json.length).toString())
  } catch {
    throw invalidRequest(
      `The ${json.length} bytes of the request's JSON are not valid JSON, expected {"inputs":[…]}`,
    )
  }
  // Before the schema, which would list all that is wrong with each of a million entries.
  refuseCrowd(document, 'inputs', 1, `one tensor, ${INPUT_NAME}`)
  refuseCrowd(document, 'outputs', OUTPUT_NAMES.length, `${OUTPUT_NAMES.join(' and ')}, each at most once`)
  const parsed = InferRequest.safeParse(document)
  if (parsed.success) return parsed.data
  throw invalidRequest(faultIn(InferRequest, parsed.error))
}

function refuseCrowd(document: unknown, key: 'inputs' | 'outputs', most: number, expected: string): void {
  const entries = (document as Record<string, unknown> | null)?.[key]
  if (Array.isArray(entries) && entries.length > most) {
    throw invalidRequest(`${key} has ${entries.length} entries, expected ${expected}`)
  }
}

/** Refuses parameters that would change the meaning of the request and are not understood. */
function refuse(parameters: object, names: RegExp, place: string, what: string): void {
  if (Object.keys(parameters).some(name => names.test(name))) {
    throw invalidRequest(`${place} asks for ${what}, which this server does not support`)
  }
}

function wantedOutputs(outputs: InferRequest['outputs'], binaryByDefault: boolean): WantedOutput[] {
  // None listed means all.
  if (outputs === undefined || outputs.length === 0) {
    return OUTPUT_NAMES.map(name => ({ name, binary: binaryByDefault }))
  }
  return outputs.map(({ name, parameters = {} }, index) => {
    const place = `outputs[${index}]`
    if (outputs.findIndex(output => output.name === name) !== index) {
      throw invalidRequest(`${place} asks for ${name} a second time, expected each output once`)
    }
    refuse(parameters, /^classification$/, `${place}.parameters`, 'classification')
    refuse(parameters, /^shared_memory_/, `${place}.parameters`, 'shared memory')
    return { name, binary: parameters.binary_data ?? binaryByDefault }
  })
}

type Input = InferRequest['inputs'][number]

function windowsOf({ parameters, data }: Input, count: number, tail: Uint8Array | null): Uint8Array {
  const size = parameters?.binary_data_size
  if (size !== undefined && data !== undefined) {
    throw invalidRequest('inputs[0] has both data and binary_data_size, expected one of them')
  }
  if (size === undefined && data === undefined) {
    throw invalidRequest(
      'inputs[0] has no values, expected data, or binary_data_size and the bytes behind the JSON',
    )
  }
  if (size !== undefined && tail === null) {
    throw invalidRequest(
      'inputs[0] has binary_data_size, but the request no header Inference-Header-Content-Length, expected both',
    )
  }
  if (tail !== null && tail.length !== (size ?? 0)) {
    throw new Undecodable(
      'invalid_window',
      `Behind the JSON there are ${tail.length} bytes, expected ${size ?? 0} as inputs[0] says`,
    )
  }
  if (data !== undefined) return parseTensor(data, count)
  if (size !== count * WINDOW_BYTES) {
    throw new Undecodable(
      'invalid_window',
      `inputs[0] has ${size} bytes, expected ${count * WINDOW_BYTES}: ${count}×${TIMESTEPS}×${CHANNELS} values of 4 bytes, as its shape says`,
    )
  }
  if (count > 1) checkAll(tail!, count)
  return tail!
}

/** All windows or none: a bad one must be found before the first has gone to a worker. */
function checkAll(windows: Uint8Array, count: number): void {
  for (let index = 0; index < count; index++) {
    const fault = codec.readWindow(windowAt(windows, index), SCRATCH)
    if (fault !== null) throw badWindow(fault, index, count)
  }
}

export function windowAt(windows: Uint8Array, index: number): Uint8Array {
  return windows.subarray(index * WINDOW_BYTES, (index + 1) * WINDOW_BYTES)
}

export function badWindow(fault: string, index: number, count: number): Undecodable {
  return new Undecodable('invalid_window', count === 1 ? fault : `Window ${index} of ${count}: ${fault}`)
}

/** Values that came as JSON, flat or nested. */
function parseTensor(data: unknown, count: number): Uint8Array {
  if (!Array.isArray(data)) {
    throw new Undecodable(
      'invalid_window',
      'inputs[0].data is not an array, expected numbers, flat or nested',
    )
  }
  const nested = Array.isArray(data[0])
  const expected = nested ? count : count * WINDOW_VALUES
  if (data.length !== expected) {
    throw new Undecodable(
      'invalid_window',
      `inputs[0].data has ${data.length} ${nested ? 'windows' : 'values'}, expected ${expected} as its shape says`,
    )
  }
  const values = new Float32Array(count * WINDOW_VALUES)
  for (let index = 0; index < count; index++) {
    const rows: unknown = nested ? data[index] : rowsOf(data, index)
    const window = values.subarray(index * WINDOW_VALUES, (index + 1) * WINDOW_VALUES)
    const fault = parseWindow(rows, window)
    if (fault !== null) throw badWindow(fault, index, count)
  }
  return new Uint8Array(values.buffer)
}

function rowsOf(flat: readonly unknown[], window: number): unknown[][] {
  return Array.from({ length: TIMESTEPS }, (_, step) => {
    const from = window * WINDOW_VALUES + step * CHANNELS
    return flat.slice(from, from + CHANNELS)
  })
}

function invalidRequest(detail: string): Undecodable {
  return new Undecodable('invalid_request', detail)
}

/** What the answer says beside its tensors. */
export type ResponseHead = Omit<InferResponse, 'outputs'>

/**
 * The body of an answer: JSON, and behind it what was asked for in binary.
 * @param results count × float32[64 + motifs]
 * @returns the length of the JSON too, null when there is nothing behind it
 */
export function encodeResponse(
  head: ResponseHead,
  { outputs, count }: DecodedRequest,
  results: Float32Array,
): { body: string | Uint8Array; jsonBytes: number | null } {
  const tensors = outputs.map(({ name, binary }) => {
    const values = outputOf(results, count, name)
    return { name, binary, values, dims: values.length / count }
  })
  const described = tensors.map(({ name, binary, values, dims }) => {
    const tensor = `"name":"${name}","datatype":"FP32","shape":[${count},${dims}]`
    const told = binary
      ? `"parameters":{"binary_data_size":${values.byteLength}}`
      : `"data":[${codec.joinNumbers(values)}]`
    return `{${tensor},${told}}`
  })
  const json = `${JSON.stringify(head).slice(0, -1)},"outputs":[${described.join()}]}`
  const binary = tensors.filter(({ binary }) => binary)
  if (binary.length === 0) return { body: json, jsonBytes: null }
  const jsonPart = Buffer.from(json)
  const parts = binary.map(({ values }) => Buffer.from(values.buffer))
  return { body: Buffer.concat([jsonPart, ...parts]), jsonBytes: jsonPart.length }
}

/** One output of all windows behind each other. */
function outputOf(results: Float32Array, count: number, name: OutputName): Float32Array {
  const stride = results.length / count
  const [from, to] = name === 'latent' ? [0, LATENT_DIMS] : [LATENT_DIMS, stride]
  const values = new Float32Array(count * (to - from))
  for (let index = 0; index < count; index++) {
    values.set(results.subarray(index * stride + from, index * stride + to), index * (to - from))
  }
  return values
}
