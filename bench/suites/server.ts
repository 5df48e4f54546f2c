import type { Row } from '../report/section.ts'
import { spreadOf } from '../report/spread.ts'
import { engine, type Server } from './servers.ts'
import type { Context, Suite } from './suite.ts'
import { mixed } from './traffic.ts'
import { type Entry, factsOf, race, type Trial } from './under-load.ts'

const PERCENTILES = [50, 90, 99, 99.9]

/** One server, loaded as it was asked for: ours, or one that runs already. */
export const server: Suite = async context => {
  const { rate, mix, connections } = context
  const loop: Entry['loop'] = rate === null ? { kind: 'closed' } : { kind: 'open', ratePerSecond: rate }
  const entry: Entry = { server: serverOf(context), traffic: mixed(mix), connections, loop }
  const { trials, figures } = await race(context, { server: entry })
  const facts = factsOf(trials.server)
  const rowOf = (name: string, unit: Row['unit'], by: (trial: Trial) => number): Row => ({
    name,
    value: spreadOf(trials.server.map(by)),
    unit,
    ...facts,
  })
  return {
    title: 'One server',
    about:
      rate === null
        ? 'Each connection sends its next request as soon as it has its answer; latency from when it was sent.'
        : `${rate} requests are due each second, whatever the server does; latency from then.`,
    rows: [
      rowOf('windows answered', '/s', ({ windowsPerSecond }) => windowsPerSecond),
      rowOf('requests refused', '/s', ({ load: { ended, seconds } }) => ended.refused / seconds),
      rowOf(
        'requests given up at their deadline',
        '/s',
        ({ load: { ended, seconds } }) => ended.late / seconds,
      ),
      ...PERCENTILES.map(percent =>
        rowOf(`latency p${percent}`, 'ms', ({ load }) => load.answered.percentileMs(percent)),
      ),
    ],
    figures,
  }
}

function serverOf({ mode, address }: Context): Server {
  if (address === null) return engine(mode ?? 'onnx')
  const port = 'port' in address ? address.port : 0
  return {
    name: 'port' in address ? `port ${port}` : address.path,
    settings: '',
    ...('path' in address && { path: address.path }),
    start: async () => ({ port, stop: async () => {} }),
  }
}
