import uWebSockets, { type WebSocket } from 'uWebSockets.js'
import { BACKENDS } from '../../src/core/backend.ts'
import { LATENT_DIMS, WINDOW_BYTES } from '../../src/core/window.ts'
import { decodeHead, encodeFrame, frameName, STREAM_VERSION } from '../../src/http/frame.ts'
import { encodeResult } from '../../src/http/reply.ts'
import type { ContenderOptions } from './contender.ts'
import { listen } from './listen.ts'
import { NOOP_RESULT } from './noop.ts'
import { readOptions } from './protocol.ts'

/** Enough that a client seldom hears of them. */
const CREDITS = 32_768
const MAX_MESSAGE_BYTES = 256 * 1024
/** A message beyond it would be dropped. */
const MAX_UNREAD_BYTES = 1024 * 1024

const { reply } = readOptions<ContenderOptions['echo']>()

const resultBytes = new Uint8Array(NOOP_RESULT.buffer)
const body = reply === 'json' ? Buffer.from(encodeResult(NOOP_RESULT)) : resultBytes
const backend = BACKENDS.indexOf('stub')
const result = encodeFrame(
  'result',
  { sequence: 0, queueUs: 0, inferUs: 0, status: 0, backend, modelStart: 0 },
  resultBytes,
)
const words = new Uint32Array(result.buffer)
const SEQUENCE_WORD = 1
const credit = encodeFrame('credit', { count: CREDITS })

interface UserData {
  /** Of the next window: they are counted, not read. */
  sequence: number
  answered: number
}

listen(
  uWebSockets
    .App()
    .post('/*', response => {
      response.onAborted(() => {})
      response.onData((_part, isLast) => {
        if (isLast) response.end(body)
      })
    })
    .ws<UserData>('/stream', {
      maxPayloadLength: MAX_MESSAGE_BYTES,
      maxBackpressure: MAX_UNREAD_BYTES,
      upgrade: (response, request, context) =>
        response.upgrade<UserData>(
          { sequence: 0, answered: 0 },
          request.getHeader('sec-websocket-key'),
          '',
          '',
          context,
        ),
      // Corked by uWebSockets: what one read of the socket brings is answered in one write.
      message: (socket, message) => {
        if (message.byteLength < WINDOW_BYTES) return greet(socket, new Uint8Array(message))
        const data = socket.getUserData()
        words[SEQUENCE_WORD] = data.sequence++
        socket.send(result, true)
        if (++data.answered % CREDITS === 0) socket.send(credit, true)
      },
    }),
)

/** Anything but a window: a client of the real server finds here what it expects. */
function greet(socket: WebSocket<UserData>, frame: Uint8Array): void {
  if (frameName(frame) === 'bye') return void socket.end(1000)
  const { first } = decodeHead('hello', frame)
  socket.getUserData().sequence = first
  const welcome = {
    version: STREAM_VERSION,
    mode: 0,
    backend,
    credits: CREDITS,
    motifs: NOOP_RESULT.length - LATENT_DIMS,
    hop: 0,
    first,
    deadlineMs: 40,
    model: new Uint8Array(32),
  }
  socket.send(encodeFrame('welcome', welcome), true)
}
