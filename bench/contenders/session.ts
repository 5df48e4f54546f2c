import '../../src/no-telemetry.ts'
import { InferenceSession } from 'onnxruntime-node'
import { loadConfig } from '../../src/config.ts'
import type { OnnxModel } from '../../src/core/stream-task.ts'
import { loadModel } from '../../src/model.ts'
import { SESSION_OPTIONS } from './session-options.ts'

/** The shipped model, and ONNX Runtime with it. */
export async function openSession(): Promise<{ model: OnnxModel; session: InferenceSession }> {
  const { plan } = await loadModel(loadConfig({}))
  if (plan.kind !== 'onnx') throw new Error(`the shipped model is ${plan.kind}, expected onnx`)
  const session = await InferenceSession.create(new Uint8Array(plan.model.bytes), SESSION_OPTIONS)
  return { model: plan.model, session }
}
