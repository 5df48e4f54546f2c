import { fileURLToPath } from 'node:url'
import { EXITS, type ExitCause } from '../../src/supervisor/exits.ts'
import { Supervisor } from '../../src/supervisor/supervise.ts'

// A supervisor, and this program once more as its engine, which ends for the cause that is given.
const [cause] = process.argv.slice(2) as [ExitCause]
if (process.send === undefined) {
  process.exit(await new Supervisor(fileURLToPath(import.meta.url), [cause], process.env).run())
}
process.once('message', () => {
  process.stdout.write('serving\n')
  process.exit(EXITS[cause])
})
