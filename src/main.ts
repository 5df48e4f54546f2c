#!/usr/bin/env node
import './hangup.ts'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { waitForNoThread } from './supervisor/end.ts'
import { EXITS, type ExitCause } from './supervisor/exits.ts'
import { untilNeeded } from './supervisor/under-supervisor.ts'

const OPTIONS = {
  /** Runs the engine in a process of its own, and another when it crashes. */
  supervised: { type: 'boolean', default: false },
  /** That process. */
  'under-supervisor': { type: 'boolean', default: false },
} as const

/** Failures that a person can mend are told in words; any other is a bug and shows its stack. */
const CAUSES: Record<string, ExitCause> = {
  ERR_CONFIG: 'config',
  ERR_MODEL: 'config',
  ERR_PARSE_ARGS_UNKNOWN_OPTION: 'config',
  ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL: 'config',
  ERR_PARSE_ARGS_INVALID_OPTION_VALUE: 'config',
  ERR_START: 'start_failed',
  ERR_NO_UWEBSOCKETS_BINARY: 'start_failed',
}

process.on('uncaughtException', error => {
  process.stderr.write(`${error.stack ?? error}\n`)
  end('internal_error')
})

// Words for people that nobody can take: a full disk, a reader that went away.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})

try {
  const { supervised, 'under-supervisor': underSupervisor } = parseArgs({ options: OPTIONS }).values
  if (supervised) {
    const { Supervisor } = await import('./supervisor/supervise.ts')
    const program = fileURLToPath(import.meta.url)
    process.exit(await new Supervisor(program, ['--under-supervisor'], process.env).run())
  }
  // Imported here, so that a binary that does not fit this Node.js is told in words too.
  const { load, start } = await import('./start.ts')
  if (underSupervisor) await untilNeeded(load)
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
