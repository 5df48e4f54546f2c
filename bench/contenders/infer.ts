import { softmax } from '../../src/core/motif-head.ts'
import { normalise } from '../../src/core/normalise.ts'
import { CHANNELS, LATENT_DIMS, TIMESTEPS, WINDOW_VALUES } from '../../src/core/window.ts'
import type { ContenderBackend } from './contender.ts'
import { noopResult } from './noop.ts'

/** @param window float32[100][9], raw sensor units. @returns float32[64 + 12], of the caller's own */
export type Infer = (window: Float32Array) => Promise<Float32Array>

/** One run of the model for each window, as whoever has one window would write it. */
export async function openInfer(backend: ContenderBackend): Promise<Infer> {
  if (backend === 'noop') return async window => noopResult(window)
  // Loaded only where it runs: it is large.
  const { Tensor } = await import('onnxruntime-node')
  const { model, session } = await (await import('./session.ts')).openSession()
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
