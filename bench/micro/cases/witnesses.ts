import { FailureLog } from '../../../src/failure-log.ts'
import { LiveFeed } from '../../../src/live/feed.ts'
import { createLogger } from '../../../src/log.ts'
import { TelemetryCounters } from '../../../src/telemetry/counters.ts'
import { FOR_LINE, FOR_LOOK, RecordRing } from '../../../src/telemetry/record-ring.ts'
import { ORIGIN, SLOT, WINDOW } from '../answered.ts'
import { type Case, repeated } from '../case.ts'

const failures = new FailureLog(createLogger('fatal'))
const live = new LiveFeed()
const records = new RecordRing()
const counters = new TelemetryCounters()
const times = { arrivedMs: 0, settledMs: 1.6, answeredMs: 1.62 }

/** As the recorder does it, and the thread behind it. */
function takeDown(purposes: number): void {
  if (records.putAnswer(ORIGIN, SLOT, purposes, times)) records.release()
  else counters.countDropped('queue_full')
}

export const WITNESS_CASES: readonly Case[] = [
  repeated('live page: a window was answered', 100, n => live.windowAnswered(WINDOW, SLOT, 1.6, 1.62 + n)),
  repeated('telemetry: an answer for a line', 100, () => takeDown(FOR_LINE)),
  repeated('telemetry: an answer with its window', 100, () => takeDown(FOR_LINE | FOR_LOOK)),
  repeated('log: a failure in a flood', 100, () => failures.windowFailed('overloaded', ORIGIN)),
]
