import { Histogram } from '../load/histogram.ts'
import { columns } from '../report/terminal.ts'
import { type Round, Tally } from './round.ts'
import { type Promised, p95OfTenth } from './verdict.ts'

/** Of the rounds of one tenth. */
export interface Tenth {
  readonly tally: Tally
  readonly faults: number
  /** ms, single windows of all rounds; `calmP95` of those without a fault, which is what is judged. */
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly calmP95: number
  /** At its end. */
  readonly sample: Round['sample']
}

export function tenthsOf(rounds: readonly Round[]): Tenth[] {
  return Array.from({ length: 10 }, (_, tenth) => tenth).flatMap(tenth => {
    const own = rounds.filter(round => round.tenth === tenth)
    if (own.length === 0) return []
    const live = own.reduce((all, round) => all.merge(round.live), new Histogram())
    const [p50, p95, p99] = [50, 95, 99].map(percent => live.percentileMs(percent)) as [
      number,
      number,
      number,
    ]
    return {
      tally: sumOf(own),
      faults: own.filter(({ fault }) => fault !== null).length,
      p50,
      p95,
      p99,
      calmP95: p95OfTenth(rounds, tenth),
      sample: own.at(-1)!.sample,
    }
  })
}

export function sumOf(rounds: readonly Round[]): Tally {
  const tally = new Tally()
  for (const round of rounds) tally.add(round.tally)
  return tally
}

/** What there is to read at the end. */
export function printed(rounds: readonly Round[], promises: readonly Promised[]): string {
  const ms = (value: number) => value.toFixed(1)
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0)
  const tenths = columns({
    head: [
      'tenth',
      'windows',
      'p50',
      'p95',
      'p99',
      'calm p95 ms',
      'rss',
      'heap',
      'ext MB',
      'fds',
      'threads',
      'faults',
      'refused',
    ],
    rows: tenthsOf(rounds).map(({ tally, faults, p50, p95, p99, calmP95, sample }, index) => [
      String(index + 1),
      String(tally.sent),
      ...[p50, p95, p99, calmP95].map(ms),
      ...[sample.rss, sample.heap, sample.external].map(megabytes),
      String(sample.fds),
      String(sample.threads),
      String(faults),
      refusals(tally),
    ]),
  })
  const { sent, answered, refusedCount } = sumOf(rounds)
  const names = [...new Set(rounds.flatMap(({ fault }) => fault ?? []))]
  const faults = names.map(name => `${rounds.filter(({ fault }) => fault === name).length} × ${name}`)
  const abandoned = rounds.reduce((sum, round) => sum + round.abandoned, 0)
  const verdicts = columns({
    head: ['', '', ''],
    rows: promises.map(({ name, verdict, found }) => [verdict, name, found]),
  }).trimStart()
  return [
    tenths,
    `${sent} windows sent: ${answered} answered, ${refusedCount} refused; ${abandoned} more by clients that did not wait\n` +
      `faults: ${faults.join(', ') || 'none'}\n`,
    verdicts,
  ].join('\n')
}

/** What `--json` keeps. */
export function asJson(rounds: readonly Round[], promises: readonly Promised[]): object {
  const tallyJson = (tally: Tally) => ({ ...tally, refused: Object.fromEntries(tally.refused) })
  return {
    tenths: tenthsOf(rounds).map(tenth => ({ ...tenth, tally: tallyJson(tenth.tally) })),
    rounds: rounds.map(({ tally, live, ...round }) => ({
      ...round,
      tally: tallyJson(tally),
      p95: live.percentileMs(95),
    })),
    promises,
  }
}

function refusals({ refused }: Tally): string {
  return [...refused].map(([reason, count]) => `${count} ${reason}`).join(', ') || '-'
}
