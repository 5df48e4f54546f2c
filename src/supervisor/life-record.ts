import { lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { monotonicMs } from '../clock.ts'
import { causeOf, type ExitCause } from './exits.ts'

const HOUR_MS = 3_600_000
/** So many starts are remembered: more within an hour is no other news. */
const MAX_STARTS = 100
/** A longer file is none of ours. */
const LONGEST_BYTES = 4096

/** What is kept on disk. */
const State = z.object({
  /** Of the starts of the hour before the last one, that one included, the newest last. */
  startsUnixMs: z.array(z.int().min(0)).max(MAX_STARTS),
  /** Null as long as the process runs: one that is killed leaves it so. */
  exitCode: z.int().min(0).max(255).nullable(),
})

/** How the process ended that served here before. */
export interface LastExit {
  /** Null where it could not tell. */
  readonly code: number | null
  /** `unknown`: nothing was left to read, or the code is none of EXITS. */
  readonly cause: ExitCause | 'killed' | 'unknown'
}

/** Where the process that serves an address keeps its record. Null for a port that the system chooses: no other start has it. */
export function recordPath(folder: string, host: string, port: number): string | null {
  return port === 0 ? null : join(folder, `${encodeURIComponent(host)}-${port}.json`)
}

/**
 * Tells the next process on this address how this one ended, and this one how the last did. To be made once the address
 * is its own: until then another process may still be writing.
 */
export class LifeRecord {
  readonly last: LastExit
  readonly #path: string | null
  readonly #failed: (error: unknown) => void
  readonly #startsUnixMs: readonly number[]
  /** The same, of the clock that nobody sets. */
  readonly #startsMs: readonly number[]

  /** @param failed told why nothing is kept: no record is worth a start */
  constructor(path: string | null, failed: (error: unknown) => void) {
    this.#path = path
    this.#failed = failed
    const left = this.#read()
    if (left === null) this.last = { code: null, cause: 'unknown' }
    else if (left.exitCode === null) this.last = { code: null, cause: 'killed' }
    else this.last = { code: left.exitCode, cause: causeOf(left.exitCode) ?? 'unknown' }

    const unixMs = Date.now()
    const earlier = (left?.startsUnixMs ?? []).filter(start => start <= unixMs && unixMs - start < HOUR_MS)
    this.#startsUnixMs = [...earlier, unixMs].slice(-MAX_STARTS)
    this.#startsMs = this.#startsUnixMs.map(start => monotonicMs() - (unixMs - start))
    this.#write(null)
  }

  /** Starts on this address within the last hour, this one included. */
  get recentStarts(): number {
    const nowMs = monotonicMs()
    return this.#startsMs.filter(start => nowMs - start < HOUR_MS).length
  }

  /** The last thing to call. */
  ended(exitCode: number): void {
    this.#write(exitCode)
  }

  #read(): z.infer<typeof State> | null {
    if (this.#path === null) return null
    try {
      const file = lstatSync(this.#path)
      if (!file.isFile() || file.size > LONGEST_BYTES) return null
      return State.parse(JSON.parse(readFileSync(this.#path, 'utf8')))
    } catch {
      return null
    }
  }

  /** Whole or not at all; what a reader may see is the old one or the new one. */
  #write(exitCode: number | null): void {
    if (this.#path === null) return
    const half = `${this.#path}.new`
    try {
      mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 })
      rmSync(half, { force: true })
      // Exclusively, as others may write to the folder: what lies there is not followed.
      writeFileSync(half, JSON.stringify({ startsUnixMs: this.#startsUnixMs, exitCode }), {
        flag: 'wx',
        mode: 0o600,
      })
      renameSync(half, this.#path)
    } catch (error) {
      this.#failed(error)
    }
  }
}
