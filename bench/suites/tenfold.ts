import { join } from 'node:path'
import { execPath } from 'node:process'
import { WINDOW_VALUES } from '../../src/core/window.ts'
import { PROJECT_FOLDER } from '../../src/project.ts'
import { FAULTS } from '../../test/faults/faults.ts'
import { launch } from '../contenders/launch.ts'
import type { LoadResult } from '../load/load.ts'
import { inferRequest } from '../load/requests.ts'
import { overloadRows } from './overload.ts'
import { DEADLINE_MS, type Server } from './servers.ts'
import type { Context, Suite } from './suite.ts'
import { requests } from './traffic.ts'
import { type Entry, figureOf, load, type Trial } from './under-load.ts'

/** Every window keeps the only worker busy for so long, and the processor idle: no load of this size makes it slower. */
const SERVICE_MS = 5
const FACTOR = 10
/** As many as the worker always has something to do with, and none is late. */
const PATIENT_CLIENTS = 4
/** Of the time of the overload, as its rate cannot be known before. */
const CAPACITY_SHARE = 1 / 4

const SETTINGS = { INFER_MODE: 'stub', WORKERS: '1', DEADLINE_MS: String(DEADLINE_MS) }
const SERVER: Server = {
  name: `stub that takes ${SERVICE_MS} ms`,
  settings: Object.entries(SETTINGS)
    .map(pair => pair.join('='))
    .join(' '),
  start: () =>
    launch([execPath, join(PROJECT_FOLDER, 'dist', 'test', 'faults', 'main.js')], {
      LOG_LEVEL: 'error',
      SIDECAR_PORT: '0',
      ...SETTINGS,
    }),
}
const TRAFFIC = requests('HTTP binary', [inferRequest([windowThatTakes(SERVICE_MS)], { encoding: 'binary' })])

/** Ten times the load that one worker of a known service time bears, by what it bore just before. */
export const tenfold: Suite = async context => {
  const trials: { atCapacity: Trial; overloaded: Trial }[] = []
  for (let run = 1; run <= context.runs; run++) {
    context.progress(`run ${run} of ${context.runs}`)
    trials.push(await trialOf(context))
  }
  const overloaded = trials.map(trial => trial.overloaded)
  const atCapacity = trials.map(trial => trial.atCapacity)
  return {
    title: 'Ten times the load',
    about:
      `Each window takes the only worker ${SERVICE_MS} ms. ${FACTOR} times as many are due as it has just answered ` +
      `${PATIENT_CLIENTS} clients that wait. ${overloaded.map(({ load }) => inWords(load)).join(' ')}`,
    rows: overloadRows(`${FACTOR}×`, overloaded, atCapacity),
    figures: [
      figureOf(entryOf({ connections: PATIENT_CLIENTS }), atCapacity),
      figureOf(entryOf(context), overloaded),
    ],
  }
}

async function trialOf(context: Context) {
  const { durationMs } = context
  const running = await SERVER.start()
  try {
    const atCapacity = await load(
      { ...context, durationMs: durationMs * CAPACITY_SHARE },
      entryOf({ connections: PATIENT_CLIENTS }),
      running,
    )
    const ratePerSecond = FACTOR * atCapacity.load.requestsPerSecond
    const overloaded = await load(
      context,
      { ...entryOf(context), loop: { kind: 'open', ratePerSecond, givesUp: true } },
      running,
    )
    return { atCapacity, overloaded }
  } finally {
    await running.stop()
  }
}

function entryOf({ connections }: Pick<Context, 'connections'>): Entry {
  return { server: SERVER, traffic: TRAFFIC, connections }
}

/** What became of everything that was due. */
function inWords({ due, seconds }: LoadResult): string {
  const { right, wrong, refused, late, failed, lost, unanswered, unsent } = due
  const sent = right + wrong + refused + late + failed + lost + unanswered
  const share = ((100 * sent) / (sent + unsent)).toFixed(2)
  return (
    `In ${Math.round(seconds)} s ${sent + unsent} were due, of which ${share} % were sent: ${right} were answered, ` +
    `${refused} refused, ${late} admitted and given up at their deadline, ${lost + unanswered} lost, ` +
    `${wrong + failed} answered wrongly.`
  )
}

function windowThatTakes(ms: number): Float32Array {
  const window = new Float32Array(WINDOW_VALUES)
  window[0] = FAULTS.block + ms
  return window
}
