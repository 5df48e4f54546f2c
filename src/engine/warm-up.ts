import type { BackendKind } from '../core/backend.ts'
import { type GoldenOf, type GoldenVectors, goldenWindow, Parity } from '../core/golden.ts'
import { WINDOW_VALUES } from '../core/window.ts'
import type { Engine, Inferred } from './engine.ts'
import type { Stream } from './stream.ts'

/** A first run may take longer than any client would wait. */
const TIMEOUT_MS = 5000
const BLANK_WINDOWS = 64

/**
 * Sends the golden windows through every stream at the same time, one by one and then as many at once
 * as the ring takes, and compares what comes back with what the trained model gives. Warms the path up on the
 * way, with blank windows where there are none: the first burst after a cold start would be late.
 * @returns for each backend that answered, unless nothing is asked of it
 * @throws NoResult
 */
export async function goldenParity(engine: Engine, goldenOf: GoldenOf): Promise<Map<BackendKind, Parity>> {
  const parities = new Map<BackendKind, Parity>()
  const through = async (stream: Stream) => {
    const golden = goldenOf(await stream.ring.untilServing())
    await goThrough(engine, stream, golden, ({ output, backend }, index) => {
      // One that has taken over meanwhile was asked for its own answers when it was opened.
      if (golden === null || goldenOf(backend) !== golden) return
      const parity = parities.get(backend) ?? Parity.of(backend, golden)
      if (parity === null) return
      parities.set(backend, parity)
      parity.add(output, index)
    })
  }
  // All of them, also when one fails: who begins anew finds nothing of this in the rings.
  const ends = await Promise.allSettled(engine.streams.map(through))
  const failed = ends.find(end => end.status === 'rejected')
  if (failed !== undefined) throw failed.reason
  return parities
}

async function goThrough(
  engine: Engine,
  stream: Stream,
  golden: GoldenVectors | null,
  onInferred: (inferred: Inferred, index: number) => void,
): Promise<void> {
  const blank = new Float32Array(WINDOW_VALUES)
  const indices = Array.from({ length: golden?.count ?? BLANK_WINDOWS }, (_, index) => index)
  for (const atOnce of [1, stream.ring.capacity]) {
    for (let first = 0; first < indices.length; first += atOnce) {
      const batch = indices.slice(first, first + atOnce).map(async index => {
        const window = golden === null ? blank : goldenWindow(golden, index)
        onInferred(await engine.infer(window, TIMEOUT_MS, stream), index)
      })
      await Promise.all(batch)
    }
  }
}
