import { once } from 'node:events'
import { lstat, rm } from 'node:fs/promises'
import { connect } from 'node:net'

/**
 * Makes way for a Unix-domain socket: uWebSockets would replace whatever is at the path, also the socket
 * of another server. What a dead process has left there is removed.
 * @throws when something else is there, or somebody listens
 */
export async function clearSocketPath(path: string): Promise<void> {
  const found = await lstat(path).catch(error => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (found === null) return
  if (!found.isSocket()) throw new Error('there is something at this path that is not a socket')
  if (await isListenedTo(path)) throw new Error('another process listens there')
  await rm(path, { force: true })
}

/** @throws when that cannot be told, for example where the socket belongs to somebody else */
async function isListenedTo(path: string): Promise<boolean> {
  const client = connect(path)
  try {
    await once(client, 'connect')
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') return false
    throw error
  } finally {
    client.destroy()
  }
}
