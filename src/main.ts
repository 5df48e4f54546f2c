import { ConfigError } from './config.ts'
import { ModelError } from './model.ts'
import { StartError, start } from './start.ts'

/** EX_CONFIG of sysexits.h: starting again will not help before somebody has changed something. */
const EXIT_CONFIG = 78

try {
  await start(process.env)
} catch (error) {
  const misconfigured = error instanceof ConfigError || error instanceof ModelError
  if (!misconfigured && !(error instanceof StartError)) throw error
  process.stderr.write(`hailo-inference cannot start:\n${error.message}\n`)
  process.exit(misconfigured ? EXIT_CONFIG : 1)
}
