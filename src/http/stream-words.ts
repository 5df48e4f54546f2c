/**
 * The words of `/stream` whose index goes over the wire: append only. Apart from frame.ts, so that the types of the
 * client lead to no package.
 */
export const STREAM_MODES = ['windows', 'samples'] as const
export type StreamMode = (typeof STREAM_MODES)[number]

/** Every way a window can end on `/stream` and in a bulk answer. */
export const WINDOW_STATUSES = [
  'ok',
  'deadline_exceeded',
  'model_unavailable',
  'invalid_window',
  'overloaded',
  'draining',
  'cancelled',
  'invalid_request',
  'internal_error',
  'rate_limited',
  'thinned',
] as const
export type WindowStatus = (typeof WINDOW_STATUSES)[number]
