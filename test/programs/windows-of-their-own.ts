/**
 * Sends windows through the engine to workers that share one device, and holds every answer against
 * its window. The network is a small one that gives back what was sent: each window carries its own
 * number, so that any mix-up shows.
 *
 *   windows-of-their-own.js LIBRARY WORKERS WINDOWS round_robin|none
 *
 * Prints one line of JSON.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { monotonicMs } from '../../src/clock.ts'
import { CHANNELS, LATENT_DIMS, WINDOW_VALUES } from '../../src/core/window.ts'
import { Engine } from '../../src/engine/engine.ts'
import type { Observer } from '../../src/engine/observer.ts'
import type { Stream, Waiter } from '../../src/engine/stream.ts'
import { startThreads } from '../../src/engine/threads.ts'
import { echoPlan, MOTIFS, SCALE, schedulerOf, ZERO_POINT } from './echo.ts'

const [library, workersText, windowsText, scheduler] = process.argv.slice(2)
const WORKERS = Number(workersText)
const WINDOWS = Number(windowsText)
const TIMEOUT_MS = 30_000

/** The bytes that window `number` carries, one per channel. */
function bytesOf(number: number): Uint8Array {
  const bytes = new Uint8Array(CHANNELS)
  for (let channel = 0; channel < CHANNELS; channel++) {
    bytes[channel] =
      channel < 4 ? number >>> (8 * channel) : Math.imul(number + 1, 0x9e3779b1) >>> (channel + 10)
  }
  return bytes
}

function fill(input: Float32Array, number: number): void {
  const bytes = bytesOf(number)
  for (let value = 0; value < WINDOW_VALUES; value++) {
    input[value] = (bytes[value % CHANNELS]! - ZERO_POINT) * SCALE
  }
}

function isAnswerTo(number: number, output: Float32Array): boolean {
  const bytes = bytesOf(number)
  for (let dim = 0; dim < LATENT_DIMS; dim++) {
    if (output[dim]! + ZERO_POINT !== bytes[dim % CHANNELS]) return false
  }
  return true
}

let answered = 0
let wrong = 0
let failed = 0
let losses = 0

const observer: Observer = {
  inferenceEnded: () => {},
  cancelled: () => {},
  refused: () => {},
  workerLost: () => losses++,
  workerServing: () => {},
  poolFailed: () => losses++,
  fallbackStarted: () => {},
  fallbackEnded: () => {},
  deviceChanged: () => {},
}
const engine = new Engine({
  threads: startThreads(new URL('../../workers/serve.js', import.meta.url), WORKERS, 'hailo'),
  ringSlots: 256,
  observer,
  task: {
    motifCount: MOTIFS,
    fallback: null,
    normalisation: null,
    selfCheck: null,
    primary: echoPlan({ library: library!, scheduler: schedulerOf(scheduler), streamCount: WORKERS }),
  },
})

function waiterFor(number: number): Waiter {
  return {
    settle(outcome, slot) {
      if (outcome !== 'ok') failed++
      else if (isAnswerTo(number, slot.output)) answered++
      else wrong++
    },
  }
}

/** Fills the stream's ring. @returns the number of the next window */
function fillRing(stream: Stream, next: number): number {
  let number = next
  for (let slot = stream.ring.nextSlot; slot !== null && number < WINDOWS; slot = stream.ring.nextSlot) {
    fill(slot.input, number)
    const arrivedMs = monotonicMs()
    engine.submit(stream, { arrivedMs, deadlineMs: arrivedMs + TIMEOUT_MS }, waiterFor(number))
    number++
  }
  return number
}

await engine.start()
engine.open()
const startedMs = monotonicMs()
let next = 0
while (next < WINDOWS) {
  for (const stream of engine.streams) next = fillRing(stream, next)
  await nextTurn()
}
await engine.drain()
const seconds = (monotonicMs() - startedMs) / 1000
await engine.close()
process.stdout.write(
  `${JSON.stringify({ answered, wrong, failed, losses, seconds: Number(seconds.toFixed(1)) })}\n`,
)
process.exit(0)
