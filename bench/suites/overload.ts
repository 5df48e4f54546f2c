import type { Figure, Row } from '../report/section.ts'
import { ratioOf, spreadOf } from '../report/spread.ts'
import { interleave } from './interleave.ts'
import { findCapacity } from './search.ts'
import { DEADLINE_MS, engine } from './servers.ts'
import type { Context, Mode, Suite } from './suite.ts'
import { mixed } from './traffic.ts'
import { type Entry, factsOf, figureOf, type Trial, underLoad } from './under-load.ts'

const FACTORS = [2, 4, 10]
/** As many requests as fit through: each connection sends its next one as soon as the last one is refused. */
const FLOOD = 'flood'
/** Of what was due. Below it the overload is less than its row says. */
const ENOUGH_SENT = 0.95

/** Whether overload costs those who are admitted, and how soon the others know. */
export const overload: Suite = async context => {
  const modes: readonly Mode[] = context.mode === null ? ['onnx', 'noop'] : [context.mode]
  const parts = []
  for (const mode of modes) parts.push(await overloadOf(mode, context))
  return {
    title: 'Overload',
    about:
      'More windows are due than the engine can infer, whatever it does. Goodput is what it answers in time, against ' +
      'what it so answers at its capacity, which one search has found. Who finds no free connection gives up, so that no latency is that of a queue of ' +
      'the clients; a flood is as many requests as clients can send that never wait.',
    rows: parts.flatMap(({ rows }) => rows),
    figures: parts.flatMap(({ figures }) => figures),
  }
}

async function overloadOf(mode: Mode, context: Context): Promise<{ rows: Row[]; figures: Figure[] }> {
  const { connections, mix } = context
  const entry = { server: engine(mode), traffic: mixed(mix), connections }
  const { rate } = await findCapacity(context, entry, DEADLINE_MS)
  const at = (ratePerSecond: number): Entry => ({
    ...entry,
    loop: { kind: 'open', ratePerSecond, givesUp: true },
  })
  const entries: Record<string, Entry> = {
    ...Object.fromEntries([1, ...FACTORS].map(factor => [`${factor}×`, at(factor * rate)])),
    [FLOOD]: entry,
  }
  const names = Object.keys(entries)
  const trials = await interleave(
    context,
    Object.fromEntries(names.map(name => [`${mode} ${name}`, underLoad(context, entries[name]!)])),
  )
  const of = (name: string) => trials[`${mode} ${name}`]!
  return {
    rows: names.slice(1).flatMap(name => overloadRows(`${mode}, ${name}`, of(name), of(names[0]!))),
    figures: names.map(name => {
      const figure = figureOf(entries[name]!, of(name))
      return { ...figure, load: `${figure.load}, ${name}${name === FLOOD ? '' : ' capacity'}` }
    }),
  }
}

/** What one load has come to, beside what the engine does at its capacity. */
export function overloadRows(name: string, trials: readonly Trial[], atCapacity: readonly Trial[]): Row[] {
  const { doubts, ...facts } = factsOf(trials, atCapacity)
  const common = { ...facts, doubts: [...doubts, ...notSent(trials)] }
  const goodput = (of: readonly Trial[]) =>
    of.map(({ load: { answered, seconds } }) => answered.countUpTo(DEADLINE_MS) / seconds)
  const refusalsMs = trials.flatMap(({ refused, load }) => (refused > 0 ? load.refused.percentileMs(50) : []))
  const rows: Row[] = [
    {
      name: `${name}, goodput`,
      against: 'at capacity',
      value: ratioOf(goodput(trials), goodput(atCapacity)),
      unit: '×',
      goal: { atLeast: 0.97 },
      ...common,
    },
    {
      name: `${name}, admitted p99`,
      // What was admitted and then given up has waited too.
      value: spreadOf(trials.map(({ load: { answered, late } }) => answered.merge(late).percentileMs(99))),
      unit: 'ms',
      goal: { atMost: DEADLINE_MS },
      ...common,
    },
  ]
  if (refusalsMs.length > 0) {
    const value = spreadOf(refusalsMs)
    rows.push({ name: `${name}, refusals p50`, value, unit: 'ms', goal: { atMost: 0.1 }, ...common })
  }
  return rows
}

/** What was due and found no free connection. */
function notSent(trials: readonly Trial[]): string[] {
  const shares = trials.map(({ load: { due } }) => {
    const dueCount = Object.values(due).reduce((sum, count) => sum + count, 0)
    return 1 - due.unsent / dueCount
  })
  const sent = spreadOf(shares).median
  if (sent >= ENOUGH_SENT) return []
  const rates = trials.map(
    ({ load: { ended, seconds } }) => (ended.right + ended.refused + ended.late) / seconds,
  )
  const reached = Math.round(spreadOf(rates).median)
  return [
    `${Math.round(100 * sent)} % of what was due found a free connection, ${reached} requests/s were answered or refused`,
  ]
}
