import { createServer } from 'node:net'

/** Fails when another process listens there already: uWebSockets would share the port with one of the same user. */
export async function assertFree(host: string, port: number): Promise<void> {
  if (port === 0) return
  const probe = createServer()
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once('error', reject).listen({ host, port, exclusive: true }, resolve)
    })
  } finally {
    await new Promise(resolve => probe.close(resolve))
  }
}
