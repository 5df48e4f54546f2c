import { spawn } from 'node:child_process'
import { accessSync, constants, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { get as getPlain } from 'node:http'
import { get as getTls } from 'node:https'
import { createServer } from 'node:net'
import { availableParallelism, userInfo } from 'node:os'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Answer, Input, ProbeName, Value } from './probes.ts'

/** The machine, as far as the checks look at it. Tests make one up. */
export interface System {
  /** Of Node.js, as 20.19.0. */
  readonly nodeVersion: string
  /** As linux x64. */
  readonly platform: string
  /** CPUs that the scheduler allows this process; a container's quota is not in it. */
  readonly cpus: number
  readonly pid: number
  readonly user: User
  /** The text of a file, undefined when there is none or it may not be read. */
  read(path: string): string | undefined
  /** What is in a folder, empty when there is none. */
  list(folder: string): readonly string[] | 'forbidden'
  stat(path: string): { readonly gid: number; readonly mode: number } | undefined
  /** Whether this user may read and write it. */
  isWritable(path: string): boolean
  /** Where a symbolic link points to, undefined when there is none or it may not be read. */
  linkTarget(path: string): string | undefined
  /** Listens and closes again. @returns null, or the code of the error as EADDRINUSE */
  tryToListen(host: string, port: number): Promise<string | null>
  /** @returns the body, whatever the status, undefined when nobody answers in HTTP */
  get(url: string): Promise<string | undefined>
  /** Never rejects. */
  probe<Name extends ProbeName>(name: Name, input: Input<Name>): Promise<Answer<Value<Name>>>
}

export interface User {
  readonly uid: number
  readonly name: string
  /** Of this process: a group that was given since the last login is not among them. */
  readonly groups: readonly number[]
}

/** Under the time that a check has, so that a probe that hangs is told as what it is. */
const PROBE_TIMEOUT_MS = 4000
const GET_TIMEOUT_MS = 1500
const GET_LIMIT_BYTES = 65_536

export const thisSystem: System = {
  nodeVersion: process.versions.node,
  platform: `${process.platform} ${process.arch}`,
  cpus: availableParallelism(),
  pid: process.pid,
  user: currentUser(),
  read: path => orUndefined(() => readFileSync(path, 'utf8')),
  list(folder) {
    try {
      return readdirSync(folder)
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException
      return ['EACCES', 'EPERM'].includes(code) ? 'forbidden' : []
    }
  },
  stat: path => orUndefined(() => statSync(path)),
  isWritable: path =>
    orUndefined(() => accessSync(path, constants.R_OK | constants.W_OK) ?? true) !== undefined,
  linkTarget: path => orUndefined(() => readlinkSync(path)),
  tryToListen: (host, port) =>
    new Promise(resolve => {
      const server = createServer()
      server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
      server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(null)))
    }),
  get: url =>
    new Promise(resolve => {
      // Whoever answers: its certificate may be its own.
      const get = url.startsWith('https:') ? getTls : getPlain
      const options = { timeout: GET_TIMEOUT_MS, agent: false, rejectUnauthorized: false } as const
      const request = get(url, options, response => {
        let body = ''
        response.setEncoding('utf8').on('data', part => {
          body += part
          if (body.length > GET_LIMIT_BYTES) request.destroy()
        })
        response.once('close', () => resolve(body))
      })
      const timer = setTimeout(() => request.destroy(), GET_TIMEOUT_MS)
      request.once('error', () => resolve(undefined))
      request.once('close', () => clearTimeout(timer))
    }),
  probe,
}

async function probe<Name extends ProbeName>(name: Name, input: Input<Name>): Promise<Answer<Value<Name>>> {
  const program = fileURLToPath(new URL('./probe-process.js', import.meta.url))
  const child = spawn(process.execPath, [program, name], { stdio: ['pipe', 'ignore', 'ignore', 'pipe'] })
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    child.kill('SIGKILL')
  }, PROBE_TIMEOUT_MS)
  const ended = new Promise<string>(resolve => {
    child.once('error', error => resolve(error.message))
    child.once('exit', (code, signal) =>
      resolve(`trying it ended the process with ${signal ?? `code ${code}`}`),
    )
  })
  child.stdin!.on('error', () => {}) // it ended before it has read
  child.stdin!.end(JSON.stringify(input))
  const answer = await text(child.stdio[3] as Readable)
  const ending = await ended
  clearTimeout(timer)
  if (answer !== '') return JSON.parse(answer)
  return { error: isLate ? `no answer within ${PROBE_TIMEOUT_MS / 1000} s` : ending }
}

function currentUser(): User {
  const uid = process.getuid?.() ?? -1
  // Containers often run as a user that /etc/passwd does not list.
  const name = orUndefined(() => userInfo().username) ?? String(uid)
  return { uid, name, groups: [process.getegid?.() ?? -1, ...(process.getgroups?.() ?? [])] }
}

function orUndefined<Result>(call: () => Result): Result | undefined {
  try {
    return call()
  } catch {
    return undefined
  }
}
