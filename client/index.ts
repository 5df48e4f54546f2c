/** The client of hailo-inference, for Node.js and browsers. */
export type { StreamFailure, StreamResult } from './backlog.ts'
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
export type { Gap } from './sample-backlog.ts'
export { type CloseOptions, type SendOptions, StreamClient, type StreamOptions } from './stream-client.ts'
export type { WebSocketConstructor, WebSocketLike } from './web-socket.ts'
