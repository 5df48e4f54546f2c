import type { Histogram } from '../load/histogram.ts'
import type { Counts, Sample } from './samples.ts'

/** What became of the windows of clients that wait for their answers. */
export class Tally {
  sent = 0
  answered = 0
  /** Answered, but with another result than the first time, or out of order. */
  wrong = 0
  /** No answer, or one that is none of those that the server may give. */
  lost = 0
  /** By reason. */
  readonly refused = new Map<string, number>()
  /** Of those refused, what a server need not count that refuses a request of several windows as one. */
  refusedTogether = 0

  refuse(reason: string, count = 1): void {
    this.refused.set(reason, (this.refused.get(reason) ?? 0) + count)
  }

  get refusedCount(): number {
    return [...this.refused.values()].reduce((sum, count) => sum + count, 0)
  }

  add({ sent, answered, wrong, lost, refused, refusedTogether }: Tally): void {
    this.sent += sent
    this.answered += answered
    this.wrong += wrong
    this.lost += lost
    this.refusedTogether += refusedTogether
    for (const [reason, count] of refused) this.refuse(reason, count)
  }
}

/** A burst, its pause, and what the server was like at the end of that. */
export interface Round {
  /** From 0 to 9. */
  readonly tenth: number
  /** Its name; null: a calm round. */
  readonly fault: string | null
  readonly tally: Tally
  /** Windows, whole or not, of clients that did not wait for the answer: nobody knows how they ended. */
  readonly abandoned: number
  /** Of single windows, over HTTP and WebSocket. */
  readonly live: Histogram
  /** By the server's own account. */
  readonly counted: Counts
  readonly sample: Sample
}

/** Windows about which clients and server do not agree: one says that it was answered, or refused, and the other not. */
export function unaccounted({ tally, abandoned, counted }: Round): number {
  return (
    beyond(counted.answered - tally.answered - tally.wrong, { least: 0, most: abandoned }) +
    beyond(counted.refused - tally.refusedCount, { least: -tally.refusedTogether, most: abandoned })
  )
}

/** How far the difference lies outside. */
function beyond(difference: number, { least, most }: { least: number; most: number }): number {
  return Math.max(least - difference, difference - most, 0)
}
