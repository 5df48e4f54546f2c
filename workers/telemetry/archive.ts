import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  rmdirSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { WINDOW_BYTES } from '../../src/core/window.ts'
import type { TelemetryCounters } from '../../src/telemetry/counters.ts'
import {
  dayOf,
  FILE_MODE,
  type FileKind,
  type FileSet,
  FOLDER_MODE,
  fileBase,
  fileSetsIn,
} from '../../src/telemetry/folder.ts'

const LARGEST_FILE_BYTES = 16e6
/** So that the files being written never fill the budget: then there is always something else to remove. */
const FILES_PER_BUDGET = 8

/**
 * The files of telemetry: rotated by size and day, the oldest removed when the budget is used up. All of it blocks, on a
 * thread that has nothing else to do: asynchronous writes to a disk that hangs would take the process' few threads
 * for such, and ONNX Runtime with them. What throws is an error of the disk; nothing half written is left by it.
 */
export class Archive {
  readonly #folder: string
  readonly #budgetBytes: number
  readonly #fileBytes: number
  readonly #counters: TelemetryCounters
  readonly #open: Record<FileKind, OpenSet | null> = { answers: null, kept: null }
  #scanned = false

  constructor(folder: string, budgetBytes: number, counters: TelemetryCounters) {
    this.#folder = folder
    this.#budgetBytes = budgetBytes
    this.#fileBytes = Math.min(LARGEST_FILE_BYTES, budgetBytes / FILES_PER_BUDGET)
    this.#counters = counters
  }

  /** Looks what is there, of an earlier run too, and removes what is too much. */
  scan(): void {
    this.#makeRoom(0)
    this.#scanned = true
  }

  /** @param lines with their ends @param nowMs Unix time */
  addLines(lines: string, nowMs: number): void {
    const bytes = Buffer.from(lines)
    this.#append(this.#fitting('answers', bytes.length, nowMs).lines, bytes)
  }

  /**
   * @param window float32[100][9] @param lineOf the window's line, with its end
   * @param nowMs Unix time
   */
  addKept(window: Float32Array, lineOf: (row: number) => string, nowMs: number): void {
    const { lines, samples } = this.#fitting('kept', WINDOW_BYTES, nowMs)
    const line = Buffer.from(lineOf(samples!.bytes / WINDOW_BYTES))
    // First the samples: a line always has its own, and samples without a line are passed over by all.
    this.#append(samples!, Buffer.from(Float32Array.from(window).buffer))
    this.#append(lines, line)
  }

  close(): void {
    this.#closeSet('answers')
    this.#closeSet('kept')
  }

  /** Where so much more may be added: a new file when the day is over, when the last one is full or has gone. */
  #fitting(kind: FileKind, moreBytes: number, nowMs: number): OpenSet {
    if (!this.#scanned) this.scan()
    const day = dayOf(nowMs)
    const set = this.#open[kind]
    if (set !== null && set.day === day && set.largestBytes + moreBytes <= this.#fileBytes && !set.gone) {
      return set
    }
    this.#closeSet(kind)
    mkdirSync(dirname(fileBase(this.#folder, day, kind, 0)), { recursive: true, mode: FOLDER_MODE })
    const taken = fileSetsIn(this.#folder, [day]).filter(other => other.kind === kind)
    const opened = this.#openNew(kind, day, 1 + (taken.at(-1)?.number ?? 0))
    this.#open[kind] = opened
    // The folder may have gone meanwhile, with all that was in it.
    this.#makeRoom(0)
    return opened
  }

  /** Under the first number from `number` on that nobody has: another server may write there too. */
  #openNew(kind: FileKind, day: string, number: number): OpenSet {
    for (let free = number; ; free++) {
      try {
        return new OpenSet(fileBase(this.#folder, day, kind, free), { kind, day, number: free })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
    }
  }

  #closeSet(kind: FileKind): void {
    const set = this.#open[kind]
    this.#open[kind] = null // first: what cannot be closed is not closed again
    set?.close()
  }

  #append(file: GrowingFile, bytes: Buffer): void {
    if (this.#counters.diskBytes + bytes.length > this.#budgetBytes) this.#makeRoom(bytes.length)
    file.append(bytes)
    this.#counters.diskBytes += bytes.length
  }

  /** Of the kind that takes more room the oldest: many lines do not drive out the windows that were kept. */
  #makeRoom(moreBytes: number): void {
    const sets = fileSetsIn(this.#folder)
    const total = () => sets.reduce((sum, { bytes }) => sum + bytes, 0)
    while (total() + moreBytes > this.#budgetBytes) {
      const oldest = this.#oldestOfLarger(sets)
      if (oldest === undefined) break
      for (const path of oldest.paths) rmSync(path, { force: true })
      this.#counters.countRemovedFiles(oldest.paths.length)
      sets.splice(sets.indexOf(oldest), 1)
      removeIfEmpty(dirname(oldest.paths[0]!))
    }
    this.#counters.diskBytes = total()
  }

  #oldestOfLarger(sets: readonly FileSet[]): FileSet | undefined {
    const closed = sets.filter(set => !this.#open[set.kind]?.is(set))
    const bytesOf = (kind: FileKind) =>
      sets.reduce((sum, set) => sum + (set.kind === kind ? set.bytes : 0), 0)
    const larger = bytesOf('answers') > bytesOf('kept') ? 'answers' : 'kept'
    return closed.find(({ kind }) => kind === larger) ?? closed[0]
  }
}

/** The files of a kind that are being written. */
class OpenSet {
  readonly day: string
  readonly lines: GrowingFile
  /** Null: lines of this kind have none. */
  readonly samples: GrowingFile | null
  readonly #number: number

  constructor(base: string, { kind, day, number }: Pick<FileSet, 'kind' | 'day' | 'number'>) {
    this.day = day
    this.#number = number
    this.samples = kind === 'kept' ? new GrowingFile(`${base}.f32`) : null
    try {
      this.lines = new GrowingFile(`${base}.ndjson`)
    } catch (error) {
      this.samples?.close()
      rmSync(`${base}.f32`, { force: true })
      throw error
    }
  }

  /** @param set of the same kind */
  is({ day, number }: FileSet): boolean {
    return day === this.day && number === this.#number
  }

  get largestBytes(): number {
    return Math.max(this.lines.bytes, this.samples?.bytes ?? 0)
  }

  /** Nobody would find what is written to it. */
  get gone(): boolean {
    return this.lines.gone || (this.samples?.gone ?? false)
  }

  close(): void {
    try {
      this.lines.close()
    } finally {
      this.samples?.close()
    }
  }
}

/** A file that only grows, by whole pieces. */
class GrowingFile {
  bytes = 0
  readonly #descriptor: number
  #torn = false

  constructor(path: string) {
    this.#descriptor = openSync(path, 'ax', FILE_MODE)
  }

  /** Removed by somebody, or holding half a piece that could not be taken back. */
  get gone(): boolean {
    try {
      return this.#torn || fstatSync(this.#descriptor).nlink === 0
    } catch {
      return true // as of a file server that has forgotten it
    }
  }

  append(piece: Buffer): void {
    try {
      for (let at = 0; at < piece.length; ) at += writeSync(this.#descriptor, piece, at)
    } catch (error) {
      this.#takeBack()
      throw error
    }
    this.bytes += piece.length
  }

  close(): void {
    closeSync(this.#descriptor)
  }

  #takeBack(): void {
    try {
      ftruncateSync(this.#descriptor, this.bytes)
    } catch {
      this.#torn = true
    }
  }
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder)
  } catch {
    // Something else lies in it.
  }
}
