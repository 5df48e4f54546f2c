import type { Slot } from '../core/slot.ts'
import { WINDOW_BYTES } from '../core/window.ts'
import { codec } from './codec.ts'
import type { Failure } from './reply.ts'

/** Takes windows out of a body as it comes, without ever holding the whole of it. */
export interface WindowReader {
  /** What is wrong with the body so far, or was found to be wrong at its end. */
  readonly fault: Failure | null
  /** @param part copied */
  push(part: Uint8Array): void
  /** Whether a whole window is there that was not taken yet. */
  hasNext(): boolean
  /** Writes the next window into the slot. Returns what is wrong with it, null when it is good. */
  takeInto(slot: Slot): string | null
  /** Passes the next window over. */
  skip(): void
  /** Nothing more will come: what is left over is a fault. */
  end(): void
}

/**
 * Bytes that were appended and not consumed yet, in one piece of memory that is used again and again. Mostly
 * that is one read of the socket; a sender on the same host may bring more before a pause takes effect.
 */
class PartBuffer {
  bytes: Buffer = Buffer.allocUnsafe(64 * 1024)
  start = 0
  end = 0

  append(part: Uint8Array): void {
    if (this.end + part.length > this.bytes.length) this.#makeRoom(part.length)
    this.bytes.set(part, this.end)
    this.end += part.length
  }

  get length(): number {
    return this.end - this.start
  }

  #makeRoom(count: number): void {
    const needed = this.length + count
    // Moving half of the room or less makes half of it free: it costs little per byte that comes.
    const fits = needed <= this.bytes.length && this.length <= this.bytes.length / 2
    const target = fits ? this.bytes : Buffer.allocUnsafe(Math.ceil(1.5 * needed))
    this.bytes.copy(target, 0, this.start, this.end)
    this.end -= this.start
    this.start = 0
    this.bytes = target
  }
}

/** Windows as float32[100][9], one behind the other. */
export class BinaryWindowReader implements WindowReader {
  fault: Failure | null = null
  readonly #parts = new PartBuffer()
  #received = 0

  push(part: Uint8Array): void {
    this.#received += part.length
    this.#parts.append(part)
  }

  hasNext(): boolean {
    return this.#parts.length >= WINDOW_BYTES
  }

  takeInto(slot: Slot): string | null {
    const { bytes, start } = this.#parts
    this.skip()
    return codec.readWindow(bytes.subarray(start, start + WINDOW_BYTES), slot)
  }

  skip(): void {
    this.#parts.start += WINDOW_BYTES
  }

  end(): void {
    if (this.#received % WINDOW_BYTES === 0) return
    this.fault = {
      code: 'invalid_window',
      detail: `Cannot read windows: the body has ${this.#received} bytes, expected a multiple of ${WINDOW_BYTES} (little-endian float32[100][9] each)`,
    }
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
 * Windows of `{"windows": [[[…9 numbers…] × 100], …]}`. It cuts the text of one window at a time out by its
 * brackets and leaves the parsing to the codec; other keys are passed over.
 */
export class JsonWindowReader implements WindowReader {
  fault: Failure | null = null
  readonly #parts = new PartBuffer()
  /** Where the reading has come to in `#parts`; everything before the window that is being read is given back. */
  #at = 0
  /** The length of the next window, which `#parts` begin with then; 0 when it is not there. */
  #windowBytes = 0
  #place: Place = 'before the object'
  /** Brackets and braces open within the value or window that is being read. */
  #depth = 0
  #inString = false
  #escaped = false
  #key = ''
  #hasWindows = false

  push(part: Uint8Array): void {
    const { start } = this.#parts
    this.#parts.append(part)
    this.#at += this.#parts.start - start // what was kept may have moved
  }

  hasNext(): boolean {
    if (this.#windowBytes === 0 && this.fault === null) this.#windowBytes = this.#readOn()
    return this.#windowBytes > 0
  }

  takeInto(slot: Slot): string | null {
    const { bytes, start } = this.#parts
    const rows = bytes.subarray(start, start + this.#windowBytes)
    this.skip()
    return codec.readRows(rows, slot)
  }

  skip(): void {
    this.#windowBytes = 0
    this.#parts.start = this.#at
  }

  end(): void {
    if (this.fault !== null) return
    if (this.#place !== 'behind the object') this.#refuse(`the body ends ${this.#place}`)
    else if (!this.#hasWindows) {
      const detail = `The body has no "windows", and is too large for one window, expected at most ${MAX_WINDOW_TEXT_BYTES} bytes`
      this.fault = { code: 'body_too_large', detail }
    }
  }

  #refuse(found: string): void {
    this.fault = {
      code: 'invalid_window',
      detail: `Cannot parse windows: ${found}, expected {"windows": [windows of 100 rows of 9 numbers]}`,
    }
  }

  /** Reads to the end of the next window and returns its length; 0 when it is not there yet. */
  #readOn(): number {
    const parts = this.#parts
    while (this.#at < parts.end) {
      const byte = parts.bytes[this.#at]!
      if (this.#place === 'in a window') {
        this.#skipWindow()
        if (this.#at - parts.start > MAX_WINDOW_TEXT_BYTES) {
          this.#refuse(`one has more than ${MAX_WINDOW_TEXT_BYTES} bytes`)
          return 0
        }
        if (this.#at === parts.end) return 0
        const windowBytes = this.#at - parts.start
        this.#place = parts.bytes[this.#at] === COMMA ? 'before the next window' : 'behind the windows'
        this.#at++
        return windowBytes
      }
      if (this.#place === 'in a value') {
        if (this.#depth > 0 || this.#inString || (byte !== COMMA && byte !== CLOSE_BRACE)) this.#track(byte)
        else this.#place = byte === COMMA ? 'before the next key' : 'behind the object'
        if (this.#depth < 0) this.#refuse(`unexpected character ${this.#place}`)
      } else if (this.#place === 'in a key') {
        if (!this.#escaped && byte === QUOTE) this.#place = 'before a colon'
        else if (this.#key.length < MAX_KEY_BYTES) this.#key += String.fromCharCode(byte)
        this.#escaped = byte === BACKSLASH && !this.#escaped
      } else if (byte > 0x20) {
        const place = this.#entered(byte)
        if (place === null) this.#refuse(`unexpected character ${this.#place}`)
        else this.#place = place
        if (place === 'in a window') parts.start = this.#at-- // it begins with this very byte
        if (place === 'in a value') this.#track(byte)
      }
      if (this.fault !== null) return 0
      this.#at++
    }
    if (this.#place !== 'in a window') parts.start = this.#at
    return 0
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

  /** The hot loop: on to the comma or bracket that ends the window, or to the end of what has come. */
  #skipWindow(): void {
    const { bytes, end } = this.#parts
    let at = this.#at
    let depth = this.#depth
    let inString = this.#inString
    for (; at < end; at++) {
      const byte = bytes[at]!
      if (byte > COMMA && byte < OPEN_BRACKET && !inString) continue // mostly a digit
      if (byte === QUOTE || inString) {
        this.#track(byte)
        inString = this.#inString
      } else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) depth++
      else if (depth <= 0 && (byte === COMMA || byte === CLOSE_BRACKET)) {
        depth = 0
        break
      } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) depth--
    }
    this.#at = at
    this.#depth = depth
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
}
