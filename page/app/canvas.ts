/** Makes a canvas as sharp as the screen is. Where it was not, it is empty then, and `emptied`. */
export function sharpen(canvas: HTMLCanvasElement): { context: CanvasRenderingContext2D; emptied: boolean } {
  const scale = devicePixelRatio
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)]
  const emptied = canvas.width !== width || canvas.height !== height
  if (emptied) Object.assign(canvas, { width, height })
  const context = canvas.getContext('2d')!
  context.setTransform(scale, 0, 0, scale, 0, 0)
  return { context, emptied }
}

/** Empties a canvas, as sharp as the screen is. @returns its context, in CSS pixels */
export function clear(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const { context } = sharpen(canvas)
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight)
  return context
}

/** Moves all that is on a canvas to the left. @param distance whole pixels of the canvas, so that nothing blurs */
export function moveLeft(context: CanvasRenderingContext2D, distance: number): void {
  context.save()
  context.resetTransform()
  context.globalCompositeOperation = 'copy'
  context.drawImage(context.canvas, -distance, 0)
  context.restore()
}
