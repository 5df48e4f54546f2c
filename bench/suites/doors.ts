import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { contender, patient } from './servers.ts'
import type { Suite } from './suite.ts'
import { bulk, http, oip, webSocket } from './traffic.ts'
import { compare, race } from './under-load.ts'

const STREAMS = 32
const WINDOWS_PER_STREAM = 32
const WINDOWS_PER_REQUEST = 64
const UPLOADS = 16
/** Slots for all that is in flight, and as many again. */
const MANY_SLOTS = { RING_SLOTS: '2048' }

/** What is left of uWebSockets' own speed when the engine stands behind it. */
export const doors: Suite = async context => {
  const { connections } = context
  const path = join(tmpdir(), `hailo-inference-bench-${process.pid}.sock`)
  const echo = contender('echo', { reply: 'binary' })
  const noop = patient('noop')
  const roomy = patient('noop', MANY_SLOTS)
  const onSocket = { ...patient('noop', { SIDECAR_SOCKET: path }), path }
  const { trials, figures } = await race(context, {
    echo: { server: echo, traffic: http('binary'), connections },
    binary: { server: noop, traffic: http('binary'), connections },
    json: { server: noop, traffic: http('json'), connections },
    oneEcho: { server: contender('echo', { reply: 'json' }), traffic: http('json'), connections: 1 },
    one: { server: noop, traffic: http('json'), connections: 1 },
    streamEcho: { server: echo, traffic: webSocket(WINDOWS_PER_STREAM), connections: STREAMS },
    stream: { server: roomy, traffic: webSocket(WINDOWS_PER_STREAM), connections: STREAMS },
    bulk: { server: roomy, traffic: bulk('binary', WINDOWS_PER_REQUEST), connections: UPLOADS },
    socket: { server: onSocket, traffic: http('binary'), connections },
    oip: { server: noop, traffic: oip('binary'), connections },
    oipJson: { server: noop, traffic: oip('json'), connections },
  })

  const echoed = { against: 'echo binary', theirs: trials.echo }
  return {
    title: 'Front doors',
    about:
      'The engine with a backend that does nothing, against a bare uWebSockets server that answers as many bytes to ' +
      'as many bytes: what the engine itself costs.',
    rows: [
      compare({ name: 'HTTP binary', ours: trials.binary, ...echoed, goal: { atLeast: 0.9 } }),
      compare({ name: 'HTTP JSON', ours: trials.json, ...echoed, goal: { atLeast: 0.55 } }),
      compare({
        name: 'one connection, JSON, p50',
        ours: trials.one,
        theirs: trials.oneEcho,
        against: 'echo JSON',
        by: ({ p50Ms }) => p50Ms,
        goal: { atMost: 1.3 },
      }),
      compare({
        name: `WebSocket binary, ${STREAMS} × ${WINDOWS_PER_STREAM} in flight`,
        ours: trials.stream,
        theirs: trials.streamEcho,
        against: 'echo WebSocket',
        goal: { atLeast: 0.97 },
      }),
      compare({
        name: `bulk binary, ${WINDOWS_PER_REQUEST} windows a request`,
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
