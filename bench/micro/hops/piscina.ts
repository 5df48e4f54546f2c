import { WINDOW_VALUES } from '../../../src/core/window.ts'
import { openPool } from '../../contenders/pool.ts'
import { closedLoop } from './closed-loop.ts'
import type { Hop, HopTask } from './hop.ts'

/** Piscina's run() for each window, whose memory is transferred. */
export async function open({ depth, onResult }: HopTask): Promise<Hop> {
  const { infer, close } = openPool('noop', 1)
  const send = (back: () => void) => {
    void infer(new Float32Array(WINDOW_VALUES)).then(result => {
      onResult(result)
      back()
    })
  }
  return { run: ms => closedLoop(depth, ms, send), close }
}
