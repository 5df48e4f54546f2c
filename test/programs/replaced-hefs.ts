/**
 * Replaces the HEF again and again while windows go through two workers. Each answer tells which HEF gave it.
 *
 *   replaced-hefs.js LIBRARY REPLACEMENTS round_robin|none
 *
 * Prints one line of JSON.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { monotonicMs } from '../../src/clock.ts'
import { Engine } from '../../src/engine/engine.ts'
import type { Observer } from '../../src/engine/observer.ts'
import { ReplaceError } from '../../src/engine/replace-error.ts'
import { startThreads } from '../../src/engine/threads.ts'
import { echoPlan, MOTIFS, schedulerOf } from './echo.ts'

const WORKERS = 2
const TIMEOUT_MS = 30_000

const [library, replacementsText, scheduler] = process.argv.slice(2)
const how = { library: library!, scheduler: schedulerOf(scheduler), streamCount: WORKERS }
const modelOf = (generation: number) => ({
  primary: echoPlan(how, generation),
  fallback: null,
  normalisation: null,
  selfCheck: null,
})

let answered = 0
let wrong = 0
let losses = 0
let devices = 0
const observer: Observer = {
  inferenceEnded: () => {},
  cancelled: () => {},
  refused: () => {},
  workerLost: () => losses++,
  workerServing: () => {},
  poolFailed: () => losses++,
  fallbackStarted: () => {},
  fallbackEnded: () => {},
  deviceChanged: change => {
    if (change === 'found') devices++
  },
}
const engine = new Engine({
  threads: startThreads(new URL('../../workers/serve.js', import.meta.url), WORKERS, 'hailo'),
  ringSlots: 64,
  observer,
  task: { motifCount: MOTIFS, ...modelOf(0) },
})

let replacing = true
/** One window of zeros in each stream at a time. */
async function keepAsking(): Promise<void> {
  while (replacing) {
    const asked = engine.streams.map(stream => {
      stream.ring.nextSlot!.input.fill(0)
      const arrivedMs = monotonicMs()
      return new Promise<void>(resolve => {
        engine.submit(
          stream,
          { arrivedMs, deadlineMs: arrivedMs + TIMEOUT_MS },
          {
            settle(outcome, { output, generation }) {
              if (outcome === 'ok' && output.every((value, at) => at >= 64 || value === generation))
                answered++
              else wrong++
              resolve()
            },
          },
        )
      })
    })
    await Promise.all(asked)
    await nextTurn()
  }
}

await engine.start()
engine.open()
const asking = keepAsking()
const refused = new Set<string>()
for (let n = 1; n <= Number(replacementsText); n++) {
  await engine.replaceModel(modelOf(engine.generation + 1)).catch((error: unknown) => {
    if (!(error instanceof ReplaceError)) throw error
    refused.add(`${error.cause}: ${error.detail}`)
  })
}
const before = answered
while (answered < before + 10 && wrong === 0) await nextTurn()
replacing = false
await asking
await engine.drain()
await engine.close()
const { generation } = engine
process.stdout.write(`${JSON.stringify({ generation, refused: [...refused], wrong, losses, devices })}\n`)
process.exit(0)
