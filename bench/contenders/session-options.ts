import type { InferenceSession } from 'onnxruntime-node'

/** Like workers/backends/onnx.ts: one thread, that of the caller. */
export const SESSION_OPTIONS: InferenceSession.SessionOptions = {
  executionProviders: ['cpu'],
  executionMode: 'sequential',
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
}
