import { type Chart, isMet, type Row, type Section } from './section.ts'
import { quantity, short } from './words.ts'

const WIDTH = 760
const MARGIN = { left: 70, right: 130, top: 40, bottom: 50 }
const HEIGHT = 340
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7'] // told apart by all eyes: Okabe and Ito
const GRID = '#d8d8d8'
const INK = '#222222'
const TICKS = 5

/** Lines over a common axis, as SVG. */
export function lineChart({ title, x, y, isLogarithmic = false, lines }: Chart): string {
  const points = lines.flatMap(({ points }) => points).filter(([, value]) => value !== null)
  const right = WIDTH - MARGIN.right
  const bottom = HEIGHT - MARGIN.bottom
  const across = scale([0, Math.max(...points.map(([value]) => value))], [MARGIN.left, right])
  const values = points.map(([, value]) => value)
  const up = isLogarithmic
    ? logScale([Math.min(...values), Math.max(...values)], [bottom, MARGIN.top])
    : scale([0, Math.max(...values)], [bottom, MARGIN.top])
  return svg(HEIGHT, [
    text(MARGIN.left, 22, title, 'font-weight="bold"'),
    ...across.ticks.flatMap(tick => [
      line(across.at(tick), bottom, across.at(tick), MARGIN.top),
      text(across.at(tick), bottom + 18, short(tick), 'text-anchor="middle"'),
    ]),
    ...up.ticks.flatMap(tick => [
      line(MARGIN.left, up.at(tick), right, up.at(tick)),
      text(MARGIN.left - 8, up.at(tick) + 4, short(tick), 'text-anchor="end"'),
    ]),
    text((MARGIN.left + right) / 2, HEIGHT - 10, x, 'text-anchor="middle"'),
    text(14, MARGIN.top - 8, y, ''),
    ...lines.flatMap(({ name, points }, index) => {
      const colour = COLOURS[index % COLOURS.length]!
      const path = points.map(([x, y]) => `${round(across.at(x))},${round(up.at(y))}`)
      return [
        `<polyline points="${path.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        text(right + 10, MARGIN.top + 20 * (index + 1), name, `style="fill:${colour}"`),
      ]
    }),
  ])
}

const BAR = { height: 18, gap: 10, left: 330 }
/** Bars end here: how far something is beyond twice its goal is nobody's question. */
const MOST = 2

/** How far each row's goal is reached, as SVG: what is met ends right of the line. Null when there are no goals. */
export function goalChart({ title, rows }: Section): string | null {
  const withGoal = rows.filter(row => row.goal !== undefined && row.wrong === 0)
  if (withGoal.length === 0) return null
  const height = MARGIN.top + withGoal.length * (BAR.height + BAR.gap) + 30
  const across = scale([0, MOST], [BAR.left, WIDTH - MARGIN.right])
  const goalX = across.at(1)
  return svg(height, [
    text(14, 22, title, 'font-weight="bold"'),
    text(goalX, height - 8, 'goal', 'text-anchor="middle"'),
    ...withGoal.flatMap((row, index) => {
      const y = MARGIN.top + index * (BAR.height + BAR.gap)
      const length = across.at(Math.min(MOST, reached(row))) - BAR.left
      const colour = isMet(row) ? COLOURS[2] : COLOURS[1]
      return [
        text(BAR.left - 8, y + 13, row.name, 'text-anchor="end"'),
        `<rect x="${BAR.left}" y="${y}" width="${round(length)}" height="${BAR.height}" fill="${colour}"/>`,
        text(WIDTH - MARGIN.right + 8, y + 13, quantity(row.value.median, row.unit), ''),
      ]
    }),
    `<line x1="${round(goalX)}" y1="${MARGIN.top - 6}" x2="${round(goalX)}" y2="${height - 22}" stroke="${INK}"/>`,
  ])
}

/** 1 is the goal, more is better. */
function reached({ value, goal }: Row): number {
  return 'atLeast' in goal! ? value.median / goal.atLeast : goal!.atMost / value.median
}

interface Scale {
  readonly at: (value: number) => number
  readonly ticks: readonly number[]
}

function scale([, high]: [number, number], [from, to]: [number, number]): Scale {
  const step = niceStep(high / TICKS)
  const ticks = Array.from({ length: Math.floor(high / step) + 1 }, (_, index) => index * step)
  return { at: value => from + (value / high) * (to - from), ticks }
}

function logScale([low, high]: [number, number], [from, to]: [number, number]): Scale {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))]
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index))
  return { at: value => from + ((Math.log10(value) - first) / (last - first || 1)) * (to - from), ticks }
}

/** 1, 2 or 5 of some power of ten, at least so much. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least))
  return power * [1, 2, 5, 10].find(factor => factor * power >= least)!
}

function svg(height: number, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n')
}

function text(x: number, y: number, words: string, attributes: string): string {
  const escaped = words.replace(/[&<>]/g, sign => `&#${sign.charCodeAt(0)};`)
  return `<text x="${round(x)}" y="${round(y)}" fill="${INK}" ${attributes}>${escaped}</text>`
}

function line(x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${GRID}"/>`
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
