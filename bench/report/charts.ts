import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { goalChart, lineChart } from './chart.ts'
import type { Section } from './section.ts'

export interface Drawing {
  /** Of its file. */
  readonly name: string
  readonly title: string
  readonly svg: string
}

/** All that there is to draw of a suite. */
export function drawingsOf(suite: string, section: Section): Drawing[] {
  const goals = goalChart(section)
  const { title, charts = [] } = section
  return [
    ...(goals === null
      ? []
      : [{ name: `${suite}.svg`, title: `${title}: how far each goal is reached`, svg: goals }]),
    ...charts.map(chart => ({
      name: `${suite}-${chart.name}.svg`,
      title: chart.title,
      svg: lineChart(chart),
    })),
  ]
}

export function writeDrawings(folder: string, drawings: readonly Drawing[]): void {
  mkdirSync(folder, { recursive: true })
  for (const { name, svg } of drawings) writeFileSync(join(folder, name), svg)
}
