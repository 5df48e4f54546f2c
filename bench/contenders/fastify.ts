import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import { CHANNELS, LATENT_DIMS, TIMESTEPS, WINDOW_VALUES } from '../../src/core/window.ts'
import type { ContenderOptions } from './contender.ts'
import { openInfer } from './infer.ts'
import { announce, readOptions } from './protocol.ts'

/** Of a row, and of the whole: with the lengths both ways, as one writes it for a model's input. */
const arrayOf = (count: number, items: object) => ({
  type: 'array',
  minItems: count,
  maxItems: count,
  items,
})
const number = { type: 'number' }
const schema = {
  body: {
    type: 'object',
    required: ['x'],
    properties: { x: arrayOf(TIMESTEPS, arrayOf(CHANNELS, number)) },
  },
  response: {
    200: {
      type: 'object',
      properties: {
        latent: { type: 'array', items: number },
        motif_scores: { type: 'array', items: number },
      },
    },
  },
}

const { backend } = readOptions<ContenderOptions['fastify']>()
const infer = await openInfer(backend)
const server = Fastify({
  logger: false,
  bodyLimit: 64 * 1024,
  // What is no number is refused, not made one: less work, and what the engine does.
  ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
})

server.post<{ Body: { x: number[][] } }>('/infer', { schema }, async ({ body }) => {
  const window = new Float32Array(WINDOW_VALUES)
  body.x.forEach((row, step) => window.set(row, step * CHANNELS))
  const result = await infer(window)
  return {
    latent: Array.from(result.subarray(0, LATENT_DIMS)),
    motif_scores: Array.from(result.subarray(LATENT_DIMS)),
  }
})

await server.listen({ host: '127.0.0.1', port: 0 })
announce((server.server.address() as AddressInfo).port)
