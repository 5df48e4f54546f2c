import { setImmediate as nextTurn } from 'node:timers/promises'
import { monotonicMs } from '../src/clock.ts'
import type { BackendKind } from '../src/core/backend.ts'
import type { WorkerCounters } from '../src/core/counters.ts'
import { type Normalisation, suspectSensors } from '../src/core/normalise.ts'
import type { Outcome } from '../src/core/outcome.ts'
import { distance, type Ring } from '../src/core/ring.ts'
import type { Backend } from './backends/backend.ts'

/** Bounds the sleep of an idle worker, and with it the age of its heartbeat. */
const IDLE_WAIT_MS = 100
/** With something going on beside the loop, the thread's events wait at most about so long. */
const LONGEST_TURN_MS = 50
const DEVICE_REPORT_INTERVAL_MS = 1000

export interface ServedStream {
  readonly ring: Ring
  readonly backend: Backend
  readonly kind: BackendKind
  readonly counters: WorkerCounters
  /** Of the model that the backend runs. */
  readonly generation?: number
  /** What windows of the training data look like. Null: windows are not looked at. */
  readonly normalisation: Normalisation | null
  /**
   * Ends the service once it says true, with nothing in flight. Without it, the loop keeps the
   * thread to itself; with it, timers and promises of the thread have their turns.
   */
  readonly until?: () => boolean
}

/**
 * `superseded`: the ring has been given to another worker. `handed_over`: this one has let go of it, as
 * it was told to. `condemned`: the front door has found wrong answers.
 */
export type ServiceEnd = 'stopped' | 'relieved' | 'handed_over' | 'stream_lost' | 'superseded' | 'condemned'

/**
 * Serves one ring with one stream until told to stop or until the stream fails. It takes whatever
 * has been published since it last looked, up to the backend's depth: batches come from load, never
 * from a timer. Windows without a result stay in the ring for the next call.
 */
export async function serve({
  ring,
  backend,
  kind,
  counters,
  generation,
  normalisation,
  until,
}: ServedStream): Promise<ServiceEnd> {
  // Not a slot: a call into a device that hangs may return, and write, when the slot is another's.
  const output = new Float32Array(ring.slot(0).output.length)
  const longestWaitMs = until ? LONGEST_TURN_MS : IDLE_WAIT_MS
  let submitted = ring.completed // not 0: a new stream resumes where the last one stopped
  let collected = submitted
  /** Read again after whatever may have taken long, not for each window: that costs as much as all the rest. */
  let nowMs = monotonicMs()
  let reportedMs = nowMs
  let turnedMs = nowMs
  /** What has passed since the last look at the clock counts as busy with windows in hand. */
  const look = () => {
    const lastMs = nowMs
    nowMs = monotonicMs()
    if (submitted !== collected) counters.countBusy(nowMs - lastMs)
  }
  while (true) {
    if (ring.superseded) return 'superseded'
    counters.beat(nowMs)
    if (nowMs - reportedMs >= DEVICE_REPORT_INTERVAL_MS) {
      backend.reportDevice?.()
      reportedMs = nowMs
    }
    if (until && nowMs - turnedMs >= LONGEST_TURN_MS) {
      await nextTurn()
      look()
      turnedMs = nowMs
    }

    // Read before the look for windows: what was published before the stop is found by that look.
    const stopping = ring.stopping
    const idle = submitted === collected
    if (idle && ring.handingOver) {
      ring.letGo()
      return 'handed_over'
    }
    if (idle && backend.failure !== null) return 'stream_lost'
    const condemned = ring.condemned === kind
    if (condemned && idle) return 'condemned'
    const relieved = until?.() ?? false
    if (relieved && idle) return 'relieved'
    const room = relieved || condemned ? 0 : backend.depth - distance(collected, submitted)
    const published = ring.waitForWindows(submitted, idle && !stopping ? longestWaitMs : 0)
    // Read after the look for windows: none that was published after the call of a successor is taken.
    const waiting = ring.handingOver ? 0 : Math.min(room, published)
    if (idle || waiting > 0) look()
    for (let looked = 0; looked < waiting; looked++) {
      const slot = ring.slot(submitted)
      if (slot.take(nowMs)) {
        if (normalisation) counters.countSuspect(suspectSensors(slot.input, normalisation))
        backend.submit(slot.input)
      } else counters.countPassedOver()
      submitted = (submitted + 1) | 0
    }

    if (submitted === collected) {
      if (stopping) return 'stopped'
      continue
    }
    do {
      // One, and what else is ready then.
      const slot = ring.slot(collected)
      let ended: Outcome = 'ok'
      if (slot.taken) {
        const mayWait = backend.ready === 0
        const ending = backend.collect(output)
        ended = typeof ending === 'string' ? ending : await ending
        if (ring.superseded) return 'superseded'
        if (mayWait) look()
        if (backend.batchSize > 0) counters.countBatch(backend.batchSize)
        // A result that cannot be told in JSON is none; the stream and its other windows are sound.
        const outcome = ended === 'ok' && !areFinite(output) ? 'model_unavailable' : ended
        if (outcome === 'ok') {
          slot.output.set(output)
          counters.countInferred()
        }
        slot.finish(outcome, kind, nowMs, generation)
      }
      ring.complete(collected, ended === 'ok' && backend.ready > 0)
      if (ended !== 'ok') return 'stream_lost'
      collected = (collected + 1) | 0
    } while (backend.ready > 0)
  }
}

function areFinite(values: Float32Array): boolean {
  // Two sums, of which neither waits for the other.
  let even = 0
  let odd = 0
  for (let index = 0; index + 1 < values.length; index += 2) {
    even += values[index]!
    odd += values[index + 1]!
  }
  return Number.isFinite(even + odd + values[values.length - 1]!)
}
