import uWebSockets, { type HttpResponse } from 'uWebSockets.js'
import { parseWindow, readWindow, WINDOW_VALUES } from '../../src/core/window.ts'
import { encodeResult } from '../../src/http/reply.ts'
import type { ContenderOptions } from './contender.ts'
import { listen } from './listen.ts'
import { openPool } from './pool.ts'
import { readOptions } from './protocol.ts'

const OCTET_STREAM = 'application/octet-stream'
const JSON_TYPE = 'application/json'

const { backend, threads = 1 } = readOptions<ContenderOptions['piscina']>()
const { infer } = openPool(backend, threads)
await infer(new Float32Array(WINDOW_VALUES)) // the model is open

interface Asked {
  /** Of the request, and of the answer that is wanted. */
  readonly type: string
  readonly accept: string
  gone: boolean
}

listen(
  uWebSockets.App().post('/infer', (response, request) => {
    const asked = {
      type: request.getHeader('content-type'),
      accept: request.getHeader('accept'),
      gone: false,
    }
    response.onAborted(() => {
      asked.gone = true
    })
    let received: Buffer | null = null
    response.onData((part, isLast) => {
      const bytes = Buffer.from(part) // lent, and valid during this call only
      if (!isLast) received = Buffer.concat(received ? [received, bytes] : [bytes])
      else void answer(response, asked, received ? Buffer.concat([received, bytes]) : bytes)
    })
  }),
)

async function answer(response: HttpResponse, asked: Asked, body: Uint8Array): Promise<void> {
  const input = new Float32Array(WINDOW_VALUES)
  const fault = read(asked.type, body, input)
  const result = fault === null ? await infer(input) : null
  if (asked.gone) return
  response.cork(() => {
    if (result === null) {
      response.writeStatus('400 Bad Request').writeHeader('Content-Type', JSON_TYPE)
      response.end(JSON.stringify({ error: 'invalid_window', detail: fault }))
    } else if (asked.accept === OCTET_STREAM) {
      response.writeHeader('Content-Type', OCTET_STREAM).end(new Uint8Array(result.buffer as ArrayBuffer))
    } else response.writeHeader('Content-Type', JSON_TYPE).end(encodeResult(result))
  })
}

/** Writes the window to `input`. Returns what is wrong with it, null when it is good. */
function read(type: string, body: Uint8Array, input: Float32Array): string | null {
  if (type === OCTET_STREAM) return readWindow(body, { input, inputBytes: new Uint8Array(input.buffer) })
  try {
    return parseWindow(JSON.parse(body.toString()).x, input)
  } catch {
    return 'the body is not JSON'
  }
}
