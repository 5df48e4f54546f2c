import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { type FileKind, fileSetsIn } from '../src/telemetry/folder.ts'
import { type AnswerLine, type ErrorLine, type KeptLine, Line } from '../src/telemetry/line.ts'

/** A folder that goes with the test. */
export function folderForTest(): string {
  const folder = mkdtempSync(join(tmpdir(), 'telemetry-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Files by their names from the folder on, oldest first. */
export function filesIn(folder: string, kind?: FileKind): string[] {
  return fileSetsIn(folder)
    .filter(set => kind === undefined || set.kind === kind)
    .flatMap(({ paths }) => paths.map(path => path.slice(folder.length + 1)))
}

/** All lines of answers, each as the schema has it. @throws when one is not */
export function linesIn(folder: string): (AnswerLine | ErrorLine)[] {
  return textLinesIn(folder, 'answers').map(text => Line.parse(JSON.parse(text)))
}

export function keptIn(folder: string): KeptLine[] {
  return textLinesIn(folder, 'kept').map(text => JSON.parse(text))
}

function textLinesIn(folder: string, kind: FileKind): string[] {
  return filesIn(folder, kind)
    .filter(name => name.endsWith('.ndjson'))
    .flatMap(name => readFileSync(join(folder, name), 'utf8').split('\n'))
    .filter(line => line !== '')
}
