import type { Section } from './section.ts'
import { figuresTable, remarks, rowsTable, type Table } from './words.ts'

/** A section as a terminal shows it. */
export function printed(section: Section): string {
  const { title, about } = section
  const notes = remarks(section).map(remark => `! ${remark}\n`)
  return [`${title}. ${about}\n`, columns(rowsTable(section)), notes.join(''), columns(figuresTable(section))]
    .filter(part => part !== '')
    .join('\n')
}

/** A table whose columns are as wide as they need to be. */
export function columns({ head, rows }: Table): string {
  if (rows.length === 0) return ''
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map(row => row[column]!.length)))
  return [head, ...rows]
    .map(
      row =>
        `${row
          .map((word, column) => word.padEnd(widths[column]!))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('')
}
