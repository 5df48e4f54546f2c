import { execFile } from 'node:child_process'
import { env } from 'node:process'
import { promisify } from 'node:util'

export interface RunOptions {
  /** Its environment, beside PATH. */
  readonly settings?: Readonly<Record<string, string>>
  readonly timeoutMs?: number
}

/** Runs a program that prints its result as JSON. @throws when it fails, with what it has written to stderr */
export async function runJson<Result>(
  [command, ...args]: readonly [string, ...string[]],
  { settings = {}, timeoutMs = 0 }: RunOptions = {},
): Promise<Result> {
  const { PATH = '' } = env
  const { stdout } = await promisify(execFile)(command, args, {
    env: { PATH, ...settings },
    timeout: timeoutMs,
    killSignal: 'SIGKILL', // a thread that blocks hears no other signal
  })
  return JSON.parse(stdout)
}
