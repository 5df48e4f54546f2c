import type { ContenderBackend } from '../contenders/contender.ts'
import type { Goal, Row } from '../report/section.ts'
import { contender, patient } from './servers.ts'
import type { Suite } from './suite.ts'
import { TRAFFIC } from './traffic.ts'
import { compare, race } from './under-load.ts'

const OTHERS = { naive: 'the naive design', piscina: 'Piscina run() per window', fastify: 'Fastify' } as const
const FASTER_THAN_FASTIFY: Goal = { atLeast: 4 }

/** Other ways to serve the same model from Node.js. */
export const contenders: Suite = async context => {
  const { connections } = context
  const loaded = { traffic: TRAFFIC.json, connections }
  const serversOf = (backend: ContenderBackend) => ({
    [`engine ${backend}`]: { server: patient(backend), ...loaded },
    [`naive ${backend}`]: { server: contender('naive', { backend }), ...loaded },
    [`piscina ${backend}`]: { server: contender('piscina', { backend, threads: 1 }), ...loaded },
    [`fastify ${backend}`]: { server: contender('fastify', { backend }), ...loaded },
  })
  const { trials, figures } = await race(context, { ...serversOf('noop'), ...serversOf('onnx') })
  const rowsOf = (backend: ContenderBackend): Row[] =>
    Object.entries(OTHERS).map(([other, against]) =>
      compare({
        name: `${backend}, JSON`,
        against,
        ours: trials[`engine ${backend}`]!,
        theirs: trials[`${other} ${backend}`]!,
        ...(other === 'fastify' && backend === 'noop' && { goal: FASTER_THAN_FASTIFY }),
      }),
    )
  return {
    title: 'Contenders',
    about:
      'Other ways to serve a model from Node.js: hyper-express with JSON.parse() and ONNX Runtime on the main thread; ' +
      'uWebSockets.js with a Piscina task for each window; Fastify with a schema. Each runs a window at a time.',
    rows: [...rowsOf('noop'), ...rowsOf('onnx')],
    figures,
  }
}
