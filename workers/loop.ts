import { monotonicMs } from '../src/clock.ts'
import type { WorkerCounters } from '../src/core/counters.ts'
import { type Normalisation, suspectSensors } from '../src/core/normalise.ts'
import { distance, type Ring } from '../src/core/ring.ts'
import type { Backend } from './backends/backend.ts'

/** Bounds the sleep of an idle worker, and with it the age of its heartbeat. */
const IDLE_WAIT_MS = 100

export interface ServedStream {
  readonly ring: Ring
  readonly backend: Backend
  readonly counters: WorkerCounters
  /** Null when the backend runs no model. */
  readonly normalisation: Normalisation | null
}

/**
 * Serves one ring with one stream until told to stop or until the stream fails. It takes whatever
 * has been published since it last looked, up to the backend's depth: batches come from load, never
 * from a timer. Windows without a result stay in the ring for the next call.
 */
export async function serve({
  ring,
  backend,
  counters,
  normalisation,
}: ServedStream): Promise<'stopped' | 'stream_lost'> {
  let submitted = ring.completed // not 0: a new stream resumes where the last one stopped
  let collected = submitted
  while (true) {
    counters.beat(monotonicMs())

    // Read before the look for windows: what was published before the stop is found by that look.
    const stopping = ring.stopping
    const idle = submitted === collected
    const room = backend.depth - distance(collected, submitted)
    const waiting = Math.min(room, ring.waitForWindows(submitted, idle && !stopping ? IDLE_WAIT_MS : 0))
    const nowMs = waiting > 0 ? monotonicMs() : 0
    for (let looked = 0; looked < waiting; looked++) {
      const slot = ring.slot(submitted)
      if (slot.take(nowMs)) {
        if (normalisation) counters.countSuspect(suspectSensors(slot.input, normalisation))
        backend.submit(slot.input)
      } else counters.countPassedOver()
      submitted = (submitted + 1) | 0
    }

    if (submitted !== collected) {
      const slot = ring.slot(collected)
      if (slot.taken) {
        const ended = await backend.collect(slot.output)
        if (backend.batchSize > 0) counters.countBatch(backend.batchSize)
        // A result that cannot be told in JSON is none; the stream and its other windows are sound.
        const outcome = ended === 'ok' && !areFinite(slot.output) ? 'model_unavailable' : ended
        slot.finish(outcome, monotonicMs())
        if (outcome === 'ok') counters.countInferred()
        ring.complete(collected)
        if (ended !== 'ok') return 'stream_lost'
      } else ring.complete(collected)
      collected = (collected + 1) | 0
    } else if (stopping) return 'stopped'
  }
}

function areFinite(values: Float32Array): boolean {
  let sum = 0
  for (let index = 0; index < values.length; index++) sum += values[index]!
  return Number.isFinite(sum)
}
