import { Server } from 'hyper-express'
import { LATENT_DIMS, parseWindow, readWindow, WINDOW_VALUES } from '../../src/core/window.ts'
import type { ContenderOptions } from './contender.ts'
import { openInfer } from './infer.ts'
import { announce, readOptions } from './protocol.ts'

const OCTET_STREAM = 'application/octet-stream'

const { backend } = readOptions<ContenderOptions['naive']>()
const infer = await openInfer(backend)
const server = new Server()

server.post('/infer', async (request, response) => {
  const { accept, 'content-type': type } = request.headers
  const input = new Float32Array(WINDOW_VALUES)
  const fault =
    type === OCTET_STREAM
      ? readWindow(await request.buffer(), { input, inputBytes: new Uint8Array(input.buffer) })
      : parseWindow((await request.json(undefined))?.x, input)
  if (fault !== null) return response.status(400).json({ error: 'invalid_window', detail: fault })
  const result = await infer(input)
  if (accept === OCTET_STREAM) {
    return response.type(OCTET_STREAM).send(Buffer.from(result.buffer))
  }
  return response.json({
    latent: [...result.subarray(0, LATENT_DIMS)],
    motif_scores: [...result.subarray(LATENT_DIMS)],
  })
})

await server.listen(0, '127.0.0.1')
announce(server.port)
