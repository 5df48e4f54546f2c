import type { BackendKind } from '../core/backend.ts'
import { type GoldenVectors, goldenWindow, Parity } from '../core/golden.ts'
import { WINDOW_VALUES } from '../core/window.ts'
import type { Engine, Inferred } from './engine.ts'
import type { Stream } from './stream.ts'

/** A first run may take longer than any client would wait. */
const TIMEOUT_MS = 5000
const BLANK_WINDOWS = 64

/**
 * Sends the golden windows through every stream at the same time, one by one and then as many at once
 * as the ring takes, and compares what comes back with what the trained model gives. Warms the path up on the
 * way: the first burst after a cold start would be late.
 * @returns for each backend that answered, unless nothing is asked of it
 * @throws NoResult
 */
export async function goldenParity(engine: Engine, golden: GoldenVectors): Promise<Map<BackendKind, Parity>> {
  const parities = new Map<BackendKind, Parity | null>()
  await throughEveryStream(
    engine,
    golden.count,
    index => goldenWindow(golden, index),
    ({ output, backend }, index) => {
      if (!parities.has(backend)) parities.set(backend, Parity.of(backend, golden))
      parities.get(backend)?.add(output, index)
    },
  )
  return new Map([...parities].filter((entry): entry is [BackendKind, Parity] => entry[1] !== null))
}

/** Warms the path up where there are no golden windows to do it with. @throws NoResult */
export async function warmUp(engine: Engine): Promise<void> {
  const blank = new Float32Array(WINDOW_VALUES)
  await throughEveryStream(
    engine,
    BLANK_WINDOWS,
    () => blank,
    () => {},
  )
}

async function throughEveryStream(
  engine: Engine,
  count: number,
  windowOf: (index: number) => Float32Array,
  onInferred: (inferred: Inferred, index: number) => void,
): Promise<void> {
  const indices = Array.from({ length: count }, (_, index) => index)
  const through = async (stream: Stream) => {
    for (const atOnce of [1, stream.ring.capacity]) {
      for (let first = 0; first < count; first += atOnce) {
        const batch = indices.slice(first, first + atOnce).map(async index => {
          onInferred(await engine.infer(windowOf(index), TIMEOUT_MS, stream), index)
        })
        await Promise.all(batch)
      }
    }
  }
  // All of them, also when one fails: who begins anew finds nothing of this in the rings.
  const ends = await Promise.allSettled(engine.streams.map(through))
  const failed = ends.find(end => end.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
