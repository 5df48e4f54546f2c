import { execFile } from 'node:child_process'
import { env, execPath } from 'node:process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/**
 * Runs a program of the bench that prints its result as JSON.
 * @param file from this folder, without `.js`
 * @param settings its environment, beside PATH
 */
export async function runProgram<Result>(
  file: string,
  options: object,
  settings: Readonly<Record<string, string>> = {},
): Promise<Result> {
  const { PATH = '' } = env
  const program = fileURLToPath(new URL(`${file}.js`, import.meta.url))
  const { stdout } = await promisify(execFile)(execPath, [program, JSON.stringify(options)], {
    env: { PATH, ...settings },
  })
  return JSON.parse(stdout)
}
