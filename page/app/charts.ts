import uPlot from 'uplot'
import type { Tick } from '../../src/live/answer.ts'
import { byId } from './elements.ts'
import { failedOf, type Latencies, LIMIT_MS, perSecond, shedOf } from './history.ts'
import { type Ink, ink } from './scheme.ts'

const HEIGHT_PX = 190
/** Room for the numbers below. */
const X_AXIS_PX = 28
/** Room beside a chart: half of the first number below it reaches there. */
const Y_AXIS_PX = 24
const TICK_PX = 4
const GAP_PX = 5
const FONT = '12px system-ui, sans-serif'

/** How a line looks; index.html says what it is. */
interface Line {
  readonly ink: Ink
  readonly dash?: number[]
}

interface Drawn {
  readonly latency: uPlot
  readonly throughput: uPlot
  readonly queue: uPlot
}

/** The three charts. They are drawn once per tick, and have no cursor: an instrument, not a toy. */
export class Charts {
  #drawn: Drawn | null = null

  constructor() {
    new ResizeObserver(() => this.#fit()).observe(byId('latency', HTMLElement))
  }

  draw(ticks: readonly Tick[], { total, counts }: Latencies, edgesMs: readonly number[]): void {
    this.#drawn ??= {
      latency: makeBars('latency', edgesMs),
      throughput: makeLines('throughput', [
        { ink: 'accent' },
        { ink: 'bad', dash: [6, 3] },
        { ink: 'second', dash: [2, 3] },
      ]),
      queue: makeLines('queue', [{ ink: 'accent' }, { ink: 'second', dash: [2, 3] }]),
    }
    const { latency, throughput, queue } = this.#drawn
    const percent = counts.map(count => (total === 0 ? 0 : (100 * count) / total))
    latency.setData([counts.map((_, bucket) => bucket), percent])
    const end = (ticks.at(-1)?.tick ?? 0) + 1
    const seconds = ticks.map(({ tick }) => tick + 1 - end)
    const rate = (count: (tick: Tick) => number) => ticks.map(tick => perSecond([tick], count))
    throughput.setData([seconds, rate(tick => tick.answered), rate(shedOf), rate(failedOf)])
    queue.setData([seconds, ticks.map(tick => tick.wait_ms), ticks.map(tick => tick.depth)])
  }

  /** To be drawn anew, in other colours. */
  discard(): void {
    for (const chart of Object.values(this.#drawn ?? {})) chart.destroy()
    this.#drawn = null
  }

  #fit(): void {
    for (const chart of Object.values(this.#drawn ?? {}) as uPlot[]) {
      const width = chart.root.parentElement!.clientWidth
      if (width > 0 && width !== chart.width) chart.setSize({ width, height: HEIGHT_PX })
    }
  }
}

/** Bars of shares per bucket; the limit lies between two of them. */
function makeBars(id: string, edgesMs: readonly number[]): uPlot {
  const target = byId(id, HTMLElement)
  const labels = edgesMs.map(edge => (LABELLED.has(edge) ? `${edge}` : ''))
  const options: uPlot.Options = {
    ...common(target),
    scales: {
      x: { time: false, range: [-0.6, edgesMs.length + 0.6] },
      y: { range: (_, __, max) => [0, Math.max(max, 1) * 1.05] },
    },
    axes: [
      {
        ...axis(),
        size: X_AXIS_PX,
        grid: { show: false },
        splits: () => edgesMs.map((_, bucket) => bucket + 0.5),
        values: () => labels,
      },
      { ...axis(), size: widthOf, values: (_, splits) => splits.map(share => `${share} %`) },
    ],
    series: [
      {},
      {
        fill: ink('accent'),
        width: 0,
        paths: uPlot.paths.bars!({ size: [0.86, 64] }),
        points: { show: false },
      },
    ],
    hooks: { draw: [chart => drawLimit(chart, edgesMs.indexOf(LIMIT_MS) + 0.5)] },
  }
  return new uPlot(options, [[], []], target)
}

/** Those that fit below the bars, ms. */
const LABELLED = new Set([1, 3, 10, 20, 30, LIMIT_MS, 80, 250])

function makeLines(id: string, lines: readonly Line[]): uPlot {
  const target = byId(id, HTMLElement)
  const options: uPlot.Options = {
    ...common(target),
    scales: {
      x: { time: false, range: [-119, 0] },
      y: { range: (_, __, max) => [0, Math.max(max, 1) * 1.1] },
    },
    axes: [
      {
        ...axis(),
        size: X_AXIS_PX,
        splits: () => [-120, -90, -60, -30, 0],
        values: (_, splits) => splits.map(at => (at === 0 ? 'now' : `${at} s`)),
      },
      { ...axis(), size: widthOf },
    ],
    series: [
      {},
      ...lines.map(line => ({
        stroke: ink(line.ink),
        width: 1.75,
        dash: line.dash ?? [],
        points: { show: false },
      })),
    ],
  }
  return new uPlot(options, [[], ...lines.map(() => [])], target)
}

function common(
  target: HTMLElement,
): Pick<uPlot.Options, 'width' | 'height' | 'cursor' | 'legend' | 'padding'> {
  return {
    width: Math.max(120, target.clientWidth),
    height: HEIGHT_PX,
    cursor: { show: false },
    legend: { show: false },
    padding: [8, 18, 0, 0],
  }
}

function axis(): uPlot.Axis {
  const grid = { stroke: ink('grid'), width: 1 }
  return { font: FONT, stroke: ink('quiet'), grid, ticks: { ...grid, size: TICK_PX }, gap: GAP_PX }
}

/** Room for the widest of the numbers beside a chart. */
function widthOf({ ctx }: uPlot, numbers: readonly string[] | null): number {
  ctx.save()
  ctx.font = FONT
  const widths = (numbers ?? []).map(number => ctx.measureText(number).width)
  ctx.restore()
  return Math.max(Y_AXIS_PX, TICK_PX + GAP_PX + Math.ceil(Math.max(0, ...widths)))
}

function drawLimit({ ctx, bbox, valToPos }: uPlot, at: number): void {
  const x = Math.round(valToPos(at, 'x', true))
  ctx.save()
  ctx.strokeStyle = ctx.fillStyle = ink('bad')
  ctx.lineWidth = 2 * devicePixelRatio
  ctx.beginPath()
  ctx.moveTo(x, bbox.top)
  ctx.lineTo(x, bbox.top + bbox.height)
  ctx.stroke()
  ctx.font = `600 ${12 * devicePixelRatio}px system-ui, sans-serif`
  ctx.textAlign = 'right'
  ctx.textBaseline = 'top'
  ctx.fillText(`${LIMIT_MS} ms`, x - 5 * devicePixelRatio, bbox.top)
  ctx.restore()
}
