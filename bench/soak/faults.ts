import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { FAULTS as ORDERS } from '../../test/faults/faults.ts'
import { inferRequest, STREAM, streamRequest, upgradeOf } from '../load/requests.ts'
import { WINDOWS } from '../suites/windows.ts'
import { Observer } from './samples.ts'
import type { Soaked } from './server.ts'

/** Something that goes wrong beside a burst. */
export interface Fault {
  readonly name: string
  /** Whether this server can be made to suffer from it. */
  fits(server: Soaked): boolean
  /** @returns how many windows it has sent without waiting for their answers */
  run(server: Soaked, burstMs: number): Promise<number>
}

const BINARY = { encoding: 'binary' } as const
const LEAVING_CLIENTS = 64
const HALF_OPEN_CLIENTS = 32
const BAD_WINDOWS = 64
const FLOOD_WINDOWS = 2000
const UNREAD_WINDOWS = 256
const UPLOAD_WINDOWS = 512
/** Given to what has been sent, so that it arrives before its sender leaves. */
const ARRIVAL_MS = 50
/** For another model: a link is looked at once a second. */
const PATIENCE_MS = 30_000
const LOOK_INTERVAL_MS = 50

/** One more is one more entry. */
export const FAULTS: readonly Fault[] = [
  ordered('worker throws', ORDERS.throw),
  ordered('worker thread ends', ORDERS.exit),
  ordered('worker hangs', ORDERS.hang),
  onDevice('device aborts what it has', 'abort'),
  onDevice('device stalls', 'stall'),
  onDevice('device loses frames', 'drop'),
  onDevice('device has a runtime error', 'runtime_error'),
  onDevice('device is unplugged', 'unplug'),
  {
    name: 'model is looked for, and there is no other',
    // Without a handler it would end the process.
    fits: ({ pid }) => catches(pid, 'SIGHUP'),
    async run({ pid }, burstMs) {
      await sleep(burstMs / 2)
      kill(pid, 'SIGHUP')
      return 0
    },
  },
  reload('another model by SIGHUP', 'replaced', ({ pid, versions }) => {
    versions!.turnToOther()
    kill(pid, 'SIGHUP')
  }),
  reload('another model by a turned link', 'replaced', ({ versions }) => versions!.turnToOther()),
  reload('a bad model by SIGHUP', 'refused', ({ pid, versions }) => {
    versions!.turnToBad()
    kill(pid, 'SIGHUP')
  }),
  byClients('clients leave within a window', async (server, sockets) => {
    const { bytes } = inferRequest([WINDOWS[0]!], BINARY)
    for (let index = 0; index < LEAVING_CLIENTS; index++) {
      sockets.open(server).write(bytes.subarray(0, bytes.length - 1800))
    }
    await sleep(ARRIVAL_MS)
    return LEAVING_CLIENTS
  }),
  byClients('clients leave before the answer', async (server, sockets) => {
    const { bytes } = inferRequest([WINDOWS[0]!], BINARY)
    for (let index = 0; index < LEAVING_CLIENTS; index++) {
      const socket = sockets.open(server)
      socket.write(bytes, () => socket.destroy())
    }
    await sleep(ARRIVAL_MS)
    return LEAVING_CLIENTS
  }),
  byClients('connections stay half open', async (server, sockets, burstMs) => {
    for (let index = 0; index < HALF_OPEN_CLIENTS; index++) {
      sockets.open(server).write('POST /infer HTTP/1.1\r\nHost: soak\r\nContent-Le')
    }
    await sleep(burstMs)
    return 0
  }),
  byClients('clients send what is no window', async (server, sockets) => {
    const socket = sockets.open(server)
    const closed = once(socket, 'close')
    const bodies = ['{"x": [[1, 2, 3]]}', 'no JSON', '{"x": null}', '{}']
    for (let index = 0; index < BAD_WINDOWS; index++) {
      const body = bodies[index % bodies.length]!
      const head = `POST /infer HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\nContent-Length: ${body.length}`
      socket.write(`${head}\r\n\r\n${body}`)
      await Promise.race([once(socket, 'data'), closed])
      if (socket.destroyed) break
    }
    return BAD_WINDOWS // a busy server refuses them unread
  }),
  byClients('an upload whose answer nobody reads', async (server, sockets, burstMs) => {
    const upload = Array.from({ length: UPLOAD_WINDOWS }, (_, index) => WINDOWS[index % WINDOWS.length]!)
    sockets.open(server).pause().write(inferRequest(upload, BINARY).bytes)
    await sleep(burstMs)
    return UPLOAD_WINDOWS
  }),
  byClients('a stream whose answers nobody reads', async (server, sockets, burstMs) => {
    const socket = await sockets.stream(server)
    socket.pause()
    for (let sequence = 0; sequence < UNREAD_WINDOWS; sequence++) socket.write(numbered(sequence))
    await sleep(burstMs)
    return UNREAD_WINDOWS
  }),
  byClients('a stream that heeds no credits', async (server, sockets, burstMs) => {
    const socket = await sockets.stream(server)
    const closed = once(socket, 'close')
    const untilMs = performance.now() + burstMs
    let sequence = 0
    while (sequence < FLOOD_WINDOWS && performance.now() < untilMs && !socket.destroyed) {
      if (!socket.write(numbered(sequence++)))
        await Promise.race([once(socket, 'drain'), closed, sleep(burstMs)])
    }
    return sequence
  }),
]

/** A window tells a worker to fail. */
function ordered(name: string, order: number): Fault {
  return {
    name,
    fits: ({ obeys }) => obeys,
    async run({ port }, burstMs) {
      const window = WINDOWS[0]!.slice()
      window[0] = order
      await sleep(burstMs / 2)
      const socket = connect({ port, host: '127.0.0.1' })
      socket.on('error', () => {})
      socket.write(inferRequest([window], BINARY).bytes)
      await once(socket, 'data')
      socket.destroy()
      return 1
    },
  }
}

/** The device is broken for half of the burst. */
function onDevice(name: string, faults: string): Fault {
  return {
    name,
    fits: ({ device }) => device !== null,
    async run({ device }, burstMs) {
      await sleep(burstMs / 4)
      device!(faults)
      await sleep(burstMs / 2)
      device!('')
      return 0
    },
  }
}

/** The server is brought another model. @param result what must come of that: else this is no fault, and the soak ends */
function reload(name: string, result: 'replaced' | 'refused', bring: (server: Soaked) => void): Fault {
  return {
    name,
    fits: ({ pid, versions }) => versions !== null && catches(pid, 'SIGHUP'),
    async run(server) {
      const observer = new Observer(server)
      const count = () => observer.metric('hailo_model_reloads_total', `result="${result}"`)
      const before = await count()
      bring(server)
      const untilMs = performance.now() + PATIENCE_MS
      while ((await count()) === before) {
        if (performance.now() > untilMs) throw new Error(`${name}: not ${result} within ${PATIENCE_MS} ms`)
        await sleep(LOOK_INTERVAL_MS)
      }
      server.versions!.turnBack()
      return 0
    },
  }
}

/** Clients that misbehave, all gone at the end. */
function byClients(
  name: string,
  run: (server: Soaked, sockets: Sockets, burstMs: number) => Promise<number>,
): Fault {
  return {
    name,
    fits: () => true,
    async run(server, burstMs) {
      const sockets = new Sockets()
      try {
        return await run(server, sockets, burstMs)
      } finally {
        sockets.destroy()
      }
    },
  }
}

class Sockets {
  readonly #all: Socket[] = []

  open({ port }: Soaked): Socket {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.on('error', () => {})
    socket.resume()
    this.#all.push(socket)
    return socket
  }

  /** One that has said hello. */
  async stream(server: Soaked): Promise<Socket> {
    const socket = this.open(server)
    socket.write(upgradeOf('/stream'))
    await once(socket, 'data')
    socket.write(STREAM.hello!)
    return socket
  }

  destroy(): void {
    for (const socket of this.#all) socket.destroy()
  }
}

function numbered(sequence: number): Uint8Array {
  const { bytes } = streamRequest(WINDOWS[sequence % WINDOWS.length]!)
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(SEQUENCE_OFFSET, sequence, true)
  return bytes
}

/** In a frame of more than 125 bytes: 4 of length, 4 of mask, then the message. */
const SEQUENCE_OFFSET = 8 + STREAM.dialect.requestSequenceOffset!

/** Whether the process has a handler for the signal. */
function catches(pid: number, signal: 'SIGHUP'): boolean {
  const mask = /^SigCgt:\s+([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return (BigInt(`0x${mask}`) & (1n << BigInt(SIGNALS[signal] - 1))) !== 0n
}

const SIGNALS = { SIGHUP: 1 }
