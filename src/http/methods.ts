const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** What a metric's label says of a method; a client can send any word. @param method in upper case */
export function methodLabel(method: string): string {
  return METHODS.has(method) ? method : 'other'
}
