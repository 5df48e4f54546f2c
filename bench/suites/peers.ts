import { PeerMissing, type PeerOptions, startPeer } from '../peers/peer.ts'
import type { Goal } from '../report/section.ts'
import { spreadOf } from '../report/spread.ts'
import { patient, type Server } from './servers.ts'
import { CannotMeasure, type Context, type Suite } from './suite.ts'
import { TRAFFIC, type Traffic } from './traffic.ts'
import { compare, race, type Trial } from './under-load.ts'

/** How much faster than a peer we are to be, by its major version of pydantic. */
const GOALS: Record<string, { readonly model: Goal; readonly noModel: Goal }> = {
  1: { model: { atLeast: 15 }, noModel: { atLeast: 48 } },
  2: { model: { atLeast: 5 }, noModel: { atLeast: 16 } },
}

/** What users come from: a sidecar in Python. */
export const peers: Suite = async context => {
  const { pythons } = context
  const parts = []
  for (const python of pythons.length === 0 ? [undefined] : pythons)
    parts.push(await against(python, context))
  return {
    title: 'Peers',
    about:
      'A sidecar in Python with FastAPI, uvicorn and pydantic (bench/peers/) without a model, against the engine running ' +
      'the model; and both without one. With a model it is compared with the faster of two: one that makes its numbers ' +
      'up, which is why they are not checked, and one that always has the same.',
    rows: parts.flatMap(({ rows }) => rows),
    figures: parts.flatMap(({ figures }) => figures),
  }
}

async function against(python: string | undefined, context: Context) {
  const { connections } = context
  const pydantic = await pydanticOf(python)
  const peer = (backend: NonNullable<PeerOptions['backend']>): Server => ({
    name: `FastAPI, pydantic ${pydantic}, ${backend}`,
    settings: '',
    start: () => startPeer({ backend, ...(python && { python }) }),
  })
  const { trials, figures } = await race(context, {
    onnx: { server: patient('onnx'), traffic: TRAFFIC.json, connections },
    noop: { server: patient('noop'), traffic: TRAFFIC.json, connections },
    stubPeer: { server: peer('stub'), traffic: UNCHECKED, connections },
    noopPeer: { server: peer('noop'), traffic: TRAFFIC.json, connections },
  })
  const goals = GOALS[pydantic.split('.')[0]!]
  const rate = (peer: readonly Trial[]) =>
    spreadOf(peer.map(({ windowsPerSecond }) => windowsPerSecond)).median
  const isStubFaster = rate(trials.stubPeer) > rate(trials.noopPeer)
  const withModel = {
    against: `pydantic ${pydantic}, ${isStubFaster ? 'made-up numbers' : 'no model'}`,
    ours: trials.onnx,
    theirs: isStubFaster ? trials.stubPeer : trials.noopPeer,
  }
  const noModel = { against: `pydantic ${pydantic}`, ours: trials.noop, theirs: trials.noopPeer }
  return {
    rows: [
      compare({ name: 'our model, JSON', ...withModel, ...(goals && { goal: goals.model }) }),
      compare({
        name: 'our model, JSON, p99',
        ...withModel,
        by: ({ p99Ms }) => p99Ms,
        goal: { atMost: 1 },
      }),
      compare({ name: 'no model on either side, JSON', ...noModel, ...(goals && { goal: goals.noModel }) }),
    ],
    figures,
  }
}

/** Numbers that are made up are right whatever they are. */
const UNCHECKED: Traffic = {
  name: TRAFFIC.json.name,
  prepare: async target => {
    const { requests, ...prepared } = await TRAFFIC.json.prepare(target)
    return { ...prepared, requests: requests.map(({ expected: _, ...request }) => request) }
  },
}

/** @throws CannotMeasure */
async function pydanticOf(python: string | undefined): Promise<string> {
  try {
    const { stop, versions } = await startPeer({ backend: 'noop', ...(python && { python }) })
    await stop()
    return versions.pydantic
  } catch (error) {
    if (error instanceof PeerMissing) throw new CannotMeasure(error.message)
    throw error
  }
}
