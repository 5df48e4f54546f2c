/** Every reason for which a HEF is refused. */
export type HefErrorReason =
  | 'empty'
  | 'placeholder'
  | 'too_short'
  | 'bad_magic'
  | 'unknown_header_version'
  | 'truncated'
  | 'trailing_bytes'
  | 'checksum_mismatch'
  | 'bad_protobuf'
  | 'no_network_group'
  | 'no_input'
  | 'no_output'
  | 'bad_stream'
  | 'outdated_compiler'
  | 'wrong_architecture'

/** What was found in the HEF, what should be there, and what a person can do about it. */
export interface Refusal {
  readonly found: string
  readonly expected: string
  readonly remedy: string
}

/** The HEF cannot be used. The message never shows content that came from a file which is not a HEF. */
export class HefError extends Error {
  readonly code = 'ERR_HEF'
  readonly reason: HefErrorReason

  constructor(reason: HefErrorReason, { found, expected, remedy }: Refusal, options?: ErrorOptions) {
    super(`Cannot use HEF: ${found}, expected ${expected}. ${remedy}`, options)
    this.name = 'HefError'
    this.reason = reason
  }
}

const VISIBLE_NAME_LENGTH = 100

/** A name from inside a HEF as a message may show it: quoted, control characters escaped, cut to 100 characters. */
export function quoted(name: string): string {
  return JSON.stringify(name.slice(0, VISIBLE_NAME_LENGTH)).replace(
    /[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
