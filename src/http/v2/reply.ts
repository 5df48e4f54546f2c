import { type Answer, type Failure, jsonAnswer, REPLY } from '../reply.ts'

/** The protocol's one shape for every error. */
export function v2Error({ code, detail, headers = {} }: Failure): Answer {
  return { ...jsonAnswer(REPLY[code].http, { error: detail }, { ...headers }), close: code === 'draining' }
}

/** Not 204: uWebSockets would take it for unfinished. */
export function emptyAnswer(): Answer {
  return { status: 200, headers: {}, body: '' }
}
