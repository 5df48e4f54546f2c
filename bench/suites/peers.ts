import { PeerMissing, type PeerOptions, startPeer } from '../peers/peer.ts'
import type { Goal, Row } from '../report/section.ts'
import { patient, type Server } from './servers.ts'
import { NotHere, type Suite } from './suite.ts'
import { TRAFFIC, type Traffic } from './traffic.ts'
import { compare, type Entry, race } from './under-load.ts'

/** How much faster than a peer we are to be, by its major version of pydantic. */
const GOALS: Record<string, { readonly onnx: Goal; readonly noop: Goal }> = {
  1: { onnx: { atLeast: 15 }, noop: { atLeast: 48 } },
  2: { onnx: { atLeast: 5 }, noop: { atLeast: 16 } },
}
const LOWER: Goal = { atMost: 1 }

type PeerName = `${string} ${'stub' | 'noop'}`

/** What users come from: a sidecar in Python. */
export const peers: Suite = async context => {
  const { connections, pythons } = context
  const loaded = { traffic: TRAFFIC.json, connections }
  const found = await Promise.all(pythons.map(python => versionsOf(python)))
  const ours = {
    onnx: { server: patient('onnx'), ...loaded },
    noop: { server: patient('noop'), ...loaded },
  }
  const theirs = found.flatMap(({ python, pydantic }) => [
    [
      `${pydantic} stub`,
      { server: peer(python, pydantic, 'stub'), traffic: UNCHECKED, connections },
    ] as const,
    [`${pydantic} noop`, { server: peer(python, pydantic, 'noop'), ...loaded }] as const,
  ])
  const { trials, figures } = await race<PeerName | 'onnx' | 'noop'>(context, {
    ...ours,
    ...(Object.fromEntries(theirs) as Record<PeerName, Entry>),
  })
  const rowsOf = ({ pydantic }: { pydantic: string }): Row[] => {
    const goals = GOALS[pydantic.split('.')[0]!]
    const against = `FastAPI, pydantic ${pydantic}`
    const withModel = { ours: trials.onnx, theirs: trials[`${pydantic} stub`]! }
    const without = { ours: trials.noop, theirs: trials[`${pydantic} noop`]! }
    return [
      compare({
        name: 'our model, JSON',
        against: `${against}, no model`,
        ...withModel,
        ...(goals && { goal: goals.onnx }),
      }),
      compare({
        name: 'our model, JSON, p99',
        against: `${against}, no model`,
        by: ({ p99Ms }) => p99Ms,
        ...withModel,
        goal: LOWER,
      }),
      compare({
        name: 'no model on either side, JSON',
        against,
        ...without,
        ...(goals && { goal: goals.noop }),
      }),
    ]
  }
  return {
    title: 'Peers',
    about:
      'A sidecar in Python with FastAPI, uvicorn and pydantic (bench/peers/), which only makes up numbers (so its answers are not compared), against the ' +
      'engine running the model; and both without one.',
    rows: found.flatMap(rowsOf),
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

function peer(python: string, pydantic: string, backend: NonNullable<PeerOptions['backend']>): Server {
  return {
    name: `FastAPI, pydantic ${pydantic}, ${backend}`,
    settings: '',
    start: () => startPeer({ backend, python }),
  }
}

/** @throws NotHere */
async function versionsOf(python: string): Promise<{ python: string; pydantic: string }> {
  try {
    const { stop, versions } = await startPeer({ backend: 'noop', python })
    await stop()
    return { python, pydantic: versions.pydantic }
  } catch (error) {
    if (error instanceof PeerMissing) throw new NotHere(error.message)
    throw error
  }
}
