import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { contender, engine } from './servers.ts'
import type { Suite } from './suite.ts'
import { BULK_WINDOWS, STREAM_WINDOWS, TRAFFIC } from './traffic.ts'
import { compare, race } from './under-load.ts'

const STREAMS = 32
const UPLOADS = 16
/** Slots for all that the streams have in flight, and as many again. */
const STREAM_SLOTS = '2048'

/** What is left of uWebSockets' own speed when the engine stands behind it. */
export const doors: Suite = async context => {
  const { connections } = context
  const folder = mkdtempSync(join(tmpdir(), 'doors-'))
  const path = join(folder, 'socket')
  const echo = contender('echo', { reply: 'binary' })
  const noop = engine('noop')
  const roomy = engine('noop', { RING_SLOTS: STREAM_SLOTS })
  const settings = `${noop.settings}, on a Unix socket`
  const onSocket = { ...engine('noop', { SIDECAR_SOCKET: path }), settings, path }
  const { trials, figures } = await race(context, {
    echo: { server: echo, traffic: TRAFFIC.binary, connections },
    binary: { server: noop, traffic: TRAFFIC.binary, connections },
    json: { server: noop, traffic: TRAFFIC.json, connections },
    float64: { server: noop, traffic: TRAFFIC['json-float64'], connections },
    oneEcho: { server: contender('echo', { reply: 'json' }), traffic: TRAFFIC.json, connections: 1 },
    one: { server: noop, traffic: TRAFFIC.json, connections: 1 },
    streamEcho: { server: echo, traffic: TRAFFIC.websocket, connections: STREAMS },
    stream: { server: roomy, traffic: TRAFFIC.websocket, connections: STREAMS },
    bulk: { server: noop, traffic: TRAFFIC.bulk, connections: UPLOADS },
    socket: { server: onSocket, traffic: TRAFFIC.binary, connections },
    oip: { server: noop, traffic: TRAFFIC.oip, connections },
    oipJson: { server: noop, traffic: TRAFFIC['oip-json'], connections },
  }).finally(() => rmSync(folder, { recursive: true }))

  const echoed = { against: 'echo binary', theirs: trials.echo }
  return {
    title: 'Front doors',
    about:
      'The engine with a backend that does nothing, against a bare uWebSockets server that answers as many bytes to ' +
      'as many bytes: what the engine itself costs. It is configured as for its users, except where a row says otherwise.',
    rows: [
      compare({ name: 'HTTP binary', ours: trials.binary, ...echoed, goal: { atLeast: 0.9 } }),
      compare({ name: 'HTTP JSON', ours: trials.json, ...echoed, goal: { atLeast: 0.55 } }),
      compare({
        name: 'HTTP JSON, digits as Python and JavaScript print them',
        ours: trials.float64,
        ...echoed,
      }),
      compare({
        name: 'one connection, JSON, p50',
        ours: trials.one,
        theirs: trials.oneEcho,
        against: 'echo JSON',
        by: ({ p50Ms }) => p50Ms,
        goal: { atMost: 1.3 },
      }),
      compare({
        name: `WebSocket binary, ${STREAMS} × ${STREAM_WINDOWS} in flight, ${STREAM_SLOTS} slots`,
        ours: trials.stream,
        theirs: trials.streamEcho,
        against: 'echo WebSocket',
        goal: { atLeast: 0.97 },
      }),
      compare({
        name: `bulk binary, ${BULK_WINDOWS} windows a request`,
        ours: trials.bulk,
        theirs: trials.binary,
        against: 'HTTP binary',
        goal: { atLeast: 4 },
      }),
      compare({ name: 'Unix socket, HTTP binary', ours: trials.socket, ...echoed }),
      compare({ name: 'OIP binary', ours: trials.oip, ...echoed }),
      compare({ name: 'OIP JSON', ours: trials.oipJson, ...echoed }),
    ],
    figures,
  }
}
