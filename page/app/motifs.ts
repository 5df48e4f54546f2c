import { MOTIF_LETTERS } from '../../src/live/answer.ts'
import { clear } from './canvas.ts'
import { byId, withText } from './elements.ts'

/** Okabe and Ito's, which people with any kind of colour blindness tell apart; `ink` is what is read best on each. */
const FILLS = [
  { fill: '#0072b2', ink: '#ffffff' },
  { fill: '#e69f00', ink: '#000000' },
  { fill: '#009e73', ink: '#000000' },
  { fill: '#cc79a7', ink: '#000000' },
  { fill: '#d55e00', ink: '#000000' },
  { fill: '#f0e442', ink: '#000000' },
] as const
/** Pixels from one stripe to the next, of the motifs beyond the first six. */
const STRIPES = 7
const LETTER_PX = 12

/** A piece of a strip in one motif, from left to right. */
export interface Piece {
  readonly motif: number
  readonly from: number
  readonly to: number
}

export function letterOf(motif: number): string {
  return MOTIF_LETTERS[motif] ?? '?'
}

/** In words, with its letter. */
export function motifInWords(labels: readonly string[], motif: number): string {
  return `${letterOf(motif)} ${(labels[motif] ?? `motif ${motif}`).replaceAll('_', ' ')}`
}

/** Draws one piece, in CSS pixels, over the whole height: colour, stripes beyond the sixth motif, and the letter where there is room. */
export function drawPiece(
  context: CanvasRenderingContext2D,
  { motif, from, to }: Piece,
  heightPx: number,
): void {
  const { fill, ink } = FILLS[motif % FILLS.length]!
  context.fillStyle = fill
  context.fillRect(from, 0, to - from, heightPx)
  if (motif >= FILLS.length) {
    context.fillStyle = stripesOf(ink, from)
    context.fillRect(from, 0, to - from, heightPx)
  }
  if (to - from < LETTER_PX) return
  const middle = (from + to) / 2
  context.fillStyle = fill // no stripe behind the letter
  if (motif >= FILLS.length) context.fillRect(middle - LETTER_PX / 2, 0, LETTER_PX, heightPx)
  context.fillStyle = ink
  context.font = '600 13px system-ui, sans-serif'
  context.textAlign = 'center'
  context.textBaseline = 'middle'
  context.fillText(letterOf(motif), middle, heightPx / 2 + 1)
}

/** Each motif with its colour, stripes, letter and name. */
export function drawLegend(labels: readonly string[]): void {
  const legend = byId('legend', HTMLUListElement)
  legend.replaceChildren(
    ...labels.map((_, motif) => {
      const swatch = document.createElement('canvas')
      swatch.ariaHidden = 'true'
      const item = document.createElement('li')
      item.append(swatch, withText('span', motifInWords(labels, motif)))
      return item
    }),
  )
  for (const [motif, swatch] of [...legend.querySelectorAll('canvas')].entries()) {
    drawPiece(clear(swatch), { motif, from: 0, to: swatch.clientWidth }, swatch.clientHeight)
  }
}

/** By colour and scale of the screen. Made once: to draw each stripe took most of the time. */
const patterns = new Map<string, CanvasPattern>()

/** Oblique stripes that begin at `from`, so that they move with what they are on. */
function stripesOf(colour: string, from: number): CanvasPattern {
  const scale = devicePixelRatio
  const name = `${colour} ${scale}`
  const pattern = patterns.get(name) ?? makeStripes(colour, scale)
  patterns.set(name, pattern)
  pattern.setTransform(new DOMMatrix([1 / scale, 0, 0, 1 / scale, from, 0]))
  return pattern
}

function makeStripes(colour: string, scale: number): CanvasPattern {
  const side = Math.round(STRIPES * scale)
  const tile = document.createElement('canvas')
  Object.assign(tile, { width: side, height: side })
  const context = tile.getContext('2d')!
  // Those through the corners belong to the neighbours too.
  for (const x of [0, side, 2 * side]) {
    context.moveTo(x - 2 * side, 2 * side)
    context.lineTo(x + side, -side)
  }
  context.strokeStyle = colour
  context.globalAlpha = 0.55
  context.lineWidth = 1.5 * scale
  context.stroke()
  return context.createPattern(tile, 'repeat')!
}
