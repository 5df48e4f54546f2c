import { drawingsOf } from './charts.ts'
import { environmentLine, IDLE_LOAD_AVERAGE } from './environment.ts'
import type { Result, Results } from './results.ts'
import { isMet, type Row } from './section.ts'
import { figuresTable, remarks, rowsTable, type Table } from './words.ts'

/** Where the charts lie, seen from the page. */
export const CHARTS_FOLDER = 'performance'

/** docs/performance.md, as Markdown. */
export function page({ suites }: Results): string {
  const names = Object.keys(suites)
  const rows = Object.values(suites).flatMap(({ section }) => section.rows)
  return `# Performance

Written by \`npm run bench -- report\` from [results.json](${CHARTS_FOLDER}/results.json); do not edit. \`npm run bench\`
lists what can be measured and how long it takes; \`npm run bench -- all --json docs/performance/results.json\` measures
all of it again.

**How.** Every contender runs in a fresh process on the same machine as the load generator, nothing pinned; they take
turns, round by round, and the first part of every measurement is thrown away. A ratio is that of the medians; behind it
stand the least and the greatest ratio within a round, and the number of rounds. Every answer is compared with the one
that the server gave before the load, byte by byte: one that differs makes its row invalid. Ratios count; an absolute time
says which machine it was.

**CPU µs a window** is the server's processor time, of its main thread and of all its threads. **Cores** are those in use
by the main thread, by all of the server, and by the load generator; **limit** is what kept more from being done: a thread
of the \`server\` that had no more pauses, the \`machine\` with all cores busy, or nothing (\`none\`: answers were waited
for). The generator is in C++ and takes about as much as a bare echo; where it was the limit, the row says so.

${summary(rows)}
${names.map(name => part(name, suites[name]!)).join('\n')}`
}

function summary(rows: readonly Row[]): string {
  const verdicts = rows.map(row => ({ row, met: isMet(row) })).filter(({ met }) => met !== null)
  const missed = verdicts.filter(({ met }) => !met).map(({ row }) => row)
  const met = `${verdicts.length - missed.length} of ${verdicts.length} goals are met`
  return missed.length === 0 ? `${met}.\n` : `${met}. Missed: ${missed.map(({ name }) => name).join('; ')}.\n`
}

function part(name: string, { environment, command, isQuick, section }: Result): string {
  const warnings = [
    ...(isQuick ? ['taken with --quick: for a look, not figures'] : []),
    ...(environment.loadAverage > IDLE_LOAD_AVERAGE ? ['the machine was not idle'] : []),
    ...remarks(section),
  ]
  return [
    `## ${section.title}\n`,
    `${section.about}\n`,
    `\`${command}\` · ${environmentLine(environment)}\n`,
    markdown(rowsTable(section)),
    ...warnings.map(warning => `> ${warning}\n`),
    ...drawingsOf(name, section).map(({ name, title }) => `![${title}](${CHARTS_FOLDER}/${name})\n`),
    ...(section.figures.length === 0 ? [] : [markdown(figuresTable(section))]),
  ].join('\n')
}

function markdown({ head, rows }: Table): string {
  if (rows.length === 0) return ''
  const line = (cells: readonly string[]) =>
    `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |\n`
  return [line(head), `|${'---|'.repeat(head.length)}\n`, ...rows.map(line)].join('')
}
