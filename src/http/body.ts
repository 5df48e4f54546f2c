import type { HttpResponse } from 'uWebSockets.js'

/**
 * Collects a request's body up to a limit and hands it over once, whole. A body in one piece, as a
 * window mostly comes, is lent straight from the socket's buffer without a copy.
 * @param onBody gets the bytes for the length of the call only
 * @param onTooLarge called once, at the first byte beyond the limit; the rest is thrown away
 */
export function readBody(
  response: HttpResponse,
  limitBytes: number,
  onBody: (bytes: Uint8Array) => void,
  onTooLarge: (bytes: number) => void,
): void {
  let received = 0
  let chunks: Uint8Array[] = []
  response.onData((chunk, isLast) => {
    if (received > limitBytes) return
    received += chunk.byteLength
    if (received > limitBytes) {
      chunks = []
      onTooLarge(received)
    } else if (isLast) {
      const lent = new Uint8Array(chunk)
      onBody(chunks.length === 0 ? lent : Buffer.concat([...chunks, lent]))
    } else if (chunk.byteLength > 0) chunks.push(new Uint8Array(chunk.slice(0)))
  })
}
