import { resolve } from 'node:path'
import { z } from 'zod'

/** A kind of value. Values arrive as text, from YAML also as lists of text. */
export interface Kind<Value> {
  readonly schema: z.ZodType<Value>
  /** Ends the sentence "… is not valid, expected …". */
  readonly expected: string
  /** One that is refused. Null: any text is taken. */
  readonly wrong: string | null
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const
const PYTHON_LOG_LEVELS = new Map([
  ['warning', 'warn'],
  ['critical', 'fatal'],
])

/** A drain lasts as long as the longest deadline, and containers are killed 10 s after they were asked to stop. */
const LONGEST_DEADLINE_MS = 9000

const DAY_S = 86_400
/** More would leave the model little time for others. */
const SHORTEST_GOLDEN_INTERVAL_S = 0.05

/** sun_path of Linux has 108 bytes, the last of which is 0; uWebSockets would write beyond them. */
const LONGEST_SOCKET_PATH_BYTES = 107

const MAX_RATE = 1_000_000

const decimal = z
  .string()
  .regex(/^\d+(\.\d+)?$/)
  .transform(Number)

export const text: Kind<string> = { schema: z.string(), expected: 'text', wrong: null }

export const path: Kind<string> = { schema: z.string(), expected: 'a path', wrong: null }

export const socketPath: Kind<string> = {
  schema: z.string().refine(path => Buffer.byteLength(resolve(path)) <= LONGEST_SOCKET_PATH_BYTES),
  expected: `a path of at most ${LONGEST_SOCKET_PATH_BYTES} bytes, counted from /`,
  wrong: '/'.padEnd(LONGEST_SOCKET_PATH_BYTES + 1, 'x'),
}

export function integer(min: number, max: number): Kind<number> {
  return {
    schema: decimal.pipe(z.int().min(min).max(max)),
    expected: `a whole number from ${min} to ${max}`,
    wrong: String(max + 1),
  }
}

export function powerOfTwo(min: number, max: number): Kind<number> {
  return {
    schema: decimal.pipe(z.int().min(min).max(max)).refine(number => (number & (number - 1)) === 0),
    expected: `a power of two from ${min} to ${max}`,
    wrong: String(max - 1),
  }
}

export const share: Kind<number> = {
  schema: decimal.pipe(z.number().max(1)),
  expected: 'a number from 0 to 1',
  wrong: '1.1',
}

export const deadlineMs: Kind<number> = {
  schema: decimal.pipe(z.number().positive().max(LONGEST_DEADLINE_MS)),
  expected: `a number above 0, at most ${LONGEST_DEADLINE_MS}`,
  wrong: String(LONGEST_DEADLINE_MS + 1),
}

export const goldenIntervalS: Kind<number> = {
  schema: decimal
    .pipe(z.number().max(DAY_S))
    .refine(seconds => seconds === 0 || seconds >= SHORTEST_GOLDEN_INTERVAL_S),
  expected: `0, or a number of seconds from ${SHORTEST_GOLDEN_INTERVAL_S} to ${DAY_S}`,
  wrong: '0.01',
}

export const toggle: Kind<boolean> = {
  schema: z.stringbool({ truthy: ['true', '1'], falsy: ['false', '0'] }),
  expected: 'true or false',
  wrong: 'yes',
}

export function oneOf<const Word extends string>(words: readonly Word[], wrong: string): Kind<Word> {
  return { schema: z.enum(words), expected: `one of ${words.join(' ')}`, wrong }
}

export const logLevel: Kind<(typeof LOG_LEVELS)[number]> = {
  schema: z
    .string()
    .toLowerCase()
    .transform(level => PYTHON_LOG_LEVELS.get(level) ?? level)
    .pipe(z.enum(LOG_LEVELS)),
  expected: `one of ${LOG_LEVELS.join(' ')}`,
  wrong: 'loud',
}

export const sha256: Kind<string> = {
  schema: z.hash('sha256').toLowerCase(),
  expected: '64 hex digits',
  wrong: 'abc',
}

export const headerValue: Kind<string> = {
  schema: z.string().regex(/^[!-~]([ -~]{0,62}[!-~])?$/),
  expected: '1 to 64 characters of printable ASCII with no space at either end',
  wrong: 'é',
}

export const list: Kind<string[]> = {
  schema: z
    .union([z.string(), z.array(z.string())])
    .transform(items => [items].flat().flatMap(item => item.split(',')))
    .transform(items => items.map(item => item.trim()).filter(item => item !== '')),
  expected: 'text separated by commas',
  wrong: null,
}

/** `20` or `20:100`. The burst is what comes in a second, unless it is told. */
export const rate: Kind<{ perSecond: number; burst: number }> = {
  schema: z
    .string()
    .regex(/^\d+(\.\d+)?(:\d+)?$/)
    .transform(text => text.split(':').map(Number))
    .transform(([perSecond, burst]) => ({ perSecond: perSecond!, burst: burst ?? Math.max(1, perSecond!) }))
    .refine(({ perSecond, burst }) => perSecond > 0 && burst >= 1 && Math.max(perSecond, burst) <= MAX_RATE),
  expected: `windows per second, or with a burst as 20:100, each at most ${MAX_RATE}`,
  wrong: '0',
}

export const url: Kind<string> = {
  schema: z.url({ protocol: /^https?$/ }),
  expected: 'a URL, as http://127.0.0.1:4318',
  wrong: '127.0.0.1:4318',
}

/** As OpenTelemetry has them: `name=value,name=value`, percent-encoded. */
export const headers: Kind<Record<string, string>> = {
  schema: z
    .string()
    .regex(/^ *[!#$%&'*+.^`|~\w-]+ *=[^,]*(, *[!#$%&'*+.^`|~\w-]+ *=[^,]*)*$/)
    .transform(text => text.split(',').map(pair => pair.split(/=(.*)/, 2).map(part => part.trim())))
    .refine(pairs => pairs.every(([, value]) => decoded(value!) !== null))
    .transform(pairs => Object.fromEntries(pairs.map(([name, value]) => [name!, decoded(value!)!]))),
  expected: 'name=value, … with percent-encoded values',
  wrong: 'Bearer',
}

/** Null where a percent sign begins nothing. */
function decoded(value: string): string | null {
  try {
    return decodeURIComponent(value)
  } catch {
    return null
  }
}
