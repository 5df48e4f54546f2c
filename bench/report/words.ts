import { type Cost, isMet, type Row, type Section, type Unit } from './section.ts'
import type { Spread } from './spread.ts'

/** A table of words, whatever it will be printed on. */
export interface Table {
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** What each section was asked and is expected to reach. */
export function goalsTable(sections: readonly Section[]): Table {
  const rows = sections.flatMap(({ title, rows }) =>
    rows.filter(({ goal }) => goal !== undefined).map(row => ({ title, row })),
  )
  return { head: [...ROW_HEAD, 'of'], rows: rows.map(({ title, row }) => [...rowCells(row), title]) }
}

export function rowsTable({ rows }: Section): Table {
  return withoutEmptyColumns({
    head: [...ROW_HEAD, ...COST_HEAD],
    rows: rows.map(row => [...rowCells(row), ...costCells(row.cost)]),
  })
}

export function figuresTable({ figures }: Section): Table {
  return withoutEmptyColumns({
    head: [
      'contender',
      'load',
      'settings',
      'windows/s',
      'p50 ms',
      'p99 ms',
      'generator late, p99 ms',
      ...COST_HEAD,
    ],
    rows: figures.map(({ name, load, settings, windowsPerSecond, p50Ms, p99Ms, lagP99Ms, cost: used }) => [
      name,
      load,
      settings,
      range(windowsPerSecond),
      p50Ms === undefined ? '' : range(p50Ms),
      p99Ms === undefined ? '' : range(p99Ms),
      lagP99Ms === undefined ? '' : range(lagP99Ms),
      ...costCells(used),
    ]),
  })
}

/** What must be said beside the figures. */
export function remarks({ rows }: Section): string[] {
  const namesByDoubt = new Map<string, string[]>()
  for (const { name, wrong, doubts } of rows) {
    const invalid = wrong > 0 ? [`${wrong} WRONG ANSWERS: invalid`] : []
    for (const doubt of [...invalid, ...doubts])
      namesByDoubt.set(doubt, [...(namesByDoubt.get(doubt) ?? []), name])
  }
  return [...namesByDoubt].map(([doubt, names]) => `${names.join('; ')}: ${doubt}`)
}

/** `0.864× [0.851–0.87, 5 runs]` */
export function spread({ median, min, max, runs }: Spread, unit: Unit): string {
  const ends = runs === 1 ? '1 run' : `${short(min)}–${short(max)}, ${runs} runs`
  return `${quantity(median, unit)} [${ends}]`
}

function range({ median, min, max, runs }: Spread): string {
  return short(median) + (runs === 1 ? '' : ` [${short(min)}–${short(max)}]`)
}

export function quantity(value: number, unit: Unit): string {
  return short(value) + (unit === '×' || unit === '/s' ? unit : ` ${unit}`)
}

const ROW_HEAD = ['', 'row', 'against', 'value', 'goal']
const COST_HEAD = ['CPU µs a window', 'cores', 'limit']
const WHOLE = new Intl.NumberFormat('en')

function withoutEmptyColumns({ head, rows }: Table): Table {
  const keep = (_: string, column: number) => rows.some(row => row[column] !== '')
  return { head: head.filter(keep), rows: rows.map(row => row.filter(keep)) }
}

/** Three digits, or all there are before the point. JSON knows no NaN. */
export function short(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return '–'
  return Math.abs(value) >= 100 ? WHOLE.format(Math.round(value)) : String(Number(value.toPrecision(3)))
}

function rowCells(row: Row): string[] {
  const { name, against = '', value, unit, wrong } = row
  return [verdict(row), name, against, wrong > 0 ? '' : spread(value, unit), goal(row)]
}

function verdict(row: Row): string {
  const met = isMet(row)
  return met === null ? '' : met ? 'met' : row.wrong > 0 ? 'INVALID' : 'missed'
}

function goal({ goal, unit }: Row): string {
  if (goal === undefined) return ''
  return 'atLeast' in goal ? `≥ ${quantity(goal.atLeast, unit)}` : `≤ ${quantity(goal.atMost, unit)}`
}

function costCells(used: Cost | undefined): [string, string, string] {
  if (used === undefined) return ['', '', '']
  const { mainUs, serverUs, mainCores, serverCores, generatorCores, limit } = used
  const [main, server, generator] = [mainCores, serverCores, generatorCores].map(cores => cores.toFixed(2))
  return [`main ${short(mainUs)}, all ${short(serverUs)}`, `${main}, ${server}, ${generator}`, limit]
}
