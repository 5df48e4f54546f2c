/** In each ugly input, so that it is found wherever it comes out again. */
export const MARK = 'Xm4rkX'

/** Has it what the client sent, or what only the server should know? */
export function isTelling(text: string): boolean {
  return (
    text.toLowerCase().includes(MARK.toLowerCase()) ||
    /^ +at .*:\d+:\d+\)?$|node_modules|\.[cm]?[jt]s:\d|\/(home|work|tmp|usr|root)\//m.test(text)
  )
}
