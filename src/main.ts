import { ConfigError } from './config.ts'
import { ModelError } from './model.ts'
import { start } from './start.ts'

/** EX_CONFIG of sysexits.h: starting again will not help before somebody has changed something. */
const EXIT_CONFIG = 78

try {
  await start(process.env)
} catch (error) {
  if (error instanceof ConfigError || error instanceof ModelError) {
    process.stderr.write(`hailo-inference cannot start:\n${error.message}\n`)
    process.exit(EXIT_CONFIG)
  }
  throw error
}
