/** As much of the standard's `WebSocket` as is used here. Browsers, Node.js 22 and the package `ws` have one. */
export interface WebSocketLike {
  binaryType: string
  onopen: ((event: never) => void) | null
  onmessage: ((event: never) => void) | null
  onclose: ((event: never) => void) | null
  onerror: ((event: never) => void) | null
  send(data: Uint8Array<ArrayBuffer>): void
  close(): void
}

export type WebSocketConstructor = new (url: string, protocols?: string[]) => WebSocketLike

/** What RFC 6455 lets a subprotocol consist of. */
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/

/** The subprotocols that carry a key: a browser can set no headers. @throws TypeError when they cannot carry this one */
export function protocolsOf(apiKey: string): string[] {
  if (TOKEN.test(apiKey)) return ['hailo.v1', `key.${apiKey}`]
  throw new TypeError(
    "Cannot send this API key as a subprotocol: it may consist of letters, digits and !#$%&'*+-.^_`|~ alone",
  )
}

/** @throws TypeError when there is none */
export function globalWebSocket(): WebSocketConstructor {
  const { WebSocket } = globalThis as { WebSocket?: WebSocketConstructor }
  if (WebSocket !== undefined) return WebSocket
  throw new TypeError(
    'There is no global WebSocket: pass one as { webSocket }, use Node.js 22, or start Node.js 20 with --experimental-websocket',
  )
}
