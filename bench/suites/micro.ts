import type { MicroRow } from '../micro/row.ts'
import type { Row } from '../report/section.ts'
import { runProgram } from './program.ts'
import type { Suite } from './suite.ts'

const SHARE_OF_DURATION = 1 / 4

/** What the parts of a window's way cost. */
export const micro: Suite = async ({ durationMs, progress }) => {
  progress('every part by itself')
  const parts = await runProgram<MicroRow[]>('programs/micro', { ms: durationMs * SHARE_OF_DURATION })
  return {
    title: 'The parts',
    about:
      'What the parts of a window’s way cost, each alone on one thread: median, and the 10th and 90th percentile of ' +
      'the samples instead of the slowest and the fastest run.',
    rows: parts.map(
      ({ name, usPerOp, spread: [min, max], samples }): Row => ({
        name,
        value: { median: usPerOp, min, max, runs: samples },
        unit: 'µs',
        wrong: 0,
        doubts: [],
      }),
    ),
    figures: [],
  }
}
