import { measureNetwork, type NetworkRow } from '../device/network.ts'
import {
  type AddedLatencyRow,
  DEFAULT_DEPTH,
  LOW_LOAD_PER_SECOND,
  MODELLED,
  measureAddedLatency,
  measureThroughput,
  type ThroughputRow,
} from '../device/pipeline.ts'
import type { Chart, Goal, Row } from '../report/section.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import type { Suite } from './suite.ts'

const WORKERS = [1, 4]
/** Of `milliseconds`: each of many settings. */
const SHARE_OF_DURATION = 1 / 3

/** What the engine adds to a device, and how fast the one without hardware is. */
export const device: Suite = async context => {
  const milliseconds = Math.round(context.durationMs * SHARE_OF_DURATION)
  const trials = await interleave(context, {
    network: () => measureNetwork(milliseconds),
    throughput: () => measureThroughput(milliseconds),
    latency: () => measureAddedLatency(milliseconds),
  })
  return {
    title: 'The device',
    about:
      'The int8 network of the software HailoRT on one core, against the float model in ONNX Runtime: both read float32 ' +
      'windows and write float32 results into memory that is there; to quantise them is part of the one, the calls from ' +
      'JavaScript are part of the other. And the engine ' +
      `without a front door on a modelled device, which takes ${MODELLED.framesPerSecond} windows/s and ` +
      `${MODELLED.latencyUs} µs for each: these are figures of a model, not of a Hailo-8.`,
    rows: [
      ...networkRows(trials.network),
      ...throughputRows(trials.throughput),
      ...latencyRows(trials.latency),
    ],
    figures: trials.network[0]!.map(({ name }, index) => ({
      name,
      load: 'bare loop',
      settings: '',
      windowsPerSecond: spreadOf(trials.network.map(rows => rows[index]!.windowsPerSecond)),
    })),
    charts: [depthChart(trials.throughput)],
  }
}

const PLAIN = { wrong: 0, doubts: [] }

function networkRows(rounds: readonly NetworkRow[][]): Row[] {
  const rates = (name: string) => rounds.map(rows => rows.find(row => row.name === name)!.windowsPerSecond)
  const against = 'onnxruntime float, batch 1'
  const row = (name: string, goal: Goal): Row => ({
    name,
    against,
    value: ratioOf(rates(name), rates(against)),
    unit: '×',
    goal,
    ...PLAIN,
  })
  return [row('int8 network, SIMD', { atLeast: 4 }), row('int8 network, portable', { atLeast: 0.5 })]
}

function throughputRows(rounds: readonly ThroughputRow[][]): Row[] {
  return WORKERS.flatMap((workers): Row[] => {
    const deepest = rounds[0]!.at(-1)!.depth
    return [DEFAULT_DEPTH, deepest].flatMap((depth): Row[] => {
      const rows = rounds.map(rows => rows.find(row => row.workers === workers && row.depth === depth)!)
      const name = `modelled, workers ${workers}, depth ${depth}`
      return [
        {
          name,
          against: 'the modelled rate',
          value: spreadOf(rows.map(({ ofModelled }) => ofModelled)),
          unit: '×',
          goal: { atLeast: 0.98 },
          ...factsOf(rows),
        },
        {
          name: `${name}, CPU a window beside the device's`,
          value: spreadOf(rows.map(({ engineCpuUs }) => engineCpuUs)),
          unit: 'µs',
          ...factsOf(rows),
        },
      ]
    })
  })
}

function latencyRows(rounds: readonly AddedLatencyRow[][]): Row[] {
  return WORKERS.map((workers): Row => {
    const rows = rounds.map(rows => rows.find(row => row.workers === workers)!)
    return {
      name: `modelled, workers ${workers}, at ${LOW_LOAD_PER_SECOND} windows/s, latency p50 beyond the device's`,
      value: spreadOf(rows.map(({ addedP50Us }) => addedP50Us)),
      unit: 'µs',
      goal: { atMost: 80 },
      ...factsOf(rows),
    }
  })
}

function factsOf(rows: readonly { refused: number; wrong: number }[]): Pick<Row, 'wrong' | 'doubts'> {
  const refused = rows.reduce((sum, row) => sum + row.refused, 0)
  return {
    wrong: rows.reduce((sum, row) => sum + row.wrong, 0),
    doubts: refused > 0 ? [`${refused} windows were refused`] : [],
  }
}

function depthChart(rounds: readonly ThroughputRow[][]): Chart {
  const [first] = rounds
  const workers = [...new Set(first!.map(({ workers }) => workers))]
  const rateOf = (index: number) => spreadOf(rounds.map(rows => rows[index]!.windowsPerSecond)).median
  return {
    name: 'depth',
    title: 'Throughput against depth, on a modelled device',
    x: 'windows in a stream at once',
    y: 'windows/s',
    lines: workers.map(count => ({
      name: `workers ${count}`,
      points: first!.flatMap((row, index): [number, number][] =>
        row.workers === count ? [[row.depth, rateOf(index)]] : [],
      ),
    })),
  }
}
