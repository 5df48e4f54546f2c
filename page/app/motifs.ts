import { MOTIF_LETTERS } from '../../src/live/answer.ts'
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

/** A piece of a strip in one motif, in CSS pixels. */
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

/** Empties a canvas, as sharp as the screen is. @returns its context, in CSS pixels */
export function clear(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const { clientWidth, clientHeight } = canvas
  const scale = devicePixelRatio
  const [width, height] = [Math.round(clientWidth * scale), Math.round(clientHeight * scale)]
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
  const context = canvas.getContext('2d')!
  context.setTransform(scale, 0, 0, scale, 0, 0)
  context.clearRect(0, 0, clientWidth, clientHeight)
  return context
}

/** Draws one piece over the whole height: colour, stripes beyond the sixth motif, and the letter where there is room. */
export function drawPiece(
  context: CanvasRenderingContext2D,
  { motif, from, to }: Piece,
  heightPx: number,
): void {
  const { fill, ink } = FILLS[motif % FILLS.length]!
  context.fillStyle = fill
  context.fillRect(from, 0, to - from, heightPx)
  if (motif >= FILLS.length) drawStripes(context, from, to, heightPx, ink)
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

function drawStripes(
  context: CanvasRenderingContext2D,
  from: number,
  to: number,
  heightPx: number,
  colour: string,
): void {
  context.save()
  context.beginPath()
  context.rect(from, 0, to - from, heightPx)
  context.clip()
  context.beginPath()
  // Counted from the left of the canvas: the stripes of neighbouring pieces meet.
  const first = Math.floor((from - heightPx) / STRIPES) * STRIPES
  for (let x = first; x < to; x += STRIPES) {
    context.moveTo(x, heightPx)
    context.lineTo(x + heightPx, 0)
  }
  context.strokeStyle = colour
  context.globalAlpha = 0.55
  context.lineWidth = 1.5
  context.stroke()
  context.restore()
}
