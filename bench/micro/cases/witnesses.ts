import { InFlight } from '../../../src/engine/stream.ts'
import { FailureLog } from '../../../src/failure-log.ts'
import { LiveFeed } from '../../../src/live/feed.ts'
import { createLogger } from '../../../src/log.ts'
import { TelemetryCounters } from '../../../src/telemetry/counters.ts'
import { FOR_LINE, FOR_LOOK, RecordRing } from '../../../src/telemetry/record-ring.ts'
import { Tracing } from '../../../src/tracing/tracing.ts'
import { ORIGIN, SLOT, STREAM, WINDOW } from '../answered.ts'
import { type Case, repeated } from '../case.ts'

const log = createLogger('fatal')
const failures = new FailureLog(log)
const live = new LiveFeed()
const records = new RecordRing()
const counters = new TelemetryCounters()
const times = { arrivedMs: 0, settledMs: 1.6, answeredMs: 1.62 }

/** Sends nothing: nobody samples. */
const tracing = new Tracing({
  config: { url: 'http://127.0.0.1:9', headers: {}, serviceName: '', sampleRatio: 0 },
  configVersion: '',
  version: '',
  modelSha256: () => '',
  httpStatus: {},
  tally: { traceSpans() {} },
  log,
})
const NOT_SAMPLED = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00'

/** A window in a request with that header. */
function leaveUntraced(traceparent: string): void {
  const origin = { ...ORIGIN, trace: tracing.begin(traceparent) }
  tracing.windowAnswered(new InFlight(STREAM, 0, WINDOW, { origin, settle() {} }), SLOT, 1.6, 1.62)
}

/** As the recorder does it, and the thread behind it. */
function takeDown(purposes: number): void {
  if (records.putAnswer(ORIGIN, SLOT, purposes, times)) records.release()
  else counters.countDropped('queue_full')
}

export const WITNESS_CASES: readonly Case[] = [
  repeated('live page: a window was answered', 100, n => live.windowAnswered(WINDOW, SLOT, 1.6, 1.62 + n)),
  repeated('telemetry: an answer for a line', 100, () => takeDown(FOR_LINE)),
  repeated('telemetry: an answer with its window', 100, () => takeDown(FOR_LINE | FOR_LOOK)),
  repeated('traces: a window that chance leaves out', 100, () => leaveUntraced('')),
  repeated('traces: a window that its caller does not sample', 100, () => leaveUntraced(NOT_SAMPLED)),
  repeated('log: a failure in a flood', 100, () => failures.windowFailed('overloaded', ORIGIN)),
]
