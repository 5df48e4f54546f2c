/** How sure a model is of one window, from its motif scores. */
export interface Certainty {
  /** The indices of the best motifs, best first. */
  readonly top: readonly number[]
  /** The best score. */
  readonly confidence: number
  /** Of the scores as shares of their sum, by that of equal ones: 0 one motif alone, 1 all alike. */
  readonly entropy: number
  /** From the best score to the second. */
  readonly margin: number
}

/** @param scores float32[motifs] @param topCount how many of the best are named, at most */
export function certaintyOf(scores: Float32Array, topCount: number): Certainty {
  const top = Array.from(scores, (_, index) => index).sort((a, b) => scores[b]! - scores[a]!)
  const [best = 0, second = 0] = top.map(index => scores[index]!)
  return { top: top.slice(0, topCount), confidence: best, entropy: entropyOf(scores), margin: best - second }
}

function entropyOf(scores: Float32Array): number {
  if (scores.length === 1) return 0
  const sum = scores.reduce((total, score) => total + score, 0)
  if (!(sum > 0)) return 1 // no motif stands out
  let nats = 0
  for (const score of scores) if (score > 0) nats -= (score / sum) * Math.log(score / sum)
  return nats / Math.log(scores.length)
}
