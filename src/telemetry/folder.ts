import { type Dirent, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** answers: a line per answer. kept: windows worth labelling, and beside their lines their samples. */
export type FileKind = 'answers' | 'kept'

/** Recordings of movement: for this user and its group alone. */
export const FOLDER_MODE = 0o750
export const FILE_MODE = 0o640

const DAY = /^\d{4}-\d{2}-\d{2}$/
const FILE = /^(answers|kept)-(\d{3,9})\.(ndjson|f32)$/

/** What was written together: a file of lines, and of kept windows also their samples. */
export interface FileSet {
  readonly kind: FileKind
  readonly day: string
  /** Grows within a day. */
  readonly number: number
  readonly paths: string[]
  bytes: number
}

/** @param timeMs Unix time @returns YYYY-MM-DD, UTC */
export function dayOf(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 10)
}

export function isDay(text: string): boolean {
  return DAY.test(text)
}

/** Without the ending. */
export function fileBase(folder: string, day: string, kind: FileKind, number: number): string {
  return join(folder, day, `${kind}-${String(number).padStart(3, '0')}`)
}

/** Days that the folder has files of, oldest first. */
export function daysIn(folder: string): string[] {
  return entriesOf(folder)
    .filter(entry => entry.isDirectory() && isDay(entry.name))
    .map(({ name }) => name)
    .sort()
}

/** What telemetry has written, oldest first, and nothing else that may lie there. */
export function fileSetsIn(folder: string, days = daysIn(folder)): FileSet[] {
  return days.flatMap(day => {
    const sets = new Map<string, FileSet>()
    for (const entry of entriesOf(join(folder, day))) {
      const [, kind, digits] = FILE.exec(entry.name) ?? []
      if (kind === undefined || !entry.isFile()) continue
      const path = join(folder, day, entry.name)
      const number = Number(digits)
      const key = `${kind} ${number}`
      const set = sets.get(key) ?? { kind: kind as FileKind, day, number, paths: [], bytes: 0 }
      sets.set(key, set)
      set.paths.push(path)
      set.bytes += statSync(path, { throwIfNoEntry: false })?.size ?? 0
    }
    return [...sets.values()].sort((a, b) => a.number - b.number)
  })
}

/** None of a folder that is not there, or goes away at this moment. */
function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
