/**
 * Turns logits into probabilities that sum to 1.
 * @param logits float32[motifs] @param scores float32[motifs], may be the same array
 */
export function softmax(logits: Float32Array, scores: Float32Array): void {
  let largest = Number.NEGATIVE_INFINITY
  for (let motif = 0; motif < logits.length; motif++) largest = Math.max(largest, logits[motif]!)
  let sum = 0
  for (let motif = 0; motif < logits.length; motif++) {
    // Shifted by the largest, so that exp() cannot overflow.
    const weight = Math.exp(logits[motif]! - largest)
    scores[motif] = weight
    sum += weight
  }
  for (let motif = 0; motif < logits.length; motif++) scores[motif] = scores[motif]! / sum
}
