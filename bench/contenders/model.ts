import { InferenceSession, Tensor } from 'onnxruntime-node'
import { loadConfig } from '../../src/config.ts'
import { softmax } from '../../src/core/motif-head.ts'
import { normalise } from '../../src/core/normalise.ts'
import type { OnnxModel } from '../../src/core/stream-task.ts'
import { CHANNELS, LATENT_DIMS, TIMESTEPS, WINDOW_VALUES } from '../../src/core/window.ts'
import { loadModel } from '../../src/model.ts'
import type { ContenderBackend } from './contender.ts'
import { NOOP_RESULT } from './noop.ts'

/** @param window float32[100][9], raw sensor units. @returns float32[64 + 12], of the caller's own */
export type Infer = (window: Float32Array) => Promise<Float32Array>

/** Like workers/backends/onnx.ts: one thread, that of the caller. */
export const SESSION_OPTIONS: InferenceSession.SessionOptions = {
  executionProviders: ['cpu'],
  executionMode: 'sequential',
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
}

/** The shipped model, and ONNX Runtime with it. */
export async function openSession(): Promise<{ model: OnnxModel; session: InferenceSession }> {
  const { plan } = loadModel(loadConfig({}))
  if (plan.kind !== 'onnx') throw new Error(`the shipped model is ${plan.kind}, expected onnx`)
  const session = await InferenceSession.create(new Uint8Array(plan.model.bytes), SESSION_OPTIONS)
  return { model: plan.model, session }
}

/** One run of the model for each window, as whoever has one window would write it. */
export async function openInfer(backend: ContenderBackend): Promise<Infer> {
  if (backend === 'noop') return async () => NOOP_RESULT
  const { model, session } = await openSession()
  const { inputName, latentName, motifName, normalisation } = model
  return async window => {
    const input = new Float32Array(WINDOW_VALUES)
    normalise(window, normalisation, input)
    const outputs = await session.run({ [inputName]: new Tensor('float32', input, [1, TIMESTEPS, CHANNELS]) })
    const latent = outputs[latentName]!.data as Float32Array
    const logits = outputs[motifName]!.data as Float32Array
    const result = new Float32Array(LATENT_DIMS + logits.length)
    result.set(latent)
    softmax(logits, result.subarray(LATENT_DIMS))
    return result
  }
}
