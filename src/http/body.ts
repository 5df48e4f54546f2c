import type { HttpResponse } from 'uWebSockets.js'

export interface BodyReader {
  /** The whole body, for the length of the call only. */
  onBody(bytes: Uint8Array): void
  /** A part came, and it was not the last. */
  onPart(): void
  /** Called once, at the first byte beyond the limit; the rest is thrown away. */
  onTooLarge(bytes: number): void
}

/**
 * Collects a request's body up to a limit and hands it over once, whole. A body in one piece, as a
 * window mostly comes, is lent straight from the socket's buffer without a copy.
 */
export function readBody(response: HttpResponse, limitBytes: number, reader: BodyReader): void {
  let received = 0
  let parts: Uint8Array[] = []
  response.onData((chunk, isLast) => {
    if (received > limitBytes) return
    received += chunk.byteLength
    if (received > limitBytes) {
      parts = []
      reader.onTooLarge(received)
    } else if (isLast) {
      const lent = new Uint8Array(chunk)
      reader.onBody(parts.length === 0 ? lent : Buffer.concat([...parts, lent]))
    } else {
      if (chunk.byteLength > 0) parts.push(new Uint8Array(chunk.slice(0)))
      reader.onPart()
    }
  })
}
