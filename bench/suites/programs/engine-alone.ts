/**
 * The engine without a front door: windows are kept in flight by its own thread, for a fixed time. Prints JSON. Its
 * environment is its configuration.
 */
import { env } from 'node:process'
import { monotonicMs } from '../../../src/clock.ts'
import { loadConfig } from '../../../src/config.ts'
import { Engine } from '../../../src/engine/engine.ts'
import { Stream } from '../../../src/engine/stream.ts'
import { startThreads } from '../../../src/engine/threads.ts'
import { loadModel } from '../../../src/model.ts'
import { endWithParent, readOptions } from '../../contenders/protocol.ts'
import { closedLoop } from '../../micro/hops/closed-loop.ts'
import { UNDISTURBED } from '../../micro/undisturbed.ts'
import { SameResults } from '../../same-results.ts'
import { WINDOWS } from '../windows.ts'

export interface EngineAloneOptions {
  readonly warmUpMs: number
  readonly durationMs: number
}

export interface EngineAlone {
  readonly windowsPerSecond: number
  /** Results that were not those of the same window before. */
  readonly wrong: number
}

const DEADLINE_MS = 9000

const { warmUpMs, durationMs } = readOptions<EngineAloneOptions>()
endWithParent()
const config = loadConfig(env)
const { plan, normalisation } = await loadModel(config)
const engine = new Engine({
  threads: startThreads(new URL('../../../workers/serve.js', import.meta.url), config.workers, config.mode),
  ringSlots: config.ringSlots,
  task: { motifCount: config.motifCount, primary: plan, fallback: null, normalisation, selfCheck: null },
  observer: UNDISTURBED,
})
await engine.start()
engine.open()

const results = new SameResults()
let sent = 0
let answered = 0
const depth = (config.workers * config.ringSlots) / 2 // what is settled is sent anew before its slot is released
const send = (back: () => void) => {
  const arrivedMs = monotonicMs()
  const times = { arrivedMs, deadlineMs: arrivedMs + DEADLINE_MS }
  const stream = engine.admit(times)
  if (!(stream instanceof Stream)) throw new Error(stream.detail)
  const index = sent++ % WINDOWS.length
  stream.ring.nextSlot!.input.set(WINDOWS[index]!)
  engine.submit(stream, times, {
    settle(outcome, { output }) {
      if (outcome !== 'ok') throw new Error(`the engine answered ${outcome}`)
      results.add(index, output)
      answered++
      back()
    },
  })
}
await closedLoop(depth, warmUpMs, send)
answered = 0
const startMs = performance.now()
await closedLoop(depth, durationMs, send)
const seconds = (performance.now() - startMs) / 1000
const said: EngineAlone = { windowsPerSecond: answered / seconds, wrong: results.wrong }
process.stdout.write(`${JSON.stringify(said)}\n`)
await engine.close()
process.exit()
