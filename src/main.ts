/** EX_CONFIG of sysexits.h: starting again will not help before somebody has changed something. */
const EXIT_CONFIG = 78

/** Failures that a person can mend are told in words; any other is a bug and shows its stack. */
const EXIT_CODES: Record<string, number> = {
  ERR_CONFIG: EXIT_CONFIG,
  ERR_MODEL: EXIT_CONFIG,
  ERR_START: 1,
  ERR_NO_UWEBSOCKETS_BINARY: 1,
}

try {
  // Imported here, so that a binary that does not fit this Node.js is told in words too.
  const { start } = await import('./start.ts')
  await start(process.env)
} catch (error) {
  const { code = '', message } = error as NodeJS.ErrnoException
  const exitCode = EXIT_CODES[code]
  if (exitCode === undefined) throw error
  process.stderr.write(`hailo-inference cannot start:\n${message}\n`)
  process.exit(exitCode)
}
