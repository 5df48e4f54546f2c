import { randomBytes } from 'node:crypto'

const PREFIX = randomBytes(4).toString('hex')
let made = 0

/** The client's own X-Request-ID where it sent a sane one, else one of ours. */
export function requestIdOf(sent: string): string {
  return isEchoable(sent) ? sent : `${PREFIX}-${(made++).toString(36)}`
}

/** Printable ASCII of bounded length: nothing that could break a header or flood a log. */
export function isEchoable(value: string): boolean {
  return value !== '' && /^[\x21-\x7e]{1,128}$/.test(value)
}
