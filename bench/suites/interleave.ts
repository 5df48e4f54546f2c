import type { Context } from './suite.ts'

type Measures = Readonly<Record<string, () => Promise<unknown>>>

/** What each has measured, round by round. */
export type Trials<M extends Measures> = { readonly [Name in keyof M]: Awaited<ReturnType<M[Name]>>[] }

/**
 * Measures each in its turn, and so again in each round: what slows the machine for a while meets all. Every second
 * round goes the other way about: what one leaves behind does not always meet the same.
 */
export async function interleave<M extends Measures>(
  { runs, progress }: Pick<Context, 'runs' | 'progress'>,
  measures: M,
): Promise<Trials<M>> {
  const names = Object.keys(measures)
  const trials = Object.fromEntries(names.map(name => [name, [] as unknown[]]))
  for (let round = 1; round <= runs; round++) {
    for (const name of round % 2 === 1 ? names : names.toReversed()) {
      progress(`round ${round} of ${runs}: ${name}`)
      trials[name]!.push(await measures[name]!())
    }
  }
  return trials as Trials<M>
}
