import type { MicroRow } from '../micro/micro.ts'
import type { Row } from '../report/section.ts'
import { spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import { runProgram } from './programs.ts'
import type { Suite } from './suite.ts'

const SHARE_OF_DURATION = 1 / 4

/** What the parts of a window's way cost. */
export const micro: Suite = async context => {
  const ms = Math.round(context.durationMs * SHARE_OF_DURATION)
  const { parts } = await interleave(context, {
    parts: () => runProgram<MicroRow[]>('suites/programs/micro', { ms }),
  })
  return {
    title: 'The parts',
    about:
      'What the parts of a window’s way cost, each alone on one thread: of each run the median of its samples.',
    rows: parts[0]!.map(
      ({ name }, index): Row => ({
        name,
        value: spreadOf(parts.map(rows => rows[index]!.usPerOp)),
        unit: 'µs',
        wrong: 0,
        doubts: [],
      }),
    ),
    figures: [],
  }
}
