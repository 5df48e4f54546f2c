/**
 * The engine with nothing before it, on a software device. Prints a line of JSON, see EngineRun.
 *
 *   engine-process.js '{"library": …, "hef": …, "workers": 1, "atOnce": 16, "everyMs": null, "milliseconds": 2000}'
 *
 * everyMs null: `atOnce` windows are always in flight. Otherwise one window is submitted every so many milliseconds.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { monotonicMs } from '../../src/clock.ts'
import { loadConfig } from '../../src/config.ts'
import { goldenWindow } from '../../src/core/golden.ts'
import type { Outcome } from '../../src/core/outcome.ts'
import type { Slot } from '../../src/core/slot.ts'
import { Engine } from '../../src/engine/engine.ts'
import { startThreads } from '../../src/engine/threads.ts'
import { goldenParity } from '../../src/engine/warm-up.ts'
import { loadModel } from '../../src/model.ts'
import { percentile } from '../latencies.ts'
import { UNDISTURBED } from '../micro/undisturbed.ts'
import { SameResults } from '../same-results.ts'

export interface EngineOrder {
  readonly library: string
  readonly hef: string
  readonly workers: number
  readonly atOnce: number
  readonly everyMs: number | null
  readonly milliseconds: number
}

/** What the engine did in the measured time. */
export interface EngineRun {
  readonly windowsPerSecond: number
  readonly refused: number
  /** Admitted windows without a result, or with another one than before. */
  readonly wrong: number
  /** From submit() to the result, in milliseconds. */
  readonly p50Ms: number
  readonly p99Ms: number
  /** CPU time of a window, in microseconds: on the main thread, in the workers, in the software device. */
  readonly cpuUs: { readonly main: number; readonly workers: number; readonly device: number }
}

/** Threads of the software HailoRT, by the names that it gives them; the second is HailoRT's own. */
const DEVICE_THREADS = ['SOFT_NN_CORE', 'CHANNEL_INTR', 'SOFT_FIRMWARE']
const WARM_UP_MS = 300
const DEADLINE_MS = 1000

const order: EngineOrder = JSON.parse(process.argv[2]!)
const config = loadConfig({
  INFER_MODE: 'hailo',
  HEF_PATH: order.hef,
  HAILORT_LIB: order.library,
  WORKERS: String(order.workers),
})
const model = await loadModel(config)
const golden = model.golden!
const engine = new Engine({
  threads: startThreads(new URL('../../workers/serve.js', import.meta.url), config.workers, config.mode),
  ringSlots: config.ringSlots,
  task: {
    motifCount: config.motifCount,
    primary: model.plan,
    fallback: null,
    normalisation: model.normalisation,
    selfCheck: null,
  },
  observer: UNDISTURBED,
})
await engine.start()
await goldenParity(engine, () => golden)
engine.open()

let measuring = false
let refused = 0
let failed = 0
let sent = 0
const results = new SameResults()
const latenciesMs: number[] = []

/** @param ended called when the window has its outcome; never for one that is refused */
function send(ended: () => void): boolean {
  const submittedMs = monotonicMs()
  const times = { arrivedMs: submittedMs, deadlineMs: submittedMs + DEADLINE_MS }
  const admitted = engine.admit(times)
  if ('code' in admitted) {
    if (measuring) refused++
    return false
  }
  const index = sent++ % golden.count
  admitted.ring.nextSlot!.input.set(goldenWindow(golden, index))
  const settle = (outcome: Outcome, slot: Slot) => {
    if (outcome === 'ok') results.add(index, slot.output)
    else failed++
    if (measuring && outcome === 'ok') latenciesMs.push(monotonicMs() - submittedMs)
    ended()
  }
  engine.submit(admitted, times, { settle })
  return true
}

let running = true
function keepOneInFlight(): void {
  // In a turn of its own when refused: the windows in flight must be able to end.
  if (running && !send(keepOneInFlight)) setImmediate(keepOneInFlight)
}
if (order.everyMs === null) for (let n = 0; n < order.atOnce; n++) keepOneInFlight()
else setInterval(() => running && send(() => {}), order.everyMs).unref()

await sleep(WARM_UP_MS)
measuring = true
const startMs = monotonicMs()
const before = cpuMs()
await sleep(order.milliseconds)
measuring = false
const seconds = (monotonicMs() - startMs) / 1000
const after = cpuMs()
running = false
await engine.drain()
await engine.close()

latenciesMs.sort((a, b) => a - b)
const perWindowUs = (ms: number) => (1000 * ms) / latenciesMs.length
const run: EngineRun = {
  windowsPerSecond: latenciesMs.length / seconds,
  refused,
  wrong: failed + results.wrong,
  p50Ms: percentile(latenciesMs, 50)!,
  p99Ms: percentile(latenciesMs, 99)!,
  cpuUs: {
    main: perWindowUs(after.main - before.main),
    workers: perWindowUs(after.workers - before.workers),
    device: perWindowUs(after.device - before.device),
  },
}
// As the service ends: threads that wait for nothing more are not waited for.
process.stdout.write(`${JSON.stringify(run)}\n`, () => process.exit(0))

/** CPU time that the threads of this process have had, as the kernel counts it. */
function cpuMs(): { main: number; workers: number; device: number } {
  const total = { main: 0, workers: 0, device: 0 }
  for (const thread of readdirSync('/proc/self/task')) {
    const name = readFileSync(`/proc/self/task/${thread}/comm`, 'utf8').trim()
    const [runNs] = readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ')
    const part =
      Number(thread) === process.pid ? 'main' : DEVICE_THREADS.includes(name) ? 'device' : 'workers'
    total[part] += Number(runNs) / 1e6
  }
  return total
}
