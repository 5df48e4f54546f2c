import { Worker } from 'node:worker_threads'
import { type Hop, type HopTask, WINDOW } from './hop.ts'

/**
 * Two cursors, 128 bytes apart, behind them the results and the windows.
 *
 *   word   0   sent       main thread
 *   word  32   answered   worker
 *   word  64   results    float32[depth][64 + 12]
 *              windows    float32[depth][100][9]
 */
export const SENT = 0
export const ANSWERED = 32
export const RESULTS = 64
export const RESULT_VALUES = 76

/** Both threads block in Atomics.wait: as fast as futexes are, and no event loop. */
export async function open({ depth, onResult }: HopTask): Promise<Hop> {
  const buffer = new SharedArrayBuffer((RESULTS + depth * (RESULT_VALUES + WINDOW.length)) * 4)
  const words = new Int32Array(buffer)
  const results = Array.from(
    { length: depth },
    (_, slot) => new Float32Array(buffer, (RESULTS + slot * RESULT_VALUES) * 4, RESULT_VALUES),
  )
  const windows = new Float32Array(buffer, (RESULTS + depth * RESULT_VALUES) * 4)
  const worker = new Worker(new URL('./blocking-worker.js', import.meta.url), {
    workerData: { buffer, depth },
  })
  let sent = 0
  let seen = 0
  return {
    async run(ms) {
      const endMs = performance.now() + ms
      while (true) {
        if (performance.now() < endMs) {
          for (; sent !== seen + depth; sent++) windows.set(WINDOW, (sent & (depth - 1)) * WINDOW.length)
        }
        if (seen === sent) return
        if (Atomics.load(words, SENT) !== sent) {
          Atomics.store(words, SENT, sent)
          Atomics.notify(words, SENT, 1)
        }
        Atomics.wait(words, ANSWERED, seen)
        for (const answered = Atomics.load(words, ANSWERED); seen !== answered; seen++) {
          onResult(results[seen & (depth - 1)]!)
        }
      }
    },
    async close() {
      await worker.terminate()
    },
  }
}
