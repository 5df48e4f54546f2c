import { mkdtempSync, rmSync } from 'node:fs'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fetchThrough } from '../http.ts'
import type { Row } from '../report/section.ts'
import { spreadOf } from '../report/spread.ts'
import { engine, uncounted } from './servers.ts'
import type { Context, Mode, Suite } from './suite.ts'
import { STREAM_WINDOWS, TRAFFIC, type Traffic } from './traffic.ts'
import { compare, type Entry, race } from './under-load.ts'

const STREAMS = 32
/** Slots for all that the streams have in flight, and as many again. */
const STREAM_SLOTS = '2048'
/** Which nothing meets by chance: what can be done is measured, not what is refused. */
const DEADLINE_MS = '1000'
const SCRAPES = 100
const SCRAPE_TIMEOUT_MS = 5000
/** Nobody listens there. */
const DEAD_COLLECTOR = 'http://127.0.0.1:9'

interface Load {
  readonly name: string
  readonly mode: Mode
  readonly traffic: Traffic
  readonly connections: number
  readonly settings?: Readonly<Record<string, string>>
}

/** What it takes to watch the engine. */
export const instrumentation: Suite = async context => {
  const { connections } = context
  const folder = mkdtempSync(join(tmpdir(), 'instrumentation-'))
  const variants: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    'metrics and log': {},
    'and telemetry': { TELEMETRY_DIR: folder },
    'and traces, to a dead collector': { OTEL_EXPORTER_OTLP_ENDPOINT: DEAD_COLLECTOR },
  }
  const loads: readonly Load[] = [
    { name: 'onnx, HTTP binary', mode: 'onnx', traffic: TRAFFIC.binary, connections },
    { name: 'noop, HTTP binary', mode: 'noop', traffic: TRAFFIC.binary, connections },
    {
      name: `noop, WebSocket, ${STREAMS} × ${STREAM_WINDOWS} in flight`,
      mode: 'noop',
      traffic: TRAFFIC.websocket,
      connections: STREAMS,
      settings: { RING_SLOTS: STREAM_SLOTS },
    },
  ]
  const entries: Record<string, Entry> = {}
  for (const { name, mode, settings = {}, ...load } of loads) {
    const common = { DEADLINE_MS, ...settings }
    entries[name] = { server: uncounted(mode, common), ...load }
    for (const [variant, env] of Object.entries(variants)) {
      const server = engine(mode, { ...common, ...env })
      // The folder is another one in each run.
      const settings = server.settings.replace(folder, '…')
      entries[`${name}, ${variant}`] = { server: { ...server, settings }, ...load }
    }
  }
  const { trials, figures } = await race(context, entries).finally(() => rmSync(folder, { recursive: true }))
  const rows = loads.flatMap(({ name }) =>
    Object.keys(variants).map(variant =>
      compare({
        name: `${name}, ${variant}`,
        against: 'uncounted',
        ours: trials[`${name}, ${variant}`]!,
        theirs: trials[name]!,
        goal: { atLeast: 0.97 },
      }),
    ),
  )
  return {
    title: 'Instrumentation',
    about:
      'The server as it is for its users, against the same one with everything taken out of its main thread that ' +
      'counts and tells, but for how full each ring was. With a backend that does nothing, a window costs the least that it can, and to count it the most.',
    rows: [...rows, await scrapes(context)],
    figures,
  }
}

/** How long `GET /metrics` takes, seen from the client. */
async function scrapes({ progress }: Context): Promise<Row> {
  progress('scrapes')
  const { port, stop } = await engine('noop').start()
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const fetch = fetchThrough(agent)
  const tookMs: number[] = []
  let wrong = 0
  try {
    for (let n = 0; n < SCRAPES; n++) {
      const startedMs = performance.now()
      const { status } = await fetch(`http://127.0.0.1:${port}/metrics`, {
        method: 'GET',
        headers: {},
        signal: AbortSignal.timeout(SCRAPE_TIMEOUT_MS),
      })
      tookMs.push(performance.now() - startedMs)
      if (status !== 200) wrong++
    }
  } finally {
    agent.destroy()
    await stop()
  }
  return {
    name: 'a scrape',
    value: spreadOf(tookMs),
    unit: 'ms',
    goal: { atMost: 2 },
    wrong,
    doubts: [],
  }
}
