import uPlot from 'uplot'
import type { Tick } from '../../src/live/answer.ts'
import { byId } from './elements.ts'
import { failedOf, type Latencies, LIMIT_MS, shedOf } from './history.ts'
import { type Ink, ink } from './scheme.ts'

const HEIGHT_PX = 190
/** Room for the numbers. */
const X_AXIS_PX = 28
const Y_AXIS_PX = 44
const FONT = '12px system-ui, sans-serif'

/** How a line looks; index.html says what it is. */
interface Line {
  readonly ink: Ink
  readonly dash?: number[]
}

/** The three charts. They are drawn once per tick, and have no cursor: an instrument, not a toy. */
export class Charts {
  #latency: uPlot | null = null
  #throughput: uPlot | null = null
  #queue: uPlot | null = null
  #edges: readonly number[] = []

  constructor() {
    const resize = () => {
      for (const chart of this.#all) {
        const width = chart.root.parentElement!.clientWidth
        if (width > 0 && width !== chart.width) chart.setSize({ width, height: HEIGHT_PX })
      }
    }
    new ResizeObserver(resize).observe(byId('latency', HTMLElement))
  }

  draw(ticks: readonly Tick[], latencies: Latencies, edgesMs: readonly number[]): void {
    this.#edges = edgesMs
    const [throughput, queue] = (
      this.#throughput === null ? this.#make() : [this.#throughput, this.#queue!]
    ) as [uPlot, uPlot]
    const { total, counts } = latencies
    const shares = counts.map(count => (total === 0 ? 0 : (100 * count) / total))
    this.#latency!.setData([counts.map((_, bucket) => bucket), shares])
    const end = (ticks.at(-1)?.tick ?? 0) + 1
    const seconds = ticks.map(({ tick }) => tick + 1 - end)
    const rate = (count: (tick: Tick) => number) =>
      ticks.map(tick => (count(tick) * 1000) / Math.max(1, tick.span_ms))
    throughput.setData([seconds, rate(tick => tick.answered), rate(shedOf), rate(failedOf)])
    queue.setData([seconds, ticks.map(tick => tick.wait_ms), ticks.map(tick => tick.depth)])
  }

  /** To be drawn anew, in other colours. */
  discard(): void {
    for (const chart of this.#all) chart.destroy()
    this.#latency = this.#throughput = this.#queue = null
  }

  get #all(): uPlot[] {
    return [this.#latency, this.#throughput, this.#queue].filter(chart => chart !== null)
  }

  #make(): [uPlot, uPlot] {
    this.#latency = this.#makeLatency()
    this.#throughput = makeLines('throughput', [
      { ink: 'accent' },
      { ink: 'bad', dash: [6, 3] },
      { ink: 'second', dash: [2, 3] },
    ])
    this.#queue = makeLines('queue', [{ ink: 'accent' }, { ink: 'second', dash: [2, 3] }])
    return [this.#throughput, this.#queue]
  }

  /** Bars of shares per bucket; the limit lies between two of them. */
  #makeLatency(): uPlot {
    const edges = this.#edges
    const limit = edges.indexOf(LIMIT_MS) + 0.5
    const target = byId('latency', HTMLElement)
    const options: uPlot.Options = {
      ...common(target),
      scales: {
        x: { time: false, range: [-0.6, edges.length + 0.6] },
        y: { range: (_, __, max) => [0, Math.max(max, 1) * 1.05] },
      },
      axes: [
        {
          ...axis(),
          size: X_AXIS_PX,
          grid: { show: false },
          splits: () => edges.map((_, bucket) => bucket + 0.5),
          values: (_, splits) =>
            splits.map((_, bucket) => (LABELLED.has(edges[bucket]!) ? `${edges[bucket]}` : '')),
        },
        { ...axis(), size: Y_AXIS_PX, values: (_, splits) => splits.map(share => `${share} %`) },
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
      hooks: { draw: [chart => drawLimit(chart, limit)] },
    }
    return new uPlot(options, [[], []], target)
  }
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
      { ...axis(), size: Y_AXIS_PX },
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
  return { font: FONT, stroke: ink('quiet'), grid, ticks: { ...grid, size: 4 } }
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
