/** The client of hailo-inference, for Node.js and browsers. */
export { type ErrorCode, InferenceError } from './error.ts'
export type { Fetch } from './exchange.ts'
export type { Failed, Inference } from './inference.ts'
export {
  type BulkOptions,
  type BulkResult,
  type ClientOptions,
  type Health,
  InferenceClient,
  type InferOptions,
  type Readiness,
} from './inference-client.ts'
