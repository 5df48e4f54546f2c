/**
 * The float model in ONNX Runtime in a bare loop on one core. Prints a line of JSON.
 *
 *   onnx-loop.js MODEL BATCH MILLISECONDS
 */
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { CHANNELS, TIMESTEPS, WINDOW_VALUES } from '../../src/core/window.ts'

const [model, batch, milliseconds] = [process.argv[2]!, Number(process.argv[3]), Number(process.argv[4])]
const session = await InferenceSession.create(model, {
  executionProviders: ['cpu'],
  executionMode: 'sequential',
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
})
const windows = Float32Array.from({ length: batch * WINDOW_VALUES }, (_, index) => Math.sin(index))
const feeds = { [session.inputNames[0]!]: new Tensor('float32', windows, [batch, TIMESTEPS, CHANNELS]) }
for (let run = 0; run < 50; run++) await session.run(feeds)

const startMs = performance.now()
let ran = 0
while (performance.now() - startMs < milliseconds) {
  await session.run(feeds)
  ran += batch
}
const windowsPerSecond = (ran / (performance.now() - startMs)) * 1000
process.stdout.write(`${JSON.stringify({ windowsPerSecond })}\n`)
