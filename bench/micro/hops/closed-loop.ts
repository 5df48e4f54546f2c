/**
 * Keeps `depth` windows under way for so long; resolves when all are back.
 * @param send sends one, and calls `back` when it is back
 */
export function closedLoop(depth: number, ms: number, send: (back: () => void) => void): Promise<void> {
  return new Promise(resolve => {
    let over = false
    let underWay = depth
    setTimeout(() => {
      over = true
    }, ms)
    const back = () => {
      if (!over) send(back)
      else if (--underWay === 0) resolve()
    }
    for (let window = 0; window < depth; window++) send(back)
  })
}
