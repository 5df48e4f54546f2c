import { drawingsOf } from './charts.ts'
import { dayOf, environmentLine, IDLE_LOAD_AVERAGE } from './environment.ts'
import type { Result, Results } from './results.ts'
import { isMet, type Section } from './section.ts'
import { figuresTable, goalsTable, remarks, rowsTable, type Table } from './words.ts'

/** Where the charts lie, seen from the page. */
export const CHARTS_FOLDER = 'performance'

/**
 * docs/performance.md, as Markdown.
 * @param names of the suites, in the order of the page
 * @param notes sections written by hand, for its end
 */
export function page(results: Results, names: readonly string[], notes = ''): string {
  const parts = names.flatMap(name => {
    const result = results.suites[name]
    return result === undefined ? [] : { name, ...result }
  })
  const days = [...new Set(parts.map(({ environment }) => dayOf(environment)))].sort().reverse()
  return `---
status: generated
project: hailo-inference
component: bench
updated: ${days[0] ?? 'never'}
---

[hailo-inference](../README.md) · [Documentation](README.md) · **Performance**

# Performance

Written by \`npm run bench -- report\` from [results.json](${CHARTS_FOLDER}/results.json); do not edit. \`npm run bench\`
lists what can be measured and how long it takes; \`npm run bench -- all --json docs/performance/results.json\` measures
all of it again.

**How.** Every contender runs in a fresh process beside the load generator, nothing pinned; contenders take turns, round
by round, in every second round the other way about, and the first part of every measurement is thrown away. A ratio is
taken in each round: the median is shown, in brackets the least and the greatest, and the number of rounds. Every answer is compared, byte by byte, with the one
that the same server gave before the load; one that differs makes its row invalid. A backend that does nothing answers
with a value of the window it was given; only the bare echo cannot mix up its answers, as they are all the same. Ratios count: an absolute time only
says which machine it was.

**CPU µs a window** is the server's processor time: of its main thread, and of all its threads. **Cores** are how many of
them the main thread, the whole server and the generator had in use. **Limit** is what kept more from being done: a thread
of the \`server\` without pauses, the \`machine\` with all its cores in use, or nothing (\`none\`: answers were waited for).
The generator is written in C++ to be cheaper than what it loads; where it had hardly any pauses all the same, beside
either contender, or sent what was due at a rate late itself, the row says so.

## Goals

${goalsPart(parts.map(({ section }) => section))}
${parts.map(part).join('\n')}
${notes === '' ? '' : `${notes}\n`}## Change log

${days.map(day => `- ${day}: Measured ${suitesOf(day, parts)}.\n`).join('')}`
}

/** What a page of the documentation has between its title and its change log: its sections. */
export function sectionsOf(page: string): string {
  const [sections] = /^## .*?(?=^## Change log$)/ms.exec(page)!
  return `${sections.trimEnd()}\n`
}

function suitesOf(day: string, parts: readonly Part[]): string {
  const measured = parts.filter(({ environment }) => dayOf(environment) === day)
  return measured.map(({ name }) => `\`${name}\``).join(', ')
}

function goalsPart(sections: readonly Section[]): string {
  const { head, rows } = goalsTable(sections)
  const met = sections.flatMap(({ rows }) => rows.filter(isMet))
  return `${met.length} of ${rows.length} are met.\n\n${markdown({ head, rows })}`
}

interface Part extends Result {
  /** Of the suite. */
  readonly name: string
}

function part({ name, environment, command, isQuick, section }: Part): string {
  const warnings = [
    ...(isQuick ? ['Taken with --quick: for a look, no figures.'] : []),
    ...(environment.loadAverage > IDLE_LOAD_AVERAGE ? ['The machine was not idle.'] : []),
    ...remarks(section),
  ]
  return [
    `## ${section.title}\n`,
    `${section.about}\n`,
    `\`${command}\` · ${environmentLine(environment)}\n`,
    markdown(rowsTable(section)),
    ...(warnings.length === 0 ? [] : [`${warnings.map(warning => `> - ${warning}\n`).join('')}`]),
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
