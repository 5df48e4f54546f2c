import type { Section } from '../report/section.ts'

/** Answers one question about the engine by measuring it. */
export type Suite = (context: Context) => Promise<Section>

/** How it shall measure. */
export interface Context {
  /** How often each contender is measured, in a fresh process each time. */
  readonly runs: number
  readonly warmUpMs: number
  readonly durationMs: number
  readonly connections: number
  /** Shows what is going on. */
  readonly progress: (text: string) => void
}
