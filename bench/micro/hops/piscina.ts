import { openPool } from '../../contenders/pool.ts'
import { closedLoop } from './closed-loop.ts'
import { type Hop, type HopTask, WINDOW } from './hop.ts'

/** Piscina's run() for each window, whose memory is transferred. */
export async function open({ depth, onResult }: HopTask): Promise<Hop> {
  const { infer, close } = openPool('noop', 1)
  const send = (back: () => void) => {
    void infer(WINDOW.slice()).then(result => {
      onResult(result)
      back()
    })
  }
  return { run: ms => closedLoop(depth, ms, send), close }
}
