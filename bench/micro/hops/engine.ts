import { Engine } from '../../../src/engine/engine.ts'
import { Stream, type Waiter } from '../../../src/engine/stream.ts'
import { startThreads } from '../../../src/engine/threads.ts'
import { EventLoopTurn } from '../../../src/http/turn.ts'
import { UNDISTURBED } from '../undisturbed.ts'
import { closedLoop } from './closed-loop.ts'
import { type Hop, type HopTask, WINDOW } from './hop.ts'

/** Nothing is refused for its sake: it is the hop that is measured. */
const DEADLINE_MS = 9000
const WORKER_URL = new URL('../../contenders/noop-worker.js', import.meta.url)

/** The whole engine, from admission to settlement, as `POST /infer` uses it, without HTTP and without metrics. */
export async function open({ depth, onResult }: HopTask): Promise<Hop> {
  const engine = new Engine({
    threads: startThreads(WORKER_URL, 1, 'stub'),
    // What is settled is sent anew before its slot is released.
    ringSlots: 2 * depth,
    task: { motifCount: 12, primary: { kind: 'stub' }, fallback: null, normalisation: null, selfCheck: null },
    observer: UNDISTURBED,
  })
  await engine.start()
  engine.open()

  const turn = new EventLoopTurn()
  let onBack = () => {}
  const waiter: Waiter = {
    settle(outcome, slot) {
      if (outcome !== 'ok') throw new Error(`the engine answered ${outcome}`)
      onResult(slot.output)
      onBack()
    },
  }
  const send = (back: () => void) => {
    onBack = back
    const arrivedMs = turn.arrivedMs()
    const times = { arrivedMs, deadlineMs: arrivedMs + DEADLINE_MS }
    const stream = engine.admit(times)
    if (!(stream instanceof Stream)) throw new Error(stream.detail)
    stream.ring.nextSlot!.input.set(WINDOW)
    engine.submit(stream, times, waiter)
  }
  return { run: ms => closedLoop(depth, ms, send), close: () => engine.close() }
}
