import type { ContenderOptions } from '../contenders/contender.ts'
import type { Address } from '../load/load.ts'
import type { Section } from '../report/section.ts'
import type { Mix } from './traffic.ts'

/** Answers one question about the engine by measuring it. */
export type Suite = (context: Context) => Promise<Section>

export type Mode = ContenderOptions['engine']['backend']

/** How it shall measure. */
export interface Context {
  /** How often each contender is measured, in a fresh process each time. */
  readonly runs: number
  readonly warmUpMs: number
  readonly durationMs: number
  readonly connections: number
  /** Null: those that the suite is about. */
  readonly mode: Mode | null
  /** Windows per second. Null: as many as possible. */
  readonly rate: number | null
  readonly mix: Mix
  /** Of what takes long. */
  readonly minutes: number
  /** Of a server that runs already. Null: one is started. */
  readonly address: Address | null
  /** Commands that run Python, each with its own packages. None: Debian's. */
  readonly pythons: readonly string[]
  /** Shows what is going on. */
  readonly progress: (text: string) => void
}

/** Something that is needed is not here, or the machine does too much else. The message says what. */
export class CannotMeasure extends Error {}
