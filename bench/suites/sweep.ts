import type { Chart, Row } from '../report/section.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { findCapacity } from './search.ts'
import { DEADLINE_MS, engine } from './servers.ts'
import type { Suite } from './suite.ts'
import { mixed } from './traffic.ts'
import { type Entry, factsOf, race } from './under-load.ts'

/** Of capacity. */
const SHARES = [0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1, 1.1]
const LOW = 0.1
const HIGH = 0.9
/** Within it, a rise is noise. */
const NOISE = 1.05

/** What load does to latency, and to what a window costs. */
export const sweep: Suite = async context => {
  const { mode, mix, connections } = context
  const entry = { server: engine(mode ?? 'onnx'), traffic: mixed(mix), connections }
  const { rate } = await findCapacity(context, entry, DEADLINE_MS)
  const entries = SHARES.map((share): [string, Entry] => [
    `${Math.round(share * 100)} %`,
    { ...entry, loop: { kind: 'open', ratePerSecond: share * rate } },
  ])
  const { trials, figures } = await race(context, Object.fromEntries(entries))
  const of = (share: number) => trials[`${Math.round(share * 100)} %`]!
  const cost = (share: number) => of(share).map(({ cost }) => cost!.serverUs)
  const curve = (name: string, of: (share: number) => number) => ({
    name,
    points: SHARES.map((share): [number, number] => [share * rate, of(share)]),
  })
  const latency = (percent: 'p50Ms' | 'p99Ms') => (share: number) =>
    spreadOf(of(share).map(trial => trial[percent])).median

  const rises = SHARES.filter(share => share <= HIGH)
    .slice(1)
    .map((share, index) => ratioOf(cost(share), cost(SHARES[index]!)))
  const { wrong, doubts } = factsOf(SHARES.filter(share => share <= HIGH).flatMap(of))
  const facts = { unit: '×', wrong, doubts } as const
  const rows: Row[] = [
    {
      name: `${entry.server.name}, CPU a window at ${100 * HIGH} % of capacity`,
      against: `at ${100 * LOW} %`,
      value: ratioOf(cost(HIGH), cost(LOW)),
      goal: { atMost: 1 },
      ...facts,
    },
    {
      name: `${entry.server.name}, its steepest rise before saturation`,
      against: 'the next lower rate',
      value: rises.reduce((most, rise) => (rise.median > most.median ? rise : most)),
      goal: { atMost: NOISE },
      ...facts,
    },
  ]
  const charts: Chart[] = [
    {
      name: 'latency',
      title: 'Latency against rate, from when a window was due',
      x: 'windows/s',
      y: 'ms',
      isLogarithmic: true,
      lines: [curve('p50', latency('p50Ms')), curve('p99', latency('p99Ms'))],
    },
    {
      name: 'cost',
      title: 'Processor time of the server per window against rate',
      x: 'windows/s',
      y: 'µs',
      lines: [curve('all threads', share => spreadOf(cost(share)).median)],
    },
  ]
  return {
    title: 'Load',
    about:
      'From nearly idle to beyond capacity: how late answers are, and what one costs. Capacity is what one search has found. Windows that come together are ' +
      'woken for together, sent together, and inferred as one batch.',
    rows,
    figures: figures.map((figure, index) => ({
      ...figure,
      load: `${figure.load}, ${entries[index]![0]} of capacity`,
    })),
    charts,
  }
}
