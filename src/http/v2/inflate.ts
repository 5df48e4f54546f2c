import { gunzip, inflate, inflateRaw, type ZlibOptions } from 'node:zlib'
import type { Failure } from '../reply.ts'

type Inflater = typeof gunzip

/** What undoes each Content-Encoding. */
const INFLATERS: Record<string, (body: Uint8Array) => Inflater> = {
  gzip: () => gunzip,
  'x-gzip': () => gunzip,
  // RFC 9110 means zlib's format by "deflate"; some clients send the bare stream.
  deflate: body => (hasZlibHeader(body) ? inflate : inflateRaw),
}

/** The name of an encoding that changes nothing is ''. */
export type Encoding = string

/** @param header Content-Encoding as it was sent @returns null when it is not one that is understood */
export function encodingOf(header: string): Encoding | null {
  const name = header.trim().toLowerCase()
  if (name === '' || name === 'identity') return ''
  return Object.hasOwn(INFLATERS, name) ? name : null
}

/**
 * Inflates a body on a thread of Node.js' own. A bomb is given up at the limit.
 * @param body copied by the caller if it is lent: this goes on after the call
 */
export function inflateBody(
  body: Uint8Array,
  encoding: Encoding,
  limitBytes: number,
): Promise<Uint8Array | Failure> {
  const inflater = INFLATERS[encoding]!(body)
  const options: ZlibOptions = { maxOutputLength: limitBytes }
  return new Promise(resolve => {
    inflater(body, options, (error, inflated) => {
      if (error === null) return resolve(inflated)
      const tooLarge = (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE'
      resolve(
        tooLarge
          ? {
              code: 'body_too_large',
              detail: `The body has more than ${limitBytes} bytes when it is inflated, expected at most ${limitBytes}`,
            }
          : {
              code: 'invalid_request',
              detail: `The ${body.length} bytes of the body are not ${encoding}, expected what Content-Encoding says`,
            },
      )
    })
  })
}

function hasZlibHeader(body: Uint8Array): boolean {
  const [method = 0, flags = 0] = body
  return (method & 0x0f) === 8 && ((method << 8) | flags) % 31 === 0
}
