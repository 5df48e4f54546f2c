import { LATENT_DIMS } from '../core/window.ts'
import { KEPT_REASONS, type KeptReason } from './counters.ts'
import type { KeptWindow } from './kept-windows.ts'

/** Nearer than this, in standard deviations of the day's latents, two windows show the same: one label will do. */
const NEAR_DUPLICATE_SIGMA = 0.1
/** Further apart than this is different enough: from there on it counts how much a window is worth. */
const DIFFERENT_SIGMA = 1.5

export interface Choice {
  readonly window: KeptWindow
  /** Whose turn it was. */
  readonly reason: KeptReason
}

export interface Selection {
  readonly chosen: Choice[]
  /** Not chosen, because one that was chosen shows the same. */
  readonly nearDuplicates: number
}

/**
 * The windows most worth a label, no two of which show the same. The reasons take turns; each takes its window with
 * the largest product of what it is worth and how far it is from those chosen before.
 */
export function select(windows: readonly KeptWindow[], limit: number): Selection {
  const candidates = candidatesOf(windows)
  const chosen: Choice[] = []
  let idle = 0
  for (let turn = 0; chosen.length < limit && idle < KEPT_REASONS.length; turn++) {
    const reason = KEPT_REASONS[turn % KEPT_REASONS.length]!
    const best = bestFor(reason, candidates)
    idle = best === null ? idle + 1 : 0
    if (best === null) continue
    best.chosen = true
    chosen.push({ window: best.window, reason })
    for (const other of candidates) other.distance = Math.min(other.distance, distanceOf(best, other))
  }
  const nearDuplicates = candidates.filter(({ chosen, distance }) => !chosen && isDuplicate(distance)).length
  return { chosen, nearDuplicates }
}

interface Candidate {
  readonly window: KeptWindow
  readonly worth: number
  /** In standard deviations of the day's latents. */
  readonly latent: readonly number[]
  /** To the nearest that was chosen. */
  distance: number
  chosen: boolean
}

function candidatesOf(windows: readonly KeptWindow[]): Candidate[] {
  const latents = windows.map(({ line }) => line.latent)
  const sigmas = Array.from({ length: LATENT_DIMS }, (_, dim) => sigmaOf(latents.map(latent => latent[dim]!)))
  return windows.map(window => ({
    window,
    worth: worthOf(window),
    latent: window.line.latent.map((value, dim) => value / (sigmas[dim]! || 1)),
    distance: Number.POSITIVE_INFINITY,
    chosen: false,
  }))
}

/** Each reason counts, and how unsure the model was. */
function worthOf({ line }: KeptWindow): number {
  return line.reasons.length + line.entropy + (1 - line.margin)
}

function bestFor(reason: KeptReason, candidates: readonly Candidate[]): Candidate | null {
  let best: Candidate | null = null
  let bestScore = 0
  for (const candidate of candidates) {
    const { chosen, distance, worth, window } = candidate
    if (chosen || isDuplicate(distance) || !window.line.reasons.includes(reason)) continue
    const score = worth * Math.min(distance, DIFFERENT_SIGMA)
    if (score > bestScore) [best, bestScore] = [candidate, score]
  }
  return best
}

function isDuplicate(distance: number): boolean {
  return distance < NEAR_DUPLICATE_SIGMA
}

function distanceOf(a: Candidate, b: Candidate): number {
  let squares = 0
  for (let dim = 0; dim < LATENT_DIMS; dim++) squares += (a.latent[dim]! - b.latent[dim]!) ** 2
  return Math.sqrt(squares / LATENT_DIMS)
}

function sigmaOf(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)
}
