import { fileURLToPath } from 'node:url'
import { EXITS, type ExitCause } from '../../src/supervisor/exits.ts'
import { Supervisor } from '../../src/supervisor/supervise.ts'

/** So that it gives up soon. */
const LONGEST_PAUSE_MS = 20

// A supervisor, and this program once more as its engine, which ends for the cause that is given.
const [cause] = process.argv.slice(2) as [ExitCause]
if (process.send === undefined) {
  const supervisor = new Supervisor(fileURLToPath(import.meta.url), [cause], process.env, LONGEST_PAUSE_MS)
  process.exit(await supervisor.run())
}
process.once('message', () => {
  process.stdout.write('serving\n')
  process.exit(EXITS[cause])
})
