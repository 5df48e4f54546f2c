import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** Runs a program that prints one JSON value, in a process of its own, with these variables and no others. */
export async function runJson<Result>(
  program: string,
  args: readonly (string | number)[],
  env: Record<string, string> = {},
): Promise<Result> {
  const { stdout } = await promisify(execFile)(program, args.map(String), { env })
  return JSON.parse(stdout)
}
