import type { Engine } from './engine/engine.ts'
import type { FrontDoor } from './http/server.ts'
import type { Logger } from './log.ts'
import type { Reloading } from './reloading.ts'
import { waitForNoThread } from './supervisor/end.ts'
import { EXITS, type ExitCause } from './supervisor/exits.ts'
import type { Systemd } from './supervisor/systemd.ts'
import type { Witnesses } from './witnesses.ts'

/** A shutdown that takes longer is cut short. It is made of the longest deadline (9 s), and of waits of a second or three. */
export const LONGEST_SHUTDOWN_MS = 20_000

/** What has to be closed, in this order. */
export interface Running {
  readonly engine: Engine
  readonly frontDoor: FrontDoor
  readonly reloads: Reloading
  readonly witness: Witnesses
  readonly systemd: Systemd | null
  readonly log: Logger
}

/** @returns answers all that was admitted, and ends the process; only the first call counts */
export function shutDownOf({ engine, frontDoor, reloads, witness, systemd, log }: Running) {
  let begun = false
  return async (cause: ExitCause, why: object): Promise<void> => {
    if (begun) return
    begun = true
    const code = EXITS[cause]
    if (cause === 'thread_stuck') {
      waitForNoThread('must')
      log.fatal({ ...why, code }, 'a thread cannot be ended, so the process ends: another must be started')
    }
    log.info(why, 'draining')
    systemd?.stopping()
    setTimeout(() => {
      const cutShort = cause === 'drained' ? EXITS.drain_cut_short : code
      log.error({ code: cutShort }, 'not drained in time')
      waitForNoThread('must')
      process.exit(cutShort)
    }, LONGEST_SHUTDOWN_MS).unref()

    const drained = engine.drain()
    reloads.drain()
    frontDoor.drain()
    await drained
    await frontDoor.close()
    await engine.close()
    await Promise.all([witness.close(), reloads.close()])
    if (engine.threadsLeft > 0) waitForNoThread('must')
    log.info('drained')
    process.exit(code)
  }
}
