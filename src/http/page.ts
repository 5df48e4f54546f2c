import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CHANNELS } from '../core/window.ts'
import { PROJECT_FOLDER, RECORDING_FOLDER } from '../project.ts'
import { CSS, HTML, JAVASCRIPT, pagePart } from './page-part.ts'
import type { Answer } from './reply.ts'

/**
 * The live page: `GET /` for browsers, and its parts. Addresses in it are relative, so that it works also where a
 * proxy puts it into a folder.
 */

/** Nothing inline, nothing from elsewhere. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

/** What `GET /` answers depends on it. */
export const VARY = 'Accept, Origin'

/** What a build leaves behind. */
const BUILT = ['index.html', 'page.js', 'page.css', 'licences.txt']

const BINARY = 'application/octet-stream'
/** The recording ships with a release and does not change within it. */
const FOR_A_DAY = { 'Cache-Control': 'max-age=86400' }

/** What the page replays: float32[samples][9], a label per sample, and what is said about them. */
interface Excerpt {
  readonly about: object
  readonly samples: Uint8Array
  readonly labels: Uint8Array
}

/** As much of replay.json as is read here. */
interface About {
  readonly labels: readonly string[]
  readonly sample_rate_hz: number
  readonly segments: readonly { start: number; length: number; subject: string }[]
}

/**
 * The page and its parts, by their paths: nothing that a client sends becomes a file's name. Each is read when it is
 * asked for the first time.
 * @returns null when the page was not built; without the recording when that is not there
 */
export function livePage(): Readonly<Record<string, () => Answer>> | null {
  const built = join(PROJECT_FOLDER, 'dist/page')
  if (!BUILT.every(name => existsSync(join(built, name)))) return null
  const file = (type: string, name: string, headers = {}) => {
    const content = once(() => readFileSync(join(built, name)))
    return () => pagePart(type, content(), headers)
  }
  const page = {
    '/': file(HTML, 'index.html', { 'Content-Security-Policy': POLICY, Vary: VARY }),
    '/page/page.js': file(JAVASCRIPT, 'page.js'),
    '/page/page.css': file(CSS, 'page.css'),
    '/page/licences.txt': file('text/plain; charset=utf-8', 'licences.txt'),
  }
  if (!existsSync(join(RECORDING_FOLDER, 'replay.f32'))) return page
  const excerpt = once(lastPerson)
  return {
    ...page,
    '/page/recording.json': () => pagePart('application/json', JSON.stringify(excerpt().about), FOR_A_DAY),
    '/page/recording.f32': () => pagePart(BINARY, excerpt().samples, FOR_A_DAY),
    '/page/recording.u8': () => pagePart(BINARY, excerpt().labels, FOR_A_DAY),
  }
}

/** One person of the recording, some two minutes: all of it would be 2 MB. */
function lastPerson(): Excerpt {
  const all: About = JSON.parse(readFileSync(join(RECORDING_FOLDER, 'replay.json'), 'utf8'))
  const subject = all.segments.at(-1)!.subject
  const segments = all.segments.filter(segment => segment.subject === subject)
  const start = segments[0]!.start
  const end = segments.at(-1)!.start + segments.at(-1)!.length
  const sampleBytes = CHANNELS * 4
  return {
    about: {
      labels: all.labels,
      sample_rate_hz: all.sample_rate_hz,
      segments: segments.map(({ start: at, length }) => ({ start: at - start, length })),
    },
    samples: part(join(RECORDING_FOLDER, 'replay.f32'), start * sampleBytes, end * sampleBytes),
    labels: part(join(RECORDING_FOLDER, 'replay_labels.u8'), start, end),
  }
}

/** Copied, so that the rest of the file is not kept. */
function part(path: string, fromByte: number, toByte: number): Buffer {
  return Buffer.from(readFileSync(path).subarray(fromByte, toByte))
}

function once<Value>(make: () => Value): () => Value {
  let made: { readonly value: Value } | null = null
  return () => {
    made ??= { value: make() }
    return made.value
  }
}
