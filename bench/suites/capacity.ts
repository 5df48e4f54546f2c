import type { Row } from '../report/section.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import { type Capacity, findCapacity } from './search.ts'
import { DEADLINE_MS, engine } from './servers.ts'
import type { Mode, Suite } from './suite.ts'
import { mixed } from './traffic.ts'

/** The highest rate that the engine keeps up with. */
export const capacity: Suite = async context => {
  const modes: readonly Mode[] = context.mode === null ? ['onnx', 'noop'] : [context.mode]
  const traffic = mixed(context.mix)
  const { connections } = context
  const searches = modes.map(mode => {
    const entry = { server: engine(mode), traffic, connections }
    return [mode, () => findCapacity(context, entry, DEADLINE_MS)] as const
  })
  const found = await interleave(context, Object.fromEntries(searches))
  return {
    title: 'Capacity',
    about:
      `The highest rate at which 99 % of all requests that were due had their answer within ${DEADLINE_MS} ms, the best ` +
      'of three tries. Requests are due at a fixed rate whatever the server does, and counted from then.',
    rows: modes.flatMap(mode => rowsOf(mode, found[mode]!)),
    figures: modes.map(mode => ({
      name: `engine ${mode}`,
      load: `${traffic.name}, ${connections} connections, open loop`,
      settings: engine(mode).settings,
      windowsPerSecond: spreadOf(found[mode]!.map(({ rate, windowsPerRequest }) => rate * windowsPerRequest)),
    })),
  }
}

function rowsOf(mode: Mode, found: readonly Capacity[]): Row[] {
  const rates = found.map(({ rate }) => rate)
  const closed = found.map(({ closedLoop }) => closedLoop)
  const facts = { wrong: found.reduce((sum, { wrong }) => sum + wrong, 0), doubts: [] }
  return [
    { name: `${mode}, capacity in requests`, value: spreadOf(rates), unit: '/s', ...facts },
    { name: `${mode}, capacity`, against: 'closed loop', value: ratioOf(rates, closed), unit: '×', ...facts },
  ]
}
