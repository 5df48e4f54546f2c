import { join } from 'node:path'
import { execPath } from 'node:process'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { runJson } from '../contenders/run-json.ts'

/** Runs a program of the bench that prints its result as JSON. @param file from `bench/`, without `.ts` */
export function runProgram<Result>(
  file: string,
  options: object,
  settings: Readonly<Record<string, string>> = {},
): Promise<Result> {
  const program = join(PROJECT_FOLDER, 'dist', 'bench', `${file}.js`)
  return runJson([execPath, program, JSON.stringify(options)], { settings })
}
