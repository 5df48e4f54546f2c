/**
 * The engine without a front door: windows are kept in flight by its own thread, for a fixed time. Prints JSON. Its
 * environment is its configuration.
 */
import { env } from 'node:process'
import { monotonicMs } from '../../../src/clock.ts'
import { loadConfig } from '../../../src/config.ts'
import { Engine } from '../../../src/engine/engine.ts'
import type { Observer } from '../../../src/engine/observer.ts'
import { Stream } from '../../../src/engine/stream.ts'
import { startThreads } from '../../../src/engine/threads.ts'
import { loadModel } from '../../../src/model.ts'
import { endWithParent, readOptions } from '../../contenders/protocol.ts'
import { closedLoop } from '../../micro/hops/closed-loop.ts'
import { WINDOWS } from '../windows.ts'

export interface EngineAloneOptions {
  readonly warmUpMs: number
  readonly durationMs: number
}

export interface EngineAlone {
  readonly windowsPerSecond: number
  /** Of all threads. */
  readonly cpuUsPerWindow: number
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
  observer: silent(),
})
await engine.start()
engine.open()

let answered = 0
const depth = (config.workers * config.ringSlots) / 2 // what is settled is sent anew before its slot is released
const send = (back: () => void) => {
  const arrivedMs = monotonicMs()
  const deadlineMs = arrivedMs + DEADLINE_MS
  const stream = engine.admit(deadlineMs)
  if (!(stream instanceof Stream)) throw new Error(stream.detail)
  stream.ring.nextSlot!.input.set(WINDOWS[answered % WINDOWS.length]!)
  engine.submit(
    stream,
    { arrivedMs, deadlineMs },
    {
      settle(outcome) {
        if (outcome !== 'ok') throw new Error(`the engine answered ${outcome}`)
        answered++
        back()
      },
    },
  )
}
await closedLoop(depth, warmUpMs, send)
answered = 0
const cpuBefore = process.cpuUsage()
const startMs = performance.now()
await closedLoop(depth, durationMs, send)
const seconds = (performance.now() - startMs) / 1000
const { user, system } = process.cpuUsage(cpuBefore)
const said: EngineAlone = {
  windowsPerSecond: answered / seconds,
  cpuUsPerWindow: (user + system) / answered,
}
process.stdout.write(`${JSON.stringify(said)}\n`)
await engine.close()
process.exit()

function silent(): Observer {
  const nothing = () => {}
  return {
    inferenceEnded: nothing,
    cancelled: nothing,
    refused: nothing,
    workerServing: nothing,
    fallbackStarted: nothing,
    fallbackEnded: nothing,
    deviceChanged: nothing,
    workerLost(_worker, { error, fault }) {
      throw error ?? new Error(fault?.detail)
    },
    poolFailed(error) {
      throw error
    },
  }
}
