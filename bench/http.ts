import { type Agent, request } from 'node:http'
import { buffer } from 'node:stream/consumers'
import type { Fetch } from '../client/index.ts'

/**
 * A `fetch` whose connections are those of the agent: the global one keeps as many as it likes. It rejects with the
 * system's own error.
 */
export function fetchThrough(agent: Agent): Fetch {
  return (url, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const outgoing = request(url, { method, headers, agent, signal }, incoming => {
        buffer(incoming).then(
          bytes =>
            resolve({
              status: incoming.statusCode!,
              headers: { get: name => incoming.headers[name.toLowerCase()]?.toString() ?? null },
              arrayBuffer: async () => new Uint8Array(bytes).buffer,
            }),
          reject,
        )
      })
      outgoing.on('error', reject)
      outgoing.end(body)
    })
}
