import { MOTIF_LETTERS, type Tick } from '../../src/live/answer.ts'
import { byId, withText, write } from './elements.ts'
import { clear, drawPiece, motifInWords, type Piece } from './motifs.ts'

/** At most so many are drawn: those with the latest answers. */
const MOST_LANES = 16
/** A motif is drawn until the next answer, but not longer than this: windows of live sensors come each half second. */
const HOLD_MS = 1100
/** Below this width only one minute is shown. */
const WIDE_PX = 560
const RATE_TICKS = 5

interface Scale {
  readonly cellMs: number
  /** Ticks from the left edge to the right. */
  readonly ticks: number
}

/** The motifs of each client against time: a row per client, its newest answers on the right. */
export class Timeline {
  readonly #list = byId('lanes', HTMLOListElement)
  readonly #rows = new Map<number, { item: HTMLLIElement; now: HTMLElement; canvas: HTMLCanvasElement }>()

  draw(ticks: readonly Tick[], labels: readonly string[], cellMs: number): void {
    const streams = shownStreams(ticks)
    this.#arrange(streams)
    const wide = this.#list.clientWidth >= WIDE_PX
    const scale = { cellMs, ticks: wide ? 120 : 60 }
    for (const stream of streams) {
      const { now, canvas } = this.#rows.get(stream)!
      const pieces = piecesOf(ticks, stream, scale)
      now.textContent = inWords(ticks, stream, labels)
      const context = clear(canvas)
      const { clientWidth, clientHeight } = canvas
      for (const { motif, from, to } of pieces) {
        drawPiece(context, { motif, from: from * clientWidth, to: to * clientWidth }, clientHeight)
      }
    }
    const axis = byId('lanes-axis', HTMLElement)
    axis.hidden = streams.length === 0
    axis.children[0]!.textContent = `${scale.ticks} s ago`
    axis.children[1]!.textContent = `${scale.ticks / 2} s`
    write('lanes-summary', summaryOf(streams, ticks))
  }

  /** Keeps the rows that stay: what a screen reader is at must not be made anew each second. */
  #arrange(streams: readonly number[]): void {
    for (const [stream, { item }] of this.#rows) {
      if (streams.includes(stream)) continue
      item.remove()
      this.#rows.delete(stream)
    }
    for (const [index, stream] of streams.entries()) {
      const row = this.#rows.get(stream) ?? this.#makeRow(stream)
      if (this.#list.children[index] !== row.item) {
        this.#list.insertBefore(row.item, this.#list.children[index] ?? null)
      }
    }
  }

  #makeRow(stream: number) {
    const item = document.createElement('li')
    const words = document.createElement('div')
    const name = withText('span', stream === 0 ? 'HTTP posts' : `Stream ${stream}`)
    name.className = 'lane-name'
    const now = withText('span', '')
    now.className = 'lane-now'
    words.append(name, now)
    const canvas = document.createElement('canvas')
    canvas.ariaHidden = 'true' // the words beside it say what it shows
    item.append(words, canvas)
    const row = { item, now, canvas }
    this.#rows.set(stream, row)
    return row
  }
}

/** In the order of their numbers. */
function shownStreams(ticks: readonly Tick[]): number[] {
  const lastSeen = new Map<number, number>()
  for (const { tick, lanes } of ticks) for (const { stream } of lanes) lastSeen.set(stream, tick)
  return [...lastSeen]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, MOST_LANES)
    .map(([stream]) => stream)
    .toSorted((a, b) => a - b)
}

/** @param streams those that are shown */
function summaryOf(streams: readonly number[], ticks: readonly Tick[]): string {
  if (streams.length === 0) return 'No windows in the last two minutes. “Try it” below sends some.'
  const count = streams.filter(stream => stream !== 0).length
  const parts = [count === 1 ? '1 stream' : `${count} streams`, 'what is posted over HTTP']
  const who = parts.filter((_, part) => (part === 0 ? count > 0 : streams.includes(0))).join(' and ')
  const hidden = ticks.slice(-RATE_TICKS).some(tick => tick.hidden > 0)
  return `Answers of the last two minutes to ${who}${hidden ? '; there are more streams, which find no place here' : ''}.`
}

/** Neighbouring marks of one motif together, in shares of the width. */
function piecesOf(ticks: readonly Tick[], stream: number, { cellMs, ticks: width }: Scale): Piece[] {
  const shown = ticks.slice(-width)
  const end = (shown.at(-1)?.tick ?? 0) + 1
  const pieces: { motif: number; from: number; to: number }[] = []
  for (const { tick, span_ms, lanes } of shown) {
    const marks = lanes.find(lane => lane.stream === stream)?.marks ?? ''
    for (let cell = 0; cell < marks.length; cell++) {
      const motif = MOTIF_LETTERS.indexOf(marks[cell]!)
      if (motif === -1) continue
      const from = (tick + Math.min(1, (cell * cellMs) / span_ms) - end) / width + 1
      const last = pieces.at(-1)
      if (last !== undefined) last.to = Math.min(last.to, from)
      const to = Math.min(1, from + HOLD_MS / 1000 / width)
      if (last?.motif === motif && last.to === from) last.to = to
      else pieces.push({ motif, from: Math.max(0, from), to })
    }
  }
  return pieces
}

/** What a client gets at the moment: motif and rate. */
function inWords(ticks: readonly Tick[], stream: number, labels: readonly string[]): string {
  const recent = ticks.slice(-RATE_TICKS).flatMap(({ lanes }) => lanes.filter(lane => lane.stream === stream))
  const motifs = recent
    .map(({ marks }) => marks)
    .join('')
    .replaceAll('.', '')
  if (motifs === '') return 'silent'
  const rate = recent.reduce((sum, { answered }) => sum + answered, 0) / RATE_TICKS
  return `${motifInWords(labels, MOTIF_LETTERS.indexOf(motifs.at(-1)!))}, ${rate.toFixed(1)}/s`
}
