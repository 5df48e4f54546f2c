import { setTimeout as sleep } from 'node:timers/promises'
import { FAULTS } from './faults.ts'
import type { Options } from './options.ts'
import type { Round } from './round.ts'
import { Observer, since } from './samples.ts'
import { burstMs, DUTY, faultsByRound, tenthOf } from './schedule.ts'
import { startSoaked } from './server.ts'
import { Traffic } from './traffic.ts'
import type { Ended } from './verdict.ts'

/**
 * Before the first round, counted nowhere: what is compiled and laid out once. The last of them tells the pace to begin
 * with.
 */
const WARM_UP_BURSTS = 3
const WARM_UP_MS = 400
/** How much the last burst says of the pace of the next one. */
const PACE_WEIGHT = 0.3

/** Soaks a server from its start to its end. @param progress told each round @throws Error when it is not there any more */
export async function soak(
  { schedule: asked, allFaults, seed, program }: Options,
  progress: (text: string, round: Round) => void,
): Promise<Ended> {
  const server = await startSoaked(program)
  try {
    const observer = new Observer(server)
    const traffic = await Traffic.prepare(server.port)
    const faults = FAULTS.filter(fault => fault.fits(server))
    const schedule = allFaults ? { ...asked, rounds: Math.max(asked.rounds, faults.length) } : asked
    const { windowsPerSecond } = schedule
    let pace = 0
    for (let burst = 0; burst < WARM_UP_BURSTS; burst++) {
      const { tally } = await traffic.burst({ durationMs: WARM_UP_MS, windowsPerSecond })
      pace = (1000 * tally.sent) / WARM_UP_MS
    }
    await observer.quiet()
    let { counts } = await observer.look()

    const rounds: Round[] = []
    const faultOf = faultsByRound(faults, { seed, ...(allFaults && { every: 1 }) })
    for (let index = 0, sent = 0; sent < schedule.windows || index < schedule.rounds; index++) {
      const durationMs = burstMs(schedule, { index, windowsLeft: Math.max(0, schedule.windows - sent), pace })
      const fault = faultOf.next().value
      const paused = sleep(durationMs / DUTY)
      const [{ tally, live }, abandoned] = await Promise.all([
        traffic.burst({ durationMs, windowsPerSecond }),
        fault?.run(server, durationMs) ?? 0,
      ])
      await paused
      await observer.quiet()
      const now = await observer.look()
      const round: Round = {
        tenth: tenthOf(index, schedule),
        fault: fault?.name ?? null,
        tally,
        abandoned,
        live,
        counted: since(counts, now.counts),
        sample: now.sample,
      }
      rounds.push(round)
      counts = now.counts
      sent += tally.sent
      if (tally.sent === 0) throw new Error('nothing could be sent in a whole round')
      if (fault === null) pace += PACE_WEIGHT * ((1000 * tally.sent) / durationMs - pace)
      progress(`${sent} of ${schedule.windows} windows, round ${index + 1}`, round)
    }
    traffic.close()
    return { rounds, exit: await server.stop('SIGTERM') }
  } finally {
    await server.stop('SIGKILL')
  }
}
