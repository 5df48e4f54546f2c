import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { WINDOW_BYTES } from '../core/window.ts'
import { type FileSet, fileSetsIn } from './folder.ts'
import { KeptLine } from './line.ts'

/** A window that was kept, and where its samples are. */
export interface KeptWindow {
  readonly line: KeptLine
  readonly samplesPath: string
}

export interface DayOfKept {
  readonly windows: KeptWindow[]
  /** Lines that are not whole, or whose samples are not there: the end of a run that was killed. */
  readonly unreadable: number
}

/** All windows that were kept on a day, oldest first. */
export function keptOn(folder: string, day: string): DayOfKept {
  const sets = fileSetsIn(folder, [day]).filter(({ kind }) => kind === 'kept')
  const read = sets.map(keptIn)
  return {
    windows: read.flatMap(({ windows }) => windows),
    unreadable: read.reduce((sum, { unreadable }) => sum + unreadable, 0),
  }
}

function keptIn({ paths, bytes }: FileSet): DayOfKept {
  const linesPath = paths.find(path => path.endsWith('.ndjson'))
  const samplesPath = paths.find(path => path.endsWith('.f32'))
  if (linesPath === undefined || samplesPath === undefined) return { windows: [], unreadable: 0 }
  const text = readFileSync(linesPath, 'utf8')
  const rows = Math.floor((bytes - Buffer.byteLength(text)) / WINDOW_BYTES)
  const lines = text.split('\n').filter(line => line !== '')
  const windows = lines.flatMap(text => {
    const line = parsed(text)
    return line !== null && line.row < rows ? [{ line, samplesPath }] : []
  })
  return { windows, unreadable: lines.length - windows.length }
}

function parsed(text: string): KeptLine | null {
  try {
    return KeptLine.parse(JSON.parse(text))
  } catch {
    return null
  }
}

/** @returns float32[100][9], raw units, little-endian */
export function samplesOf({ line, samplesPath }: KeptWindow): Buffer {
  const bytes = Buffer.alloc(WINDOW_BYTES)
  const descriptor = openSync(samplesPath, 'r')
  try {
    readSync(descriptor, bytes, 0, WINDOW_BYTES, line.row * WINDOW_BYTES)
  } finally {
    closeSync(descriptor)
  }
  return bytes
}
