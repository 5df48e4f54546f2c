import { measureNetwork, type NetworkRow } from '../device/network.ts'
import {
  type AddedLatencyRow,
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
  const once = { runs: 1, milliseconds: context.durationMs * SHARE_OF_DURATION }
  const trials = await interleave(context, {
    network: () => measureNetwork(once),
    throughput: () => measureThroughput(once),
    latency: () => measureAddedLatency(once),
  })
  return {
    title: 'The device',
    about:
      'The int8 network of the software HailoRT on one core, against the float model in ONNX Runtime; and the engine ' +
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
    const deepest = rounds.map(rows => rows.findLast(row => row.workers === workers)!)
    const name = `modelled, workers ${workers}, depth ${deepest[0]!.depth}`
    return [
      {
        name,
        against: 'the modelled rate',
        value: spreadOf(deepest.map(({ ofModelled }) => ofModelled)),
        unit: '×',
        goal: { atLeast: 0.98 },
        ...PLAIN,
      },
      {
        name: `${name}, CPU a window beside the device's`,
        value: spreadOf(deepest.map(({ engineCpuUs }) => engineCpuUs)),
        unit: 'µs',
        ...PLAIN,
      },
    ]
  })
}

function latencyRows(rounds: readonly AddedLatencyRow[][]): Row[] {
  return WORKERS.map((workers): Row => {
    const rows = rounds.map(rows => rows.find(row => row.workers === workers)!)
    return {
      name: `modelled, workers ${workers}, latency p50 beyond the device's`,
      value: spreadOf(rows.map(({ addedP50Us }) => addedP50Us)),
      unit: 'µs',
      goal: { atMost: 80 },
      ...PLAIN,
    }
  })
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
