import { WINDOW_VALUES } from '../src/core/window.ts'
import { type Answer, ask, bytesOf, resultOf, rowsOf } from './http-client.ts'

export const MODEL = '/v2/models/tcn_encoder'
export const HEADER_LENGTH = 'Inference-Header-Content-Length'

type Server = { readonly port: number }
type Headers = Record<string, string>

export interface RequestOptions {
  /** Keys of the request beside its inputs. */
  readonly request?: Record<string, unknown>
  readonly headers?: Headers
  readonly path?: string
}

/** Several windows behind each other, as one tensor. */
export function tensorOf(windows: readonly Float32Array[]): Float32Array {
  const tensor = new Float32Array(windows.length * WINDOW_VALUES)
  windows.forEach((window, index) => {
    tensor.set(window, index * WINDOW_VALUES)
  })
  return tensor
}

export function inputOf(windows: readonly Float32Array[], fields: Record<string, unknown> = {}) {
  return { name: 'imu_window', shape: [windows.length, 100, 9], datatype: 'FP32', ...fields }
}

/** A request whose windows are nested arrays. */
export function jsonRequestOf(windows: readonly Float32Array[], request = {}): string {
  return JSON.stringify({ ...request, inputs: [inputOf(windows, { data: windows.map(rowsOf) })] })
}

/** A request whose windows lie behind its JSON. */
export function binaryRequestOf(windows: readonly Float32Array[], request = {}) {
  const tensor = bytesOf(tensorOf(windows))
  const parameters = { binary_data_size: tensor.length }
  return withTail({ ...request, inputs: [inputOf(windows, { parameters })] }, tensor)
}

/** @param headerLength what the header claims, the truth unless told otherwise */
export function withTail(document: unknown, tail: Uint8Array, headerLength?: number | string) {
  const json = Buffer.from(JSON.stringify(document))
  return {
    body: Buffer.concat([json, tail]),
    headers: {
      [HEADER_LENGTH]: String(headerLength ?? json.length),
      'Content-Type': 'application/octet-stream',
    },
  }
}

export function inferJson(server: Server, windows: readonly Float32Array[], options: RequestOptions = {}) {
  const { request, headers = {}, path = `${MODEL}/infer` } = options
  return ask(server, `POST ${path}`, { headers, body: jsonRequestOf(windows, request) })
}

export function inferBinary(server: Server, windows: readonly Float32Array[], options: RequestOptions = {}) {
  const { request, headers = {}, path = `${MODEL}/infer` } = options
  const { body, headers: needed } = binaryRequestOf(windows, request)
  return ask(server, `POST ${path}`, { headers: { ...needed, ...headers }, body })
}

/** The JSON of an answer, whether or not there is something behind it. */
export function documentOf({ headers, body }: Answer) {
  const length = headers[HEADER_LENGTH.toLowerCase()]
  return JSON.parse(String(length === undefined ? body : body.subarray(0, Number(length))))
}

/** The values of an answer's outputs by their names, wherever they are, as float32. */
export function outputsOf(answer: Answer): Record<string, number[]> {
  let at = Number(answer.headers[HEADER_LENGTH.toLowerCase()] ?? 0)
  const outputs: Record<string, number[]> = {}
  for (const { name, data, parameters } of documentOf(answer).outputs) {
    const size = parameters?.binary_data_size
    outputs[name] =
      data?.map(Math.fround) ??
      Array.from({ length: size / 4 }, (_, value) => answer.body.readFloatLE(at + value * 4))
    at += size ?? 0
  }
  return outputs
}

/** What `POST /infer` answers, window by window, in the form of outputsOf(). */
export async function inferredAlone(server: Server, windows: readonly Float32Array[]) {
  const latent: number[] = []
  const motifScores: number[] = []
  for (const window of windows) {
    const headers = { 'Content-Type': 'application/octet-stream', Accept: 'application/octet-stream' }
    const answer = await ask(server, 'POST /infer', { headers, body: bytesOf(window) })
    const result = resultOf(answer)
    latent.push(...result.subarray(0, 64))
    motifScores.push(...result.subarray(64))
  }
  return { latent, motif_scores: motifScores }
}
