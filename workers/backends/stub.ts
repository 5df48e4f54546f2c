import { softmax } from '../../src/core/motif-head.ts'
import { LATENT_DIMS, WINDOW_BYTES } from '../../src/core/window.ts'
import type { Backend } from './backend.ts'

const DEPTH = 16
const HASH_SEED = 0x811c9dc5
const HASH_FACTOR = 0x01000193

/**
 * A backend without a model, for trying out the plumbing: its numbers mean nothing, but the same
 * window always gets the same ones. They follow from a hash of the window's bytes.
 */
export function openStub(motifCount: number): Backend {
  const hashes: number[] = []
  return {
    depth: DEPTH,
    batchSize: 1,
    get ready() {
      return hashes.length
    },
    failure: null,
    submit(input) {
      hashes.push(hashOf(input))
    },
    collect(output) {
      fill(output, hashes.shift()!, motifCount)
      return 'ok'
    },
    close() {},
  }
}

function hashOf(window: Float32Array): number {
  const words = new Uint32Array(window.buffer, window.byteOffset, WINDOW_BYTES / 4)
  let hash = HASH_SEED
  for (const word of words) hash = Math.imul(hash ^ word, HASH_FACTOR) ^ (hash >>> 15)
  return hash
}

/** A latent in [-1, 1] and motif scores that sum to 1, from a xorshift generator. */
function fill(output: Float32Array, seed: number, motifCount: number): void {
  let state = seed === 0 ? HASH_SEED : seed // xorshift never leaves 0
  for (let value = 0; value < LATENT_DIMS + motifCount; value++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    output[value] = state / 2 ** 31
  }
  const scores = output.subarray(LATENT_DIMS, LATENT_DIMS + motifCount)
  softmax(scores, scores)
}
