import type { Slot } from '../core/slot.ts'
import { parseWindow, readWindow, WINDOW_BYTES } from '../core/window.ts'

/** Takes windows out of a body as it comes, without ever holding the whole of it. */
export interface WindowReader {
  /** Windows that are complete and not taken yet. */
  readonly ready: number
  /** @param lent part of the body; what is not taken before the next retain() is copied by it */
  push(lent: Uint8Array): void
  retain(): void
  /** Writes the next complete window into the slot. Returns what is wrong with it, null when it is good. */
  takeInto(slot: Slot): string | null
  /** Passes the next complete window over. */
  skip(): void
  /** After the last part: what is wrong with the body as a whole, null when it is good. */
  end(): string | null
  /** What is wrong with the body so far that no further part can mend. */
  readonly fault: string | null
}

/** Windows as float32[100][9], one behind the other. */
export class BinaryWindowReader implements WindowReader {
  readonly fault = null
  #bytes: Uint8Array = new Uint8Array(0)
  /** Where the next window begins. */
  #at = 0
  #received = 0

  get ready(): number {
    return Math.floor((this.#bytes.length - this.#at) / WINDOW_BYTES)
  }

  push(lent: Uint8Array): void {
    this.#received += lent.length
    const rest = this.#bytes.subarray(this.#at)
    this.#bytes = rest.length === 0 ? lent : Buffer.concat([rest, lent])
    this.#at = 0
  }

  retain(): void {
    this.#bytes = this.#bytes.slice(this.#at)
    this.#at = 0
  }

  takeInto(slot: Slot): string | null {
    const window = this.#bytes.subarray(this.#at, this.#at + WINDOW_BYTES)
    this.skip()
    return readWindow(window, slot)
  }

  skip(): void {
    this.#at += WINDOW_BYTES
  }

  end(): string | null {
    if (this.#received % WINDOW_BYTES === 0) return null
    return `Cannot read windows: the body has ${this.#received} bytes, expected a multiple of ${WINDOW_BYTES} (little-endian float32[100][9] each)`
  }
}

/** Beyond this it is no window, however it is indented. */
const MAX_WINDOW_TEXT_BYTES = 256 * 1024
const MAX_KEY_BYTES = 64

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const BACKSLASH = 0x5c
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

type Place =
  | 'before the object'
  | 'before a key'
  | 'before the next key'
  | 'in a key'
  | 'before a colon'
  | 'before a value'
  | 'in a value'
  | 'before a window'
  | 'before the next window'
  | 'in a window'
  | 'behind the windows'
  | 'behind the object'

/**
 * Windows of `{"windows": [[[…9 numbers…] × 100], …]}`. It cuts the text of each window out by its brackets
 * and leaves the parsing to JSON.parse; other keys are passed over.
 */
export class JsonWindowReader implements WindowReader {
  fault: string | null = null
  readonly #texts: string[] = []
  #place: Place = 'before the object'
  /** Brackets and braces open within the value or window that is being read. */
  #depth = 0
  #inString = false
  #escaped = false
  #key = ''
  /** What came in earlier parts of the window that is being read. */
  #earlier: Uint8Array[] = []
  #earlierBytes = 0
  #hasWindows = false

  get ready(): number {
    return this.#texts.length
  }

  push(lent: Uint8Array): void {
    if (this.fault !== null) return
    let start = 0 // of the window that is being read, in this part
    for (let at = 0; at < lent.length; at++) {
      const byte = lent[at]!
      if (this.#place === 'in a window') {
        at = this.#endOfWindow(lent, at)
        if (at === lent.length) break
        this.#texts.push(this.#textOf(lent.subarray(start, at)))
        this.#place = lent[at] === COMMA ? 'before the next window' : 'behind the windows'
      } else if (this.#place === 'in a value') {
        if (this.#depth > 0 || this.#inString || (byte !== COMMA && byte !== CLOSE_BRACE)) this.#track(byte)
        else this.#place = byte === COMMA ? 'before the next key' : 'behind the object'
        if (this.#depth < 0) return this.#refuse()
      } else if (this.#place === 'in a key') {
        if (!this.#escaped && byte === QUOTE) this.#place = 'before a colon'
        else if (this.#key.length < MAX_KEY_BYTES) this.#key += String.fromCharCode(byte)
        this.#escaped = byte === BACKSLASH && !this.#escaped
      } else if (byte > 0x20) {
        const place = this.#entered(byte)
        if (place === null) return this.#refuse()
        this.#place = place
        if (place === 'in a window') start = at--
        if (place === 'in a value') this.#track(byte)
      }
    }
    if (this.#place === 'in a window') this.#keep(lent.subarray(start))
  }

  retain(): void {}

  takeInto(slot: Slot): string | null {
    let rows: unknown
    try {
      rows = JSON.parse(this.#texts.shift()!)
    } catch {
      return 'Cannot parse window: it is not valid JSON, expected 100 rows of 9 numbers'
    }
    return parseWindow(rows, slot.input)
  }

  skip(): void {
    this.#texts.shift()
  }

  end(): string | null {
    if (this.fault !== null) return this.fault
    if (this.#place !== 'behind the object') {
      return `Cannot parse windows: the body ends ${this.#place}, expected {"windows": [windows of 100 rows of 9 numbers]}`
    }
    return this.#hasWindows
      ? null
      : 'Cannot parse windows: the body has no "windows", and is too large for one window'
  }

  #refuse(): void {
    this.fault = `Cannot parse windows: unexpected character ${this.#place}, expected {"windows": [windows of 100 rows of 9 numbers]}`
  }

  /** Where the first byte of something leads. Null when that byte cannot stand here. */
  #entered(byte: number): Place | null {
    switch (this.#place) {
      case 'before the object':
        return byte === OPEN_BRACE ? 'before a key' : null
      case 'before a key':
      case 'before the next key':
        this.#key = ''
        if (byte === CLOSE_BRACE && this.#place === 'before a key') return 'behind the object'
        return byte === QUOTE ? 'in a key' : null
      case 'before a colon':
        return byte === COLON ? 'before a value' : null
      case 'before a value':
        if (this.#key !== 'windows') return byte === COMMA || byte === CLOSE_BRACE ? null : 'in a value'
        this.#hasWindows = true
        return byte === OPEN_BRACKET ? 'before a window' : null
      case 'before a window':
      case 'before the next window':
        if (byte === CLOSE_BRACKET && this.#place === 'before a window') return 'behind the windows'
        return byte === COMMA || byte === CLOSE_BRACKET ? null : 'in a window'
      case 'behind the windows':
        if (byte === COMMA) return 'before the next key'
        return byte === CLOSE_BRACE ? 'behind the object' : null
      default:
        return null
    }
  }

  /** The hot loop: from `at` to the comma or bracket that ends the window, or to the end of the part. */
  #endOfWindow(bytes: Uint8Array, at: number): number {
    let depth = this.#depth
    let inString = this.#inString
    for (; at < bytes.length; at++) {
      const byte = bytes[at]!
      if (byte > COMMA && byte < OPEN_BRACKET && !inString) continue // mostly a digit
      if (byte === QUOTE || inString) {
        this.#track(byte)
        inString = this.#inString
      } else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) depth++
      else if (depth <= 0 && (byte === COMMA || byte === CLOSE_BRACKET)) {
        this.#depth = 0
        return at
      } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) depth--
    }
    this.#depth = depth
    return at
  }

  #track(byte: number): void {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false
      else if (byte === BACKSLASH) this.#escaped = true
      else if (byte === QUOTE) this.#inString = false
    } else if (byte === QUOTE) this.#inString = true
    else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) this.#depth++
    else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) this.#depth--
  }

  #keep(part: Uint8Array): void {
    this.#earlierBytes += part.length
    if (this.#earlierBytes > MAX_WINDOW_TEXT_BYTES) {
      this.fault = `Cannot parse windows: one has more than ${MAX_WINDOW_TEXT_BYTES} bytes of JSON, expected 100 rows of 9 numbers`
    } else this.#earlier.push(part.slice())
  }

  #textOf(last: Uint8Array): string {
    const text = Buffer.concat([...this.#earlier, last]).toString()
    this.#earlier = []
    this.#earlierBytes = 0
    return text
  }
}
