import { loadCodec, type NativeCodec } from '../../native/codec.ts'
import { parseWindow, readWindow } from '../core/window.ts'

/** Both views of a slot's window. */
interface Target {
  readonly input: Float32Array
  readonly inputBytes: Uint8Array
}

/**
 * Between the wire and slots. What is surely good goes through native code, where that has been compiled; all
 * else, and all errors, through TypeScript: so both give the same answers.
 */
export class Codec {
  readonly #native: NativeCodec | null
  /** Which it is, and why it is not the faster one. */
  readonly description: string

  /** @param native what there is of it, or why there is none */
  constructor(native: NativeCodec | string) {
    this.#native = typeof native === 'string' ? null : native
    this.description = typeof native === 'string' ? `TypeScript (${native})` : 'native'
  }

  /** As `readWindow` of core/window.ts, of the bytes behind the first `from`: to cut them off takes half as long. */
  readWindow(bytes: Uint8Array, target: Target, from = 0): string | null {
    if (this.#native?.copyWindow(bytes, from, target.input)) return null
    return readWindow(bytes.subarray(from), target)
  }

  /**
   * Writes the window of a JSON body into a slot.
   * @param keys that may hold the window, the first that is there wins
   * @returns what is wrong with the window, null when it is good
   */
  readBody(body: Uint8Array, keys: readonly string[], { input }: Target): string | null {
    for (const key of keys) if (this.#native?.parseWindow(body, key, input)) return null
    let document: unknown
    try {
      document = JSON.parse(textOf(body))
    } catch {
      return `Cannot parse window: the body of ${body.length} bytes is not valid JSON, expected {"${keys[0]}": [100 rows of 9 numbers]}`
    }
    const rows = findWindow(document, keys)
    if (rows === undefined) {
      return `Cannot parse window: the body has no key "${keys.join('" or "')}", expected {"${keys[0]}": [100 rows of 9 numbers]}`
    }
    return parseWindow(rows, input)
  }

  /** Writes a window whose rows are a JSON text of their own. @returns what is wrong with it, null when it is good */
  readRows(rows: Uint8Array, { input }: Target): string | null {
    if (this.#native?.parseRows(rows, input)) return null
    let parsed: unknown
    try {
      parsed = JSON.parse(textOf(rows))
    } catch {
      return 'Cannot parse window: it is not valid JSON, expected 100 rows of 9 numbers'
    }
    return parseWindow(parsed, input)
  }

  /**
   * What a JSON array of them has between its brackets: of each number the fewest digits that are rounded to the
   * same float32. As float64 they differ from it below its precision.
   */
  joinNumbers(values: Float32Array): string {
    return this.#native?.joinNumbers(values) ?? joinShortest(values)
  }
}

export const codec = new Codec(loadCodec())

/** What the first of `keys` holds that the document has. */
export function findWindow(document: unknown, keys: readonly string[]): unknown {
  if (typeof document !== 'object' || document === null) return undefined
  const key = keys.find(key => Object.hasOwn(document, key))
  return key === undefined ? undefined : (document as Record<string, unknown>)[key]
}

function textOf({ buffer, byteOffset, length }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, length).toString()
}

const POWERS_OF_TEN = Float64Array.from({ length: 23 }, (_, exponent) => Number(`1e${exponent}`))

function joinShortest(values: Float32Array): string {
  let text = ''
  for (let index = 0; index < values.length; index++) {
    if (index > 0) text += ','
    text += shortest(values[index]!)
  }
  return text
}

/** The number of the fewest decimal digits that is rounded to this float32; at 2^-96, 2^87 and 2^90 one digit more. */
function shortest(value: number): number | string {
  if (value === 0) return Object.is(value, -0) ? '-0' : 0
  const magnitude = Math.abs(value)
  if (magnitude >= 1e-5 && magnitude < 1e7) {
    // Six digits at least: a number of fewer is the same number with zeros.
    for (let decimals = 5 - Math.floor(Math.log10(magnitude)); ; decimals++) {
      const power = POWERS_OF_TEN[decimals]!
      const rounded = roundToEven(value * power) / power
      if (Math.fround(rounded) === value) return rounded
    }
  }
  for (let digits = 1; digits <= 9; digits++) {
    const rounded = Number(value.toPrecision(digits))
    if (Math.fround(rounded) === value) return rounded
  }
  return 'null' // JSON has no number for it
}

/** Halves to the even neighbour, as std::to_chars() does. */
function roundToEven(value: number): number {
  const rounded = Math.round(value)
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded
}
