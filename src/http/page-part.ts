import type { Answer } from './reply.ts'

export const HTML = 'text/html; charset=utf-8'
export const JAVASCRIPT = 'text/javascript; charset=utf-8'
export const CSS = 'text/css; charset=utf-8'

/** One file of a page for browsers. */
export function pagePart(
  contentType: string,
  body: string | Uint8Array,
  headers: Record<string, string> = {},
): Answer {
  const common = {
    'Content-Type': contentType,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-cache',
  }
  return { status: 200, headers: { ...common, ...headers }, body }
}
