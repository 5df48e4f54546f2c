import { CHANNELS, TIMESTEPS } from '../../core/window.ts'
import { MAX_BATCH } from './schema.ts'

/** Values of an inputs[0].data lie at depth 6; parameters may be nested, too. */
const MAX_DEPTH = 8
/** Numbers, rows and windows of the largest batch, and what is told beside them. */
const MAX_VALUES = MAX_BATCH * (1 + TIMESTEPS * (1 + CHANNELS)) + 4096

const TOO_MANY = `has more than ${MAX_VALUES} values`

const QUOTE = 0x22
const COMMA = 0x2c
const BACKSLASH = 0x5c
const OPENING_BRACKET = 0x5b
const CLOSING_BRACKET = 0x5d
const OPENING_BRACE = 0x7b
const CLOSING_BRACE = 0x7d

/**
 * Looks over a request's JSON before it is parsed: a few KB of gzip become brackets that would keep the parser
 * busy for hundreds of ms. Whether it is JSON at all is left to the parser.
 * @returns why no request is like this, null when it may be one
 */
export function faultBeforeParsing(json: Uint8Array): string | null {
  let depth = 0
  let values = 0
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case QUOTE:
        at = endOfText(json, at)
        break
      case OPENING_BRACKET:
      case OPENING_BRACE:
        if (++depth > MAX_DEPTH) return `is nested deeper than ${MAX_DEPTH}`
        if (++values > MAX_VALUES) return TOO_MANY
        break
      case CLOSING_BRACKET:
      case CLOSING_BRACE:
        depth--
        break
      case COMMA:
        if (++values > MAX_VALUES) return TOO_MANY
    }
  }
  return null
}

/** @param start of a text, its quote @returns where its other quote is; the end of the JSON when there is none */
function endOfText(json: Uint8Array, start: number): number {
  let at = start + 1
  while (at < json.length && json[at] !== QUOTE) at += json[at] === BACKSLASH ? 2 : 1
  return at
}
