import type { BackendKind } from '../core/backend.ts'
import type { Slot } from '../core/slot.ts'
import type { FrameName, StreamMode, WindowStatus } from './frame.ts'

/** A message as it goes over the wire. */
export type Frame = Uint8Array | string

/** What a client says, whatever it looked like on the wire. What it holds is valid for the length of the call only. */
export type ClientFrame =
  | Hello
  | WindowFrame
  /** `bytes` are little-endian float32[n][9], n ≥ 1. */
  | { readonly type: 'samples'; readonly index: number; readonly bytes: Uint8Array }
  | { readonly type: 'cancel'; readonly sequence: number }
  | { readonly type: 'bye' }
  | Unreadable

export interface Hello {
  readonly type: 'hello'
  readonly mode: StreamMode
  readonly hop: number
  readonly first: number
  /** In samples mode: under load, windows that overlap may be left out. */
  readonly thin: boolean
}

export interface WindowFrame {
  readonly type: 'window'
  readonly sequence: number
  /** From the frame's arrival; 0 for the server's default. Whatever the client sent: NaN too. */
  readonly deadlineMs: number
  /** Writes the window into a slot. Returns what is wrong with it, null when it is good. */
  fill(slot: Pick<Slot, 'input' | 'inputBytes'>): string | null
}

/** A message that is no frame, or a frame with something wrong in it. */
export interface Unreadable {
  readonly type: 'unreadable'
  /** As far as it could be told. */
  readonly name: FrameName | 'unknown'
  /** What is wrong with it, in words. */
  readonly detail: string
}

export function unreadable(name: Unreadable['name'], detail: string): Unreadable {
  return { type: 'unreadable', name, detail }
}

export interface Welcome {
  readonly mode: StreamMode
  readonly hop: number
  readonly first: number
  readonly credits: number
  readonly deadlineMs: number
  readonly backend: BackendKind
  /** 64 hex digits, or "stub". */
  readonly modelSha256: string
  readonly motifCount: number
}

/** Which model gave a result, as short as its frame has room for. */
export interface ModelMark {
  /** 12 hex digits, or "stub". */
  readonly sha256: string
  /** The first two bytes, as a little-endian uint16; 0 for the stub. */
  readonly start: number
}

export interface WindowError {
  /** Null: it is about no window. */
  readonly sequence: number | null
  readonly status: Exclude<WindowStatus, 'ok'>
  readonly detail: string
  /** 0 when coming back makes no sense. */
  readonly retryAfterMs: number
}

export interface Gap {
  /** The first sample that never came. */
  readonly missing: number
  /** The first that came after it. */
  readonly index: number
  /** The next window that can be whole. */
  readonly sequence: number
}

/** One way to put the frames on the wire. The first frame of a client picks it for the whole connection. */
export interface Variant {
  /** Never throws, whatever the client sent. */
  read(message: Uint8Array): ClientFrame
  welcome(welcome: Welcome): Frame
  /**
   * @param slot holds the result; copied
   * @param model that gave it
   * @param used an earlier result of the same connection, which may be written over; null while there is none
   */
  result(sequence: number, slot: Slot, model: ModelMark, used: Frame | null): Frame
  /** Valid until the next one. */
  credit(count: number): Frame
  error(error: WindowError): Frame
  draining(): Frame
  gap(gap: Gap): Frame
}

/** A hop is a number of samples; one that is larger than this is a mistake. */
export const LARGEST_HOP = 10_000
