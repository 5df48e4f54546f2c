import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { env } from 'node:process'
import { PROJECT_FOLDER } from '../../src/project.ts'
import type { Ready } from './protocol.ts'

/** A server in a process of its own. */
export interface Launched<Said extends Ready = Ready> {
  readonly pid: number
  readonly port: number
  /** What it has said when it was ready. */
  readonly said: Said
  /**
   * Resolves when the process is gone, with its exit code or the signal that ended it. SIGTERM lets it write its
   * profile, and our own server drain.
   */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>
}

const START_TIMEOUT_MS = 30_000
/** A line of JSON, or a row of our own server's banner; whole, as they may come in pieces. */
const READY = /^(\{.*"port".*\})\n|^ {2}url +\S+:(\d+)\n/m

/**
 * Starts a server and waits until it is ready. It ends with this process: also one that does not do so by itself, as
 * those do that speak as in protocol.ts, where this one comes to process.exit().
 * @param settings its environment, beside PATH
 * @throws when it ends before, with what it has written to stderr
 */
export async function launch<Said extends Ready = Ready>(
  [command, ...args]: readonly [string, ...string[]],
  settings: Readonly<Record<string, string>> = {},
): Promise<Launched<Said>> {
  const { PATH = '' } = env
  const child = spawn(command, args, { cwd: PROJECT_FOLDER, env: { PATH, ...settings } })
  let stdout = ''
  let stderr = ''
  child.stdin.on('error', () => {}) // it has ended: told below
  child.stderr.setEncoding('utf8').on('data', text => (stderr += text))
  const ended = once(child, 'exit') as Promise<[number, null] | [null, NodeJS.Signals]>
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))

  const ready = new Promise<Said>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', text => {
      stdout += text
      const [said, line, port] = READY.exec(stdout) ?? []
      if (said !== undefined) resolve(line ? JSON.parse(line) : { port: Number(port) })
    })
    ended.then(
      ([code, signal]) => reject(new Error(`${command} ended with ${code ?? signal}:\n${stderr || stdout}`)),
      reject,
    )
  })
  const stop = async (signal: NodeJS.Signals = 'SIGKILL') => {
    child.kill(signal)
    const [code, killedBy] = await ended
    return code ?? killedBy
  }
  const late = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS)
  try {
    const said = await ready
    return { pid: child.pid!, port: said.port, said, stop }
  } finally {
    clearTimeout(late)
  }
}
