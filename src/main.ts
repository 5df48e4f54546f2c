import { waitForNoThread } from './supervisor/end.ts'
import { EXITS, type ExitCause } from './supervisor/exits.ts'

/** Failures that a person can mend are told in words; any other is a bug and shows its stack. */
const CAUSES: Record<string, ExitCause> = {
  ERR_CONFIG: 'config',
  ERR_MODEL: 'config',
  ERR_START: 'start_failed',
  ERR_NO_UWEBSOCKETS_BINARY: 'start_failed',
}

process.on('uncaughtException', error => {
  process.stderr.write(`${error.stack ?? error}\n`)
  end('internal_error')
})

try {
  // Imported here, so that a binary that does not fit this Node.js is told in words too.
  const { start } = await import('./start.ts')
  await start(process.env)
} catch (error) {
  const { code = '', message } = error as NodeJS.ErrnoException
  const cause = CAUSES[code]
  if (cause === undefined) throw error
  process.stderr.write(`hailo-inference cannot start:\n${message}\n`)
  end(cause)
}

/** Workers may be in the middle of loading ONNX Runtime. */
function end(cause: ExitCause): never {
  waitForNoThread('if possible')
  process.exit(EXITS[cause])
}
