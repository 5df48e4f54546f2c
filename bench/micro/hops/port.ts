import { Worker } from 'node:worker_threads'
import { closedLoop } from './closed-loop.ts'
import { type Hop, type HopTask, WINDOW } from './hop.ts'

/** A message for each window and one for each result, over the worker's MessagePort. */
export async function open({ depth, onResult }: HopTask): Promise<Hop> {
  const worker = new Worker(new URL('./port-worker.js', import.meta.url))
  const underWay: (() => void)[] = []
  worker.on('message', (result: Float32Array) => {
    onResult(result)
    underWay.shift()!()
  })
  const send = (back: () => void) => {
    underWay.push(back)
    worker.postMessage(WINDOW.slice())
  }
  return {
    run: ms => closedLoop(depth, ms, send),
    async close() {
      await worker.terminate()
    },
  }
}
