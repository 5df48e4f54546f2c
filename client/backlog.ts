import type { InferenceError } from './error.ts'
import type { Failed, Inference } from './inference.ts'

export interface StreamResult extends Omit<Inference, 'requestId'> {
  /** The window's number. */
  readonly sequence: number
}

export interface StreamFailure extends Failed {
  readonly sequence: number
  readonly detail: string
  /** When coming back makes sense; null when it does not. */
  readonly retryAfterMs: number | null
}

export type Frame = Uint8Array<ArrayBuffer>

/**
 * What a stream has to send and what it waits for, in one of its modes. It outlives connections: what was sent over
 * a lost one and has no answer is sent again over the next.
 */
export interface Backlog {
  /** There is something that was not sent over this connection. */
  readonly waiting: boolean
  /** Windows sent over this connection that have no answer. */
  readonly unanswered: number
  /** Begins a connection: nothing has been sent over it. @returns the sequence of the first window to come */
  rewind(): number
  /** The next frame to send. Null when there is none, or none that so few credits pay for. */
  next(credits: number): { readonly frame: Frame; readonly windows: number } | null
  /** Nothing happens when the window is not known, or was answered before. */
  answer(sequence: number, answer: StreamResult | StreamFailure): void
  /** @returns what to tell the server, null when it need not know */
  cancel(sequence: number): Frame | null
  /** Nothing more will be sent or answered. */
  end(error: InferenceError): void
}
