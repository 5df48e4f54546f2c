import Negotiator from 'negotiator'

const JSON_FIRST = ['application/json', 'application/octet-stream']
const JSON_OR_PAGE = ['application/json', 'text/html']
/** Clients send few different Accept headers, but a hostile one could send many. */
const MAX_REMEMBERED = 64
const remembered = new Map<string, boolean>()

/** Whether the client would rather have float32 than JSON. JSON when it does not care. */
export function prefersOctetStream(accept: string): boolean {
  if (accept === '' || accept === '*/*' || accept === 'application/json') return false
  if (accept === 'application/octet-stream') return true
  let preferred = remembered.get(accept)
  if (preferred === undefined) {
    preferred = new Negotiator({ headers: { accept } }).mediaType(JSON_FIRST) === 'application/octet-stream'
    if (remembered.size === MAX_REMEMBERED) remembered.clear()
    remembered.set(accept, preferred)
  }
  return preferred
}

/** Whether the client would rather have a page than JSON, as browsers do. JSON when it does not care. */
export function prefersPage(accept: string): boolean {
  if (!accept.includes('text/html')) return false
  return new Negotiator({ headers: { accept } }).mediaType(JSON_OR_PAGE) === 'text/html'
}
