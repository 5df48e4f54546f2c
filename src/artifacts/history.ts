import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { HISTORY } from './current.ts'

/** Beyond this only the newest half is kept. */
export const MAX_HISTORY_CHANGES = 1000

/** The link of a folder was switched, or was about to be: it is written down before it is done. */
export type Change = z.infer<typeof Change>
const Change = z.object({
  /** ISO 8601, for people. */
  at: z.string(),
  by: z.enum(['promote', 'rollback']),
  /** Null: no version was served. */
  from: z.string().nullable(),
  to: z.string(),
})

/** The oldest first. What is not such a line, as one that a full disk has cut, is passed over. */
export function readHistory(folder: string): readonly Change[] {
  return linesIn(folder).flatMap(line => {
    try {
      return [Change.parse(JSON.parse(line))]
    } catch {
      return []
    }
  })
}

/** On the disk when it returns. */
export function remember(folder: string, change: Omit<Change, 'at'>): void {
  const lines = linesIn(folder)
  const line = JSON.stringify({ at: new Date().toISOString(), ...change })
  if (lines.length >= MAX_HISTORY_CHANGES) shorten(folder, lines.slice(-MAX_HISTORY_CHANGES / 2))
  const file = openSync(join(folder, HISTORY), 'a')
  try {
    // The line break comes first too, so that a line that was cut spoils no other.
    writeSync(file, `\n${line}\n`)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/**
 * The version that was served before `current` was promoted. A rollback is no promotion, so two go back by two.
 * Null: none is known.
 */
export function versionBefore(current: string | null, history: readonly Change[]): string | null {
  // Asked for what led to the current one, so that a change that never came to be, as its process was killed, is passed over.
  return history.findLast(({ by, to }) => by === 'promote' && to === current)?.from ?? null
}

function linesIn(folder: string): readonly string[] {
  try {
    return readFileSync(join(folder, HISTORY), 'utf8')
      .split('\n')
      .filter(line => line !== '')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function shorten(folder: string, lines: readonly string[]): void {
  const shorter = join(folder, `.${HISTORY}.${process.pid}`)
  writeFileSync(shorter, `${lines.join('\n')}\n`)
  renameSync(shorter, join(folder, HISTORY))
}
