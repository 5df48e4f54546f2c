import type { HttpResponse } from 'uWebSockets.js'

export interface BodyReader {
  /** The whole body, for the length of the call only. */
  onBody(bytes: Uint8Array): void
  /** A part came, and it was not the last. */
  onPart(): void
  /**
   * Called once, when more than the limit has come. The rest is thrown away, unless the response is
   * given another reader.
   * @param parts what has come so far, each for the length of the call only
   * @param isLast nothing more will come
   */
  onTooLarge(receivedBytes: number, parts: readonly Uint8Array[], isLast: boolean): void
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
    const lent = new Uint8Array(chunk)
    if (received > limitBytes) {
      const all = [...parts, lent]
      parts = []
      reader.onTooLarge(received, all, isLast)
    } else if (isLast) {
      reader.onBody(parts.length === 0 ? lent : Buffer.concat([...parts, lent]))
    } else {
      if (chunk.byteLength > 0) parts.push(lent.slice())
      reader.onPart()
    }
  })
}
