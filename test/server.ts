import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { get } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PROJECT_FOLDER } from '../src/project.ts'

/** Time enough for every window on a machine that is slow or busy. What is about deadlines asks for shorter ones. */
const DEADLINE_MS = '5000'
/** Of the servers of one test file. */
const STATE_DIR = join(tmpdir(), `hailo-inference-test-${process.pid}`)
process.once('exit', () => rmSync(STATE_DIR, { recursive: true, force: true }))

export interface TestServer {
  readonly url: string
  readonly port: number
  readonly process: ChildProcess
  /** What it has printed so far. */
  readonly stdout: string
  readonly stderr: string
  /** Sends the signal and resolves with the exit code, or with the signal that killed it. */
  stop(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>
}

export interface StartOptions {
  /** The worker that fails on order, see faults/ */
  readonly faults?: boolean
  /** Another copy of the project than this one. */
  readonly project?: string
  /** Of the command line. */
  readonly args?: readonly string[]
  /** False: resolves when the server listens, ready or not. */
  readonly ready?: boolean
}

/**
 * Starts the compiled server as a process of its own, on a free port, and waits until it is ready.
 * @param env on top of a clean environment
 */
export async function startServer(
  env: Record<string, string> = {},
  { faults = false, project = PROJECT_FOLDER, args = [], ready = true }: StartOptions = {},
): Promise<TestServer> {
  const wantedPort = ready ? 0 : await freePort()
  const main = join(project, 'dist', faults ? 'test/faults/main.js' : 'src/main.js')
  const { PATH = '' } = process.env
  const child = spawn(process.execPath, [main, ...args], {
    env: { PATH, SIDECAR_PORT: String(wantedPort), STATE_DIR, DEADLINE_MS, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', text => (output.stdout += text))
  child.stderr.setEncoding('utf8').on('data', text => (output.stderr += text))
  // Not its exit: what it has printed is all there then.
  const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>

  const url = await new Promise<string>((resolve, reject) => {
    if (!ready) void untilListening(wantedPort).then(() => resolve(`http://127.0.0.1:${wantedPort}`))
    child.stdout.on('data', () => {
      const printed = /^ {2}url +(\S+)$/m.exec(output.stdout)
      if (printed) resolve(printed[1]!)
    })
    ended.then(([code, signal]) => {
      reject(new Error(`the server ended with ${code ?? signal} before it was ready:\n${output.stderr}`))
    })
  })
  return {
    url,
    port: Number(new URL(url).port),
    process: child,
    get stdout() {
      return output.stdout
    },
    get stderr() {
      return output.stderr
    },
    async stop(signal = 'SIGTERM') {
      child.kill(signal)
      const [code, killedBy] = await ended
      return code ?? killedBy!
    },
  }
}

/** The processes that a process has started, the oldest first. */
export function childrenOf(pid: number): number[] {
  const path = `/proc/${pid}/task/${pid}/children`
  return existsSync(path) ? readFileSync(path, 'utf8').split(' ').filter(Boolean).map(Number) : []
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

/** A server that looks whether the port is free listens for a moment too, but answers nothing. */
async function untilListening(port: number): Promise<void> {
  while (true) {
    const asked = get({ port, host: '127.0.0.1', path: '/healthz', agent: false })
    const answered = await once(asked, 'response').then(
      ([response]) => response.resume(),
      () => null,
    )
    if (answered !== null) return
    await sleep(20)
  }
}
