import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { PROJECT_FOLDER } from '../src/project.ts'
import { ask, postWindow } from './http-client.ts'
import { windowOf } from './windows.ts'
import { IN_BINARY } from './ws-client.ts'

type Server = { readonly url: string; readonly port: number }

/** 40 windows per second for two minutes. */
const REPLAY = ['--speed', '4', '--hop', '10']
const PAUSE_MS = 200
/** More than a small server has slots. */
const BURST = 48
/** More than a client of `/stream` has credits. */
const OVERRUN = 40

/**
 * What a server meets in a day, at once: the recording over HTTP as JSON and binary and over WebSocket, bad windows,
 * more than it can take, clients that heed no credits and change their minds, and somebody who asks how it is.
 * @returns what ends it
 */
export function startTraffic(server: Server): () => Promise<void> {
  const replays = ['--json', '--binary', '--stream'].map(encoding => replay(server, encoding))
  const mischief = makeMischief(server)
  return () => Promise.all([...replays, mischief].map(stop => stop())).then(() => {})
}

function replay({ url }: Server, encoding: string): () => Promise<unknown> {
  const program = join(PROJECT_FOLDER, 'dist/bench/replay.js')
  const args = ['--experimental-websocket', program, '--url', url, encoding, ...REPLAY]
  const child = spawn(process.execPath, args, { stdio: 'ignore' })
  const ended = once(child, 'exit')
  return () => {
    child.kill('SIGKILL')
    return ended
  }
}

function makeMischief(server: Server): () => Promise<void> {
  const stream = new WebSocket(`${server.url.replace('http', 'ws')}/stream`)
  stream.on('open', () => stream.send(IN_BINARY.hello()))
  let more = true
  let sequence = 0
  const overrun = () => {
    for (let sent = 0; sent < OVERRUN; sent++) stream.send(IN_BINARY.window(sequence++, windowOf(0)))
    stream.send(IN_BINARY.cancel(sequence - 1))
  }
  const done = (async () => {
    while (more) {
      await Promise.all([
        ask(server, 'GET /healthz'),
        ask(server, 'POST /infer', { headers: { 'Content-Type': 'application/json' }, body: '{"x":[]}' }),
        ...Array.from({ length: BURST }, (_, n) => postWindow(server, windowOf(n))),
      ])
      if (stream.readyState === WebSocket.OPEN) overrun()
      await sleep(PAUSE_MS)
    }
    stream.close()
  })()
  return () => {
    more = false
    return done
  }
}
