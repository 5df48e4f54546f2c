import { execPath } from 'node:process'
import { fileURLToPath } from 'node:url'
import { launch } from '../contenders/launch.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import { patient, type Server } from './servers.ts'
import type { Suite } from './suite.ts'
import { TRAFFIC, type Traffic } from './traffic.ts'
import { compare, type Entry, figureOf, load, type Trial } from './under-load.ts'

const MODEL_ONLY = fileURLToPath(new URL('./programs/model-only.js', import.meta.url))
const BURST_MS = 200
const STEADY_AFTER_MS = 2000

interface Start {
  readonly readyMs: number
  readonly burst: Trial
  readonly steady: Trial
}

/** How soon it is ready, and whether it is as fast then as later. */
export const start: Suite = async context => {
  const server = patient('onnx')
  const { connections } = context
  const traffic = await askedAnother(server, TRAFFIC.json)
  const entry: Entry = { server, traffic, connections }
  const measureStart = async (): Promise<Start> => {
    const beganMs = performance.now()
    const running = await server.start()
    try {
      const readyMs = performance.now() - beganMs
      const burst = await load({ warmUpMs: 0, durationMs: BURST_MS }, entry, running)
      const steady = await load({ warmUpMs: STEADY_AFTER_MS, durationMs: BURST_MS }, entry, running)
      return { readyMs, burst, steady }
    } finally {
      await running.stop()
    }
  }
  const trials = await interleave(context, { 'the model only': loadModelOnly, engine: measureStart })

  const readyMs = trials.engine.map(({ readyMs }) => readyMs)
  const modelMs = trials['the model only']
  const bursts = trials.engine.map(({ burst }) => burst)
  const steady = trials.engine.map(({ steady }) => steady)
  const plain = { wrong: 0, doubts: [] }
  const against = 'an empty Node.js that loads the model'
  return {
    title: 'Start',
    about:
      'From the start of the process until it says that it is ready, the golden windows answered; and the first ' +
      `${BURST_MS} ms under full load, against as many later on.`,
    rows: [
      {
        name: 'onnx, start to ready',
        against,
        value: ratioOf(readyMs, modelMs),
        unit: '×',
        goal: { atMost: 1.5 },
        ...plain,
      },
      { name: 'onnx, start to ready', value: spreadOf(readyMs), unit: 'ms', ...plain },
      { name: against, value: spreadOf(modelMs), unit: 'ms', ...plain },
      compare({
        name: 'onnx, JSON, p99 of the first burst',
        against: 'steady',
        ours: bursts,
        theirs: steady,
        by: ({ p99Ms }) => p99Ms,
        goal: { atMost: 3 },
      }),
    ],
    figures: [
      { ...figureOf(entry, bursts), name: 'engine onnx, first burst' },
      { ...figureOf(entry, steady), name: 'engine onnx, steady' },
    ],
  }
}

/** The same with right answers from a process that will not be measured: to be asked warms up. */
async function askedAnother(server: Server, { name, prepare }: Traffic): Promise<Traffic> {
  const { port, stop } = await server.start()
  try {
    const prepared = await prepare({ port })
    return { name, prepare: async () => prepared }
  } finally {
    await stop()
  }
}

async function loadModelOnly(): Promise<number> {
  const beganMs = performance.now()
  const { stop } = await launch([execPath, MODEL_ONLY])
  const readyMs = performance.now() - beganMs
  await stop()
  return readyMs
}
