import { MOTIF_LETTERS, type Tick } from '../../src/live/answer.ts'
import { moveLeft, sharpen } from './canvas.ts'
import { byId, withText, write, writeInto } from './elements.ts'
import { drawPiece, motifInWords, type Piece } from './motifs.ts'

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

interface Row {
  readonly item: HTMLLIElement
  readonly now: HTMLElement
  readonly canvas: HTMLCanvasElement
  /** Null: nothing is. */
  drawn: Drawn | null
}

/** What is on a canvas: the right edge, and where the last piece begins, which may yet grow. In ticks. */
interface Drawn {
  readonly end: number
  readonly open: number
  readonly width: number
}

/** The motifs of each client against time: a row per client, its newest answers on the right. */
export class Timeline {
  readonly #list = byId('lanes', HTMLOListElement)
  readonly #rows = new Map<number, Row>()

  draw(ticks: readonly Tick[], labels: readonly string[], cellMs: number): void {
    const streams = shownStreams(ticks)
    this.#arrange(streams)
    const wide = this.#list.clientWidth >= WIDE_PX
    const scale = { cellMs, ticks: wide ? 120 : 60 }
    for (const stream of streams) {
      const { now, canvas } = this.#rows.get(stream)!
      writeInto(now, inWords(ticks, stream, labels))
      canvas.ariaLabel = `In two minutes: ${sharesInWords(ticks, stream, labels)}`
    }
    const axis = byId('lanes-axis', HTMLElement)
    axis.hidden = streams.length === 0
    axis.children[0]!.textContent = `${scale.ticks} s ago`
    axis.children[1]!.textContent = `${scale.ticks / 2} s`
    write('lanes-summary', summaryOf(streams, ticks))
    // Behind all words: sizes are asked for here, for which the page is laid out once.
    const end = (ticks.at(-1)?.tick ?? 0) + 1
    for (const stream of streams) {
      drawRow(this.#rows.get(stream)!, piecesOf(ticks, stream, scale), { end, width: scale.ticks })
    }
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

  #makeRow(stream: number): Row {
    const item = document.createElement('li')
    const words = document.createElement('div')
    const name = withText('span', stream === 0 ? 'HTTP posts' : `Stream ${stream}`)
    name.className = 'lane-name'
    const now = withText('span', '')
    now.className = 'lane-now'
    words.append(name, now)
    const canvas = document.createElement('canvas')
    canvas.role = 'img'
    item.append(words, canvas)
    const row: Row = { item, now, canvas, drawn: null }
    // A browser that is short of memory takes what is drawn away.
    canvas.addEventListener('contextrestored', () => {
      row.drawn = null
    })
    this.#rows.set(stream, row)
    return row
  }
}

/** Moves what is drawn to the left and adds what is new: on a small machine all of it would take too long each second. */
function drawRow(row: Row, pieces: readonly Piece[], { end, width }: { end: number; width: number }): void {
  const { canvas, drawn } = row
  const { context, emptied } = sharpen(canvas)
  const known = !emptied && drawn !== null && drawn.width === width && drawn.end <= end ? drawn : null
  // Whole pixels, for any two ends: what is moved then lies where it would be drawn.
  const pixel = (tick: number) => Math.round((tick * canvas.width) / width)
  const left = (tick: number) => (pixel(tick) - pixel(end) + canvas.width) / devicePixelRatio
  if (known !== null) moveLeft(context, pixel(end) - pixel(known.end))
  const from = known?.open ?? end - width
  context.clearRect(left(from), 0, canvas.clientWidth, canvas.clientHeight)
  for (const piece of pieces) {
    if (piece.from < from) continue
    drawPiece(context, { ...piece, from: left(piece.from), to: left(piece.to) }, canvas.clientHeight)
  }
  row.drawn = { end, width, open: pieces.at(-1)?.from ?? end }
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

/** Neighbouring marks of one motif together, in ticks. */
function piecesOf(ticks: readonly Tick[], stream: number, { cellMs, ticks: width }: Scale): Piece[] {
  const shown = ticks.slice(-width)
  const end = (shown.at(-1)?.tick ?? 0) + 1
  const pieces: { motif: number; from: number; to: number }[] = []
  for (const { tick, span_ms, lanes } of shown) {
    const marks = lanes.find(lane => lane.stream === stream)?.marks ?? ''
    for (let cell = 0; cell < marks.length; cell++) {
      const motif = MOTIF_LETTERS.indexOf(marks[cell]!)
      if (motif === -1) continue
      const from = tick + Math.min(1, (cell * cellMs) / span_ms)
      const last = pieces.at(-1)
      if (last !== undefined) last.to = Math.min(last.to, from)
      const to = Math.min(end, from + HOLD_MS / 1000)
      if (last?.motif === motif && last.to === from) last.to = to
      else pieces.push({ motif, from, to })
    }
  }
  return pieces
}

/** What a client got in all ticks, by the motifs of its marks, most frequent first. */
function sharesInWords(ticks: readonly Tick[], stream: number, labels: readonly string[]): string {
  const marks = ticks.flatMap(({ lanes }) =>
    lanes.filter(lane => lane.stream === stream).flatMap(lane => [...lane.marks.replaceAll('.', '')]),
  )
  const counts = new Map<string, number>()
  for (const mark of marks) counts.set(mark, (counts.get(mark) ?? 0) + 1)
  return [...counts]
    .toSorted(([, a], [, b]) => b - a)
    .map(([letter, count]) => {
      const percent = Math.round((100 * count) / marks.length)
      return `${motifInWords(labels, MOTIF_LETTERS.indexOf(letter))} ${percent} %`
    })
    .join(', ')
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
