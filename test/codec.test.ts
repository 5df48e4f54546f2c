import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { loadCodec, type NativeCodec } from '../native/codec.ts'
import { SENSORS, WINDOW_BYTES, WINDOW_VALUES } from '../src/core/window.ts'
import { Codec } from '../src/http/codec.ts'
import { buildProgram, CODEC_SOURCES, COMPILER, hasSanitizer, runProgram } from './native.ts'
import { randomOf, wholeRandomOf } from './random.ts'
import { windowOf } from './windows.ts'

const { SEED: GIVEN = Date.now() % 2 ** 31 } = process.env
const SEED = Number(GIVEN)
const random = randomOf(SEED)
const below = wholeRandomOf(SEED + 1)
const pick = <Value>(values: readonly Value[]): Value => values[below(values.length)]!

const slotOf = () => {
  const input = new Float32Array(new SharedArrayBuffer(WINDOW_BYTES))
  return { input, inputBytes: new Uint8Array(input.buffer) }
}
const bodyOf = (numbers: readonly string[]) => Buffer.from(`{"x":${rowsOf(numbers)}}`)
const rowsOf = (numbers: readonly string[]) =>
  `[${Array.from({ length: 100 }, (_, step) => `[${numbers.slice(9 * step, 9 * step + 9)}]`)}]`
const numbersOf = (numberOf: (channel: number) => string) =>
  Array.from({ length: WINDOW_VALUES }, (_, index) => numberOf(index % 9))
const limitOf = (channel: number) => SENSORS[Math.floor(channel / 3)]!.limit

const typescript = new Codec('not wanted')

/** As programs print numbers. */
const NOTATIONS: Record<string, (value: number) => string> = {
  'JavaScript, Python': value => String(value),
  'float32, widened': value => String(Math.fround(value)),
  'float32, in its own digits': value => typescript.joinNumbers(Float32Array.of(value)),
  'whole numbers': value => String(Math.trunc(value)),
  'fixed to 2': value => value.toFixed(2),
  'fixed to 6': value => value.toFixed(6),
  'fixed to 15': value => value.toFixed(15),
  '17 significant digits': value => value.toPrecision(17),
  exponents: value => value.toExponential(8),
  'large exponents': value => value.toExponential(16).toUpperCase(),
}

/** A good window, its second number in other words. */
const REST = ',0'.repeat(7)
const ROW = '[1,0,0,0,0,0,0,0,0]'
const withNumber = (number: string) => `[[1,${number}${REST}]${`,${ROW}`.repeat(99)}]`
const WINDOW = withNumber('0')

const BROKEN = [
  ...[
    '',
    '-',
    '+1',
    '01',
    '-01',
    '00',
    '.5',
    '1.',
    '1.e2',
    '1e',
    '1e+',
    '1e1.5',
    '0x1',
    '1_0',
    '1 0',
    '--1',
    '1-',
    'NaN',
  ],
  ...[
    'Infinity',
    'null',
    'true',
    '"1"',
    '[1]',
    '{}',
    '1,1',
    '501',
    '-500.0000000000001',
    '1e300',
    '-1e3',
    '12345678',
  ],
  ...['1\0', '\0', '\v1', '\f1', '\u00a01', '1//', '٣'],
]
  .map(number => [JSON.stringify(number), Buffer.from(`{"x":${withNumber(number)}}`)] as const)
  .concat(
    Object.entries({
      nothing: '',
      blanks: '  \n',
      'a byte order mark': `\ufeff{"x":${WINDOW}}`,
      'a comma behind the window': `{"x":${WINDOW},}`,
      'a comma behind the rows': `{"x":${WINDOW.slice(0, -1)},]}`,
      'a comma in a row': `{"x":${WINDOW.replace(',0]', ',0,]')}}`,
      'something behind the object': `{"x":${WINDOW}}}`,
      'a zero behind the object': `{"x":${WINDOW}}\0`,
      'no end': `{"x":${WINDOW}`,
      'no colon': `{"x" ${WINDOW}}`,
      'no object': WINDOW,
      'another key': `{"y":${WINDOW}}`,
      'a longer key': `{"xx":${WINDOW}}`,
      'a blank in the key': `{"x ":${WINDOW}}`,
      'no quotes': `{x:${WINDOW}}`,
      '99 rows': `{"x":${WINDOW.replace(`,${ROW}`, '')}}`,
      '101 rows': `{"x":${WINDOW.replace(ROW, `${ROW},${ROW}`)}}`,
      'a row of 8': `{"x":${WINDOW.replace(',0]', ']')}}`,
      'a row of 10': `{"x":${WINDOW.replace(',0]', ',0,0]')}}`,
    }).map(([name, text]) => [name, Buffer.from(text)] as const),
  )

const UNUSUAL = Object.entries({
  'another key before': `{"dog":"Ada","x":${WINDOW}}`,
  'another key behind': `{"x":${WINDOW},"windows":[]}`,
  'the key twice': `{"x":[],"x":${WINDOW}}`,
  'an escaped key': `{"\\u0078":${WINDOW}}`,
  'bytes that are no UTF-8': Buffer.concat([
    Buffer.from(`{"x":${WINDOW},"`),
    Buffer.of(0xff),
    Buffer.from('":0}'),
  ]),
  'very many digits': `{"x":${withNumber(`0.1${'2'.repeat(300)}`)}}`,
  'a number too small for a float64': `{"x":${withNumber('1e-400')}}`,
}).map(([name, text]) => [name, Buffer.from(text)] as const)

describe.skipIf(COMPILER === null)(`the native codec (SEED=${SEED})`, () => {
  const native = loadCodec() as NativeCodec
  const codec = new Codec(native)

  test.each(Object.entries(NOTATIONS))('reads every window of ordinary numbers: %s', (_, notation) => {
    for (let round = 0; round < 20; round++) {
      const scale = 10 ** -below(5)
      const numbers = numbersOf(channel => notation((2 * random() - 1) * limitOf(channel) * scale))
      const { input } = slotOf()
      expect(native.parseWindow(bodyOf(numbers), 'x', input)).toBe(true)
      expect(bitsOf(input)).toEqual(bitsOf(Float32Array.from(numbers, Number)))
    }
  })

  test('reads windows however they are indented, and rows alone', () => {
    const rows = Array.from({ length: 100 }, (_, step) => [...windowOf(7).subarray(9 * step, 9 * step + 9)])
    for (const indent of ['', ' ', '\t', ' '.repeat(10)]) {
      const { input } = slotOf()
      const text = `\r\n ${JSON.stringify({ imu_window: rows }, null, indent)}\t\n`
      expect(native.parseWindow(Buffer.from(text), 'imu_window', input)).toBe(true)
      expect(input).toEqual(windowOf(7))
      expect(native.parseRows(Buffer.from(JSON.stringify(rows, null, indent)), input.fill(0))).toBe(true)
      expect(input).toEqual(windowOf(7))
    }
  })

  test.each([
    ['at the limit', '500.0'],
    ['rounded to the limit', '-500.00000000000001'],
    ['halfway between two float32', '1.000000059604644775390625'],
    ['next to halfway', '1.0000000596046448'],
    ['rounded to halfway first', '1.000000059604644775390626'],
    ['of very small float32', '1e-40'],
    ['that are too small for float32', '-1E-50'],
    ['of 19 digits', '0.1234567890123456789'],
    ['minus zero', '-0.0'],
    ['zero, however it is scaled', '0e9999'],
  ])('reads numbers exactly that are %s', (_, number) => {
    const { input } = slotOf()
    expect(native.parseWindow(Buffer.from(`{"x":${withNumber(number)}}`), 'x', input)).toBe(true)
    expect(input[1]).toBe(Math.fround(JSON.parse(number)))
  })

  test('takes a number only if it surely has the bits of Math.fround(JSON.parse())', () => {
    let taken = 0
    for (let round = 0; round < 5000; round++) {
      const number = oddNumber()
      taken += agree(Buffer.from(`{"x":${withNumber(number)}}`), ['x'], number)
    }
    expect(taken).toBeGreaterThan(2500)
  })

  test('takes a text only if it is a good window, whatever has become of it', () => {
    const bodies = [0, 1, 2].map(n =>
      bodyOf(numbersOf(channel => Object.values(NOTATIONS)[(channel + 3 * n) % 10]!(30 * random()))),
    )
    for (let round = 0; round < 1000; round++) {
      const body = mutated(pick(bodies))
      agree(body, pick([['x'], ['imu_window', 'x']]), `after ${round} rounds`)
    }
  })

  test.each(BROKEN)('leaves it to TypeScript to refuse %s', (_, body) => {
    expect(native.parseWindow(body, 'x', slotOf().input)).toBe(false)
    const fault = typescript.readBody(body, ['x'], slotOf())
    expect(fault).toMatch(/^Cannot (parse|accept) window: /)
    expect(codec.readBody(body, ['x'], slotOf())).toBe(fault)
  })

  test.each(UNUSUAL)('leaves it to TypeScript to take %s', (_, body) => {
    const slot = slotOf()
    expect(native.parseWindow(body, 'x', slot.input)).toBe(false)
    expect(codec.readBody(body, ['x'], slot)).toBeNull()
    expect(slot.input[0]).toBe(1)
  })

  test('copies a window from any address, whole and bit for bit', () => {
    for (let offset = 0; offset < 8; offset++) {
      const bytes = new Uint8Array(offset + WINDOW_BYTES)
      bytes.set(new Uint8Array(windowOf(offset).slice().buffer), offset)
      for (const either of [codec, typescript]) {
        const [behind, apart] = [slotOf(), slotOf()]
        expect(either.readWindow(bytes, behind, offset)).toBeNull()
        expect(bitsOf(behind.input)).toEqual(bitsOf(windowOf(offset)))
        expect(either.readWindow(bytes.subarray(offset), apart)).toBeNull()
        expect(bitsOf(apart.input)).toEqual(bitsOf(windowOf(offset)))
      }
    }
    for (const [byteCount, from] of [
      [WINDOW_BYTES - 1, 0],
      [WINDOW_BYTES, 1],
      [WINDOW_BYTES + 13, 12],
      [9, 4_294_967_295],
    ] as const) {
      expect(native.copyWindow(new Uint8Array(byteCount), from, slotOf().input)).toBe(false)
    }
  })

  test('copies what is at the limit of a sensor, and leaves what is beyond to TypeScript', () => {
    for (let index = 0; index < WINDOW_VALUES; index++) {
      const limit = limitOf(index % 9)
      for (const [value, good] of [
        [limit, true],
        [-limit, true],
        [limit * (1 + 2 ** -23), false],
        [-limit * (1 + 2 ** -23), false],
        [pick([Number.NaN, Infinity, -Infinity]), false],
      ] as const) {
        const window = new Float32Array(WINDOW_VALUES)
        window[index] = value
        const bytes = new Uint8Array(window.buffer)
        if (native.copyWindow(bytes, 0, slotOf().input) !== good) expect.fail(`${value} at ${index}`)
        if (!good) expect(codec.readWindow(bytes, slotOf())).toBe(typescript.readWindow(bytes, slotOf()))
      }
    }
  })

  test('prints float32 in the same digits as TypeScript does, and they give its bits again', () => {
    const values = Float32Array.from([
      ...Array.from({ length: 84 }, (_, exponent) => 10 ** (exponent - 45)),
      ...Array.from({ length: 200 }, (_, exponent) => 2 ** (exponent - 149)).filter(x => x !== 2 ** -96),
      ...Array.from({ length: 10_000 }, () => (2 * below(2 ** 23) + 1) / 2 ** below(20)), // halves of digits
      ...Array.from({ length: 10_000 }, () => random() - 0.5),
      ...new Float32Array(Uint32Array.from({ length: 10_000 }, () => below(2 ** 32)).buffer),
    ]).map(value => (Number.isFinite(value) ? value : -0))
    const text = native.joinNumbers(values)
    expect(text.split(',')).toEqual(typescript.joinNumbers(values).split(','))
    expect(bitsOf(Float32Array.from(JSON.parse(`[${text}]`)))).toEqual(bitsOf(values))
    expect(Math.max(...text.split(',').map(number => number.length))).toBeLessThan(24)
    expect(text.match(/\d(\.?\d){9,}(?=,|e|$)/g)?.filter(number => !/0$|^0/.test(number))).toEqual([])
  })

  test('throws at what is no window', () => {
    const window = new Float32Array(WINDOW_VALUES)
    const any = native as unknown as Record<keyof NativeCodec, (...args: unknown[]) => unknown>
    expect(() => any.copyWindow('text', 0, window)).toThrow(TypeError)
    expect(() => any.copyWindow(new Uint8Array(3600), 0, new Float32Array(899))).toThrow(TypeError)
    expect(() => any.parseWindow(new Uint8Array(9), 'x', new Float64Array(900))).toThrow(TypeError)
    expect(() => any.joinNumbers()).toThrow(TypeError)
  })

  /** Whether native code took the body; then TypeScript must have, with the same bits. */
  function agree(body: Uint8Array, keys: readonly string[], what: string): number {
    const [alone, with_, without] = [slotOf(), slotOf(), slotOf()]
    const taken = keys.some(key => native.parseWindow(body, key, alone.input))
    const fault = typescript.readBody(body, keys, without)
    if (codec.readBody(body, keys, with_) !== fault) expect.fail(`another answer: ${what}`)
    if (!taken) return 0
    if (fault !== null) expect.fail(`${what} was taken: ${fault}`)
    if (Buffer.compare(alone.inputBytes, without.inputBytes) !== 0) expect.fail(`other bits: ${what}`)
    return 1
  }
})

const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-O1']

test.skipIf(!hasSanitizer(SANITIZERS)).each([
  ['as on this machine', 'asan', []],
  ['in portable arithmetic', 'asan-portable', ['-U__SSE2__']],
])(
  'the native codec reads nothing beyond a text, wherever that ends: %s',
  { timeout: 60_000 },
  async (_, variant, flags) => {
    const options = { sources: CODEC_SOURCES, flags: [...SANITIZERS, ...flags], variant }
    const { code, stdout, stderr } = await runProgram(await buildProgram('codec_fuzz', options), [
      String(SEED),
    ])
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^[1-9]\d* of \d+ taken\n$/)
    expect(code).toBe(0)
  },
)

test('a build that is only tried tells that there is no compiler, and does not fail', () => {
  const args = ['dist/native/build.js', 'codec', '--if-possible']
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    env: { CXX: '/nowhere/c++' },
    encoding: 'utf8',
  })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(stdout).toMatch(/^.*TypeScript.*\n$/)
})

/** Near what float32 and float64 tell apart, near a limit, or of many digits. */
function oddNumber(): string {
  const value = (random() - 0.5) * 10 ** (3 - below(40))
  const float32 = Math.fround(value)
  const halfway = float32 * (1 + 2 ** -24 + pick([0, 0, 2 ** -52, -(2 ** -52), 2 ** -47]))
  const number = pick([value, float32, halfway, halfway, 500 * (1 + pick([0, 2 ** -52, -(2 ** -50)]))])
  return pick([
    () => String(number),
    () => number.toFixed(below(25)),
    () => number.toPrecision(1 + below(25)),
    () => number.toExponential(below(25)),
    () => `${'0.'.padEnd(below(40), '0')}${below(1e9)}`,
    () => `${below(600)}.${below(1e9)}${below(1e9)}`.slice(0, 1 + below(24)),
    () => `${pick(['', '-'])}${below(100)}${pick(['e', 'E'])}${pick(['', '+', '-'])}${below(40)}`,
  ])()
}

const PIECES = [
  '0',
  '9',
  '-',
  '+',
  '.',
  'e',
  ',',
  '[',
  ']',
  '{',
  '}',
  '"',
  ':',
  ' ',
  '\n',
  '\0',
  'é',
  '\\',
  ',"x":',
]

function mutated(body: Buffer): Buffer {
  const at = pick([below(8), below(body.length), body.length - below(8)])
  const end = pick([at, at, at + 1, at + 1, at + below(30), body.length])
  return Buffer.concat([body.subarray(0, at), Buffer.from(pick([...PIECES, ''])), body.subarray(end)])
}

function bitsOf({ buffer, byteOffset, length }: Float32Array): Int32Array {
  return new Int32Array(buffer, byteOffset, length)
}
