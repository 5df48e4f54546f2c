import type { Spread } from './spread.ts'

/** What one suite has found, as it is printed, drawn and kept as JSON. */
export interface Section {
  readonly title: string
  /** What is measured, and against what. */
  readonly about: string
  readonly rows: readonly Row[]
  /** What the rows are made of. True of this machine only. */
  readonly figures: readonly Figure[]
  readonly charts?: readonly Chart[]
}

/** One thing that is asked. */
export interface Row {
  readonly name: string
  /** What it is a ratio to. Left out: it is no ratio. */
  readonly against?: string
  readonly value: Spread
  readonly unit: Unit
  readonly goal?: Goal
  readonly cost?: Cost
  /** Answers that were not right. One of them, and the row says nothing. */
  readonly wrong: number
  /** Why the row may say less than it seems to. */
  readonly doubts: readonly string[]
}

export type Unit = '×' | 'ms' | 'µs' | 'MB' | '/s'
export type Goal = { readonly atLeast: number } | { readonly atMost: number }

/** Medians. */
export interface Cost {
  /** On a processor, per window: the main thread, and all threads of the server together. */
  readonly mainUs: number
  readonly serverUs: number
  /** Cores in use meanwhile. */
  readonly mainCores: number
  readonly serverCores: number
  readonly generatorCores: number
  /** What kept more from being done: a thread of the server, all cores together, the generator, or nothing. */
  readonly limit: 'server' | 'machine' | 'generator' | 'none'
}

/** One contender, as it was measured. */
export interface Figure {
  readonly name: string
  /** What was sent to it. */
  readonly load: string
  /** What its environment says. */
  readonly settings: string
  readonly windowsPerSecond: Spread
  /** Of requests. */
  readonly p50Ms?: Spread
  readonly p99Ms?: Spread
  /** How late the generator was with what was due at a rate. */
  readonly lagP99Ms?: Spread
  readonly cost?: Cost
}

export interface Chart {
  readonly name: string
  readonly title: string
  readonly x: string
  readonly y: string
  readonly isLogarithmic?: boolean
  readonly lines: readonly Line[]
}

export interface Line {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
}

/** Null where there is no goal, or nothing that could miss it. */
export function isMet({ value, goal, wrong }: Row): boolean | null {
  if (wrong > 0) return false
  if (goal === undefined || !Number.isFinite(value.median)) return null // there was nothing to measure
  return 'atLeast' in goal ? value.median >= goal.atLeast : value.median <= goal.atMost
}
