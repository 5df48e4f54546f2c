import type { BareLoop } from '../contenders/bare-loop.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import type { EngineAlone } from './programs/engine-alone.ts'
import { runProgram } from './programs.ts'
import { patient } from './servers.ts'
import type { Suite } from './suite.ts'
import { TRAFFIC } from './traffic.ts'
import { compare, type Entry, figureOf, underLoad } from './under-load.ts'

/** Of each batch size in each round. */
const SHARE_OF_DURATION = 1 / 6
/** Two batches of the largest size. */
const RING_SLOTS = '128'

/** How much of what ONNX Runtime can do alone is left behind a front door, and what a second worker brings. */
export const model: Suite = async context => {
  const { connections, warmUpMs, durationMs } = context
  const server = patient('onnx')
  const binary: Entry = { server, traffic: TRAFFIC.binary, connections }
  const json: Entry = { server, traffic: TRAFFIC.json, connections }
  const alone = (workers: number) => () =>
    runProgram<EngineAlone>(
      'suites/programs/engine-alone',
      { warmUpMs, durationMs },
      { INFER_MODE: 'onnx', WORKERS: String(workers), RING_SLOTS: RING_SLOTS },
    )
  const loop = () => runProgram<BareLoop[]>('contenders/bare-loop', { ms: durationMs * SHARE_OF_DURATION })
  const trials = await interleave(context, {
    'bare loop': loop,
    'two bare loops': () => Promise.all([loop(), loop()]),
    'HTTP binary': underLoad(context, binary),
    'HTTP JSON': underLoad(context, json),
    'one worker': alone(1),
    'two workers': alone(2),
  })
  const loops = trials['bare loop']
  const best = loops[0]!
    .map(({ batch }, index) => ({ batch, rates: loops.map(rows => rows[index]!.windowsPerSecond) }))
    .reduce((most, loop) => (spreadOf(loop.rates).median > spreadOf(most.rates).median ? loop : most))
  const bestOf = (rows: readonly BareLoop[]) =>
    rows.find(({ batch }) => batch === best.batch)!.windowsPerSecond
  const rates = (workers: 'one worker' | 'two workers') =>
    trials[workers].map(({ windowsPerSecond }) => windowsPerSecond)
  const limit = { against: `bare loop, batch ${best.batch}`, theirs: best.rates }
  return {
    title: 'The model',
    about:
      'The shipped model in ONNX Runtime: one worker behind HTTP, against a bare loop on one thread at its best batch ' +
      'size; and the engine without a front door, with two workers against one.',
    rows: [
      compare({ name: 'onnx, HTTP binary', ours: trials['HTTP binary'], ...limit, goal: { atLeast: 0.95 } }),
      compare({ name: 'onnx, HTTP JSON', ours: trials['HTTP JSON'], ...limit, goal: { atLeast: 0.9 } }),
      {
        name: 'onnx, two workers, no front door',
        against: 'one worker',
        value: ratioOf(rates('two workers'), rates('one worker')),
        unit: '×',
        goal: { atLeast: 1.9 },
        wrong: [...trials['one worker'], ...trials['two workers']].reduce((sum, run) => sum + run.wrong, 0),
        doubts: [],
      },
      {
        name: 'two bare loops at once: what the machine has',
        against: 'one bare loop',
        value: ratioOf(
          trials['two bare loops'].map(([one, other]) => bestOf(one) + bestOf(other)),
          best.rates,
        ),
        unit: '×',
        wrong: 0,
        doubts: [],
      },
    ],
    figures: [
      {
        name: 'bare loop',
        load: `batch ${best.batch}`,
        settings: '',
        windowsPerSecond: spreadOf(best.rates),
      },
      figureOf(binary, trials['HTTP binary']),
      figureOf(json, trials['HTTP JSON']),
      ...(['one worker', 'two workers'] as const).map(name => ({
        name: `engine onnx, ${name}`,
        load: 'no front door',
        settings: `RING_SLOTS=${RING_SLOTS}`,
        windowsPerSecond: spreadOf(rates(name)),
      })),
    ],
  }
}
