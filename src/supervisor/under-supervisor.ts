import { once } from 'node:events'

/** What an engine tells its supervisor. The other way there is one message, whatever it says: serve. */
export type Told =
  /** It could serve, and waits to be told to. */
  | { readonly loaded: true }
  /** It serves, or will in a moment. */
  | { readonly port: number }

/**
 * Makes ready to serve, and waits for the word of the supervisor.
 * @param load what takes long and keeps nothing that another engine may need: no port, no device
 */
export async function untilNeeded(load: () => Promise<unknown>): Promise<void> {
  // When the supervisor goes without a word, nobody else would stop this one.
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'))
  const needed = once(process, 'message')
  await load()
  tell({ loaded: true })
  await needed
}

/** Tells the supervisor, where there is one. */
export function tellListening(port: number): void {
  tell({ port })
}

function tell(told: Told): void {
  if (process.connected) process.send?.(told)
}
