import { workerData } from 'node:worker_threads'
import { NOOP_RESULT } from '../../contenders/noop.ts'
import { ANSWERED, RESULT_VALUES, RESULTS, SENT } from './blocking.ts'

const { buffer, depth } = workerData as { buffer: SharedArrayBuffer; depth: number }
const words = new Int32Array(buffer)
const results = new Float32Array(buffer, RESULTS * 4)
let answered = 0
while (true) {
  Atomics.wait(words, SENT, answered)
  for (const sent = Atomics.load(words, SENT); answered !== sent; answered++) {
    results.set(NOOP_RESULT, (answered & (depth - 1)) * RESULT_VALUES)
  }
  Atomics.store(words, ANSWERED, answered)
  Atomics.notify(words, ANSWERED, 1)
}
