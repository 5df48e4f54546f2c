import { loadCodec, type NativeCodec } from '../../../native/codec.ts'
import { type Case, repeated } from '../case.ts'
import { BINARY_BODY, JSON_BODY, nextResult, SLOT } from './window.ts'

/** The same as in window.ts, as the addon does it. None where it has not been compiled. */
export const CODEC_CASES = casesOf(loadCodec())

function casesOf(codec: NativeCodec | string): Case[] {
  if (typeof codec === 'string') return []
  const { copyWindow, parseWindow, joinNumbers } = codec
  const expectGood = (isGood: boolean) => {
    if (!isGood) throw new Error('the addon took a good window for a bad one')
  }
  return [
    repeated(`decode JSON of ${JSON_BODY.length} B, native: parseWindow()`, 10, () =>
      expectGood(parseWindow(JSON_BODY, 'x', SLOT.input)),
    ),
    repeated('decode binary, native: copyWindow()', 100, () =>
      expectGood(copyWindow(BINARY_BODY, 0, SLOT.input)),
    ),
    repeated('encode JSON, native: joinNumbers()', 100, () => void joinNumbers(nextResult())),
  ]
}
