import { connect, type Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { encodeFrame, headBytes, STREAM_VERSION, WINDOW_STATUSES } from '../../src/http/frame.ts'
import { CHANNELS } from '../recording.ts'
import type { Address, LoadRequest, WebSocketProtocol } from './load.ts'

export interface RequestOptions {
  /** Both ways. */
  readonly encoding: 'json' | 'binary'
  /** Of numbers in JSON: as few as tell each float32, unless as Python and JavaScript print them. */
  readonly digits?: 'float32' | 'float64'
  readonly deadlineMs?: number
}

/** A window for `POST /infer`; several are bulk. @param windows float32[100][9] each */
export function inferRequest(windows: readonly Float32Array[], options: RequestOptions): LoadRequest {
  const [window] = windows
  const rows = (window: Float32Array) => rowsOf(window, options.digits)
  const document = windows.length === 1 ? { x: rows(window!) } : { windows: windows.map(rows) }
  const body = options.encoding === 'json' ? Buffer.from(JSON.stringify(document)) : bytesOf(windows)
  return { bytes: post('/infer', body, options), windows: windows.length }
}

/** Windows for the Open Inference Protocol, as one tensor. */
export function v2Request(
  windows: readonly Float32Array[],
  { model = 'tcn_encoder', ...options }: RequestOptions & { model?: string },
): LoadRequest {
  const path = `/v2/models/${model}/infer`
  const input = { name: 'imu_window', shape: [windows.length, 100, CHANNELS], datatype: 'FP32' }
  if (options.encoding === 'json') {
    const document = { inputs: [{ ...input, data: windows.map(window => rowsOf(window)) }] }
    return { bytes: post(path, Buffer.from(JSON.stringify(document)), options), windows: windows.length }
  }
  const tensor = bytesOf(windows)
  const json = Buffer.from(
    JSON.stringify({
      parameters: { binary_data_output: true },
      inputs: [{ ...input, parameters: { binary_data_size: tensor.length } }],
    }),
  )
  const headers = { 'Inference-Header-Content-Length': json.length }
  return { bytes: post(path, Buffer.concat([json, tensor]), options, headers), windows: windows.length }
}

/** A window for `/stream` in mode `windows`. @param deadlineMs 0: the server's own */
export function streamRequest(window: Float32Array, deadlineMs = 0): LoadRequest {
  return { bytes: frameOf(encodeFrame('window', { sequence: 0, deadlineMs }, bytesOf([window]))) }
}

/** The protocol of `/stream`; docs/stream.md has the offsets. */
export const STREAM: WebSocketProtocol = {
  kind: 'websocket',
  upgrade: upgradeOf('/stream'),
  hello: frameOf(encodeFrame('hello', { version: STREAM_VERSION, mode: 0, hop: 0, first: 0 })),
  dialect: {
    typeOffset: 0,
    welcomeType: 129,
    creditsOffset: 8,
    resultType: 130,
    creditType: 131,
    creditCountOffset: 4,
    errorType: 132,
    sequenceOffset: 4,
    retryAfterOffset: 8,
    statusOffset: 12,
    requestSequenceOffset: 4,
  },
  refusals: (['model_unavailable', 'overloaded', 'draining'] as const).map(word =>
    WINDOW_STATUSES.indexOf(word),
  ),
  tooLate: [WINDOW_STATUSES.indexOf('deadline_exceeded')],
}

/** The request that turns a connection into a WebSocket. */
export function upgradeOf(path: string): Uint8Array {
  const lines = [
    `GET ${path} HTTP/1.1`,
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  ]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`)
}

/** A binary message of less than 64 KiB as one frame. Masked, as a client must, with zeros: the bytes stay as they are. */
export function frameOf(message: Uint8Array): Uint8Array {
  const isShort = message.length < 126
  const head = Buffer.alloc((isShort ? 2 : 4) + 4)
  head[0] = 0x82
  head[1] = 0x80 | (isShort ? message.length : 126)
  if (!isShort) head.writeUInt16BE(message.length, 2)
  return Buffer.concat([head, message])
}

/**
 * The HTTP requests, each with what the server answers to it when it is not too busy, which must be 200. What it answers
 * under load shall be the same, to the bit.
 */
export async function expectingSame(
  address: Address,
  requests: readonly LoadRequest[],
): Promise<LoadRequest[]> {
  const socket = connect('port' in address ? { ...address, host: '127.0.0.1' } : address)
  socket.setTimeout(PATIENCE_MS, () => {
    socket.destroy(new Error(`Cannot expect an answer: none has come in ${PATIENCE_MS} ms`))
  })
  try {
    const expecting: LoadRequest[] = []
    for (const request of requests) {
      expecting.push({ ...request, expected: { bytes: await askUntilTaken(socket, request.bytes) } })
    }
    return expecting
  } finally {
    socket.destroy()
  }
}

/** Windows for `/stream`, each with the result that `POST /infer` has for it. */
export async function expectingSameStream(
  address: Address,
  windows: readonly Float32Array[],
  deadlineMs?: number,
): Promise<LoadRequest[]> {
  const requests = windows.map(window => inferRequest([window], { encoding: 'binary' }))
  const answers = await expectingSame(address, requests)
  return answers.map(({ expected }, index) => ({
    ...streamRequest(windows[index]!, deadlineMs),
    expected: { bytes: expected!.bytes, offset: headBytes('result') },
  }))
}

const TYPES = { json: 'application/json', binary: 'application/octet-stream' }

function post(
  path: string,
  body: Uint8Array,
  { encoding, deadlineMs }: RequestOptions,
  headers: Record<string, number> = {},
): Uint8Array {
  const lines = Object.entries({
    Host: 'localhost',
    'Content-Type': TYPES[encoding],
    Accept: TYPES[encoding],
    ...(deadlineMs !== undefined && { 'X-Deadline-Ms': deadlineMs }),
    ...headers,
    'Content-Length': body.length,
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n`), body])
}

/** What a server may still be busy with is what the load before has left it. */
const PATIENCE_MS = 5000
const PAUSE_MS = 20
const NOT_NOW = [429, 503, 504]

/** The body of the answer, asked for again while it is refused. @throws Error when it is not 200 */
async function askUntilTaken(socket: Socket, request: Uint8Array): Promise<Buffer> {
  const untilMs = performance.now() + PATIENCE_MS
  for (;;) {
    const { status, head, body } = await ask(socket, request)
    if (status === 200) return body
    if (!NOT_NOW.includes(status) || performance.now() > untilMs) {
      throw new Error(`Cannot expect an answer: ${head}\n\n${body}`)
    }
    await sleep(PAUSE_MS)
  }
}

async function ask(
  socket: Socket,
  request: Uint8Array,
): Promise<{ status: number; head: string; body: Buffer }> {
  socket.write(request)
  let received = Buffer.alloc(0)
  for await (const bytes of socket.iterator({ destroyOnReturn: false })) {
    received = Buffer.concat([received, bytes])
    const headEnd = received.indexOf('\r\n\r\n')
    const head = received.toString('latin1', 0, Math.max(headEnd, 0))
    const contentLength = Number(/^content-length: *(\d+)/im.exec(head)?.[1])
    const body = received.subarray(headEnd + 4)
    if (headEnd === -1) continue
    if (Number.isNaN(contentLength))
      throw new Error(`Cannot expect an answer without Content-Length: ${head}`)
    if (body.length < contentLength) continue
    return { status: Number(head.split(' ')[1]), head, body }
  }
  throw new Error('Cannot expect an answer: the server has closed the connection')
}

function bytesOf(windows: readonly Float32Array[]): Buffer {
  return Buffer.concat(
    windows.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)),
  )
}

function rowsOf(window: Float32Array, digits: RequestOptions['digits'] = 'float32'): number[][] {
  const values = digits === 'float64' ? Array.from(window) : Array.from(window, shortest)
  return Array.from({ length: values.length / CHANNELS }, (_, step) =>
    values.slice(step * CHANNELS, (step + 1) * CHANNELS),
  )
}

/** The number with the fewest digits that is the same float32: what most languages print for one. */
function shortest(value: number): number {
  const candidates = [6, 7, 8].map(digits => Number(value.toPrecision(digits)))
  return candidates.find(candidate => Math.fround(candidate) === value) ?? Number(value.toPrecision(9))
}
