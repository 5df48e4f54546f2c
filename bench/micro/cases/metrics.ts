import { loadConfig } from '../../../src/config.ts'
import type { Origin } from '../../../src/engine/observer.ts'
import { InFlight, Stream } from '../../../src/engine/stream.ts'
import { FailureLog } from '../../../src/failure-log.ts'
import { createLogger } from '../../../src/log.ts'
import { Metrics } from '../../../src/metrics.ts'
import { loadModel } from '../../../src/model.ts'
import { type Case, repeated } from '../case.ts'
import { UNDISTURBED } from '../undisturbed.ts'

const config = loadConfig({ INFER_MODE: 'stub' })
const log = createLogger('fatal')
const failures = new FailureLog(log)
const metrics = new Metrics(
  {
    config,
    model: await loadModel(config),
    fallback: null,
    configOk: true,
    version: '0',
    errorCodes: [],
    frameTypes: { in: ['window'], out: ['result'] },
  },
  log,
)
const stream = new Stream({
  capacity: 2,
  motifCount: 12,
  observer: { ...UNDISTURBED, windowAnswered() {}, settled() {} },
})
metrics.watch({
  streams: [stream],
  backends: { answering: ['stub'], fallback: null, fault: null, device: null },
  level: 0,
  available: true,
})
const slot = stream.ring.nextSlot!
slot.prepare(0.1, 0)
slot.take(0.4)
slot.finish('ok', 'stub', 1.5)
const window = new InFlight(stream, 0, { arrivedMs: 0, deadlineMs: 40 }, { settle() {} })

const origin: Origin = {
  endpoint: '/infer',
  requestId: 'one-of-many',
  stream: 0,
  sequence: 0,
  traceparent: '',
  arrivedMs: 0,
}

/** So that values move between buckets as they do under load. */
const DURATIONS_MS = Float64Array.from({ length: 64 }, (_, n) => 2 * Math.exp(Math.sin(n * n) / 2))

export const METRICS_CASES: readonly Case[] = [
  repeated('metrics: a window ended', 100, n => metrics.inferenceEnded('ok', DURATIONS_MS[n % 64]!, slot)),
  repeated('metrics: a window was answered', 100, () => metrics.windowAnswered(window, slot, 1.6, 1.62)),
  repeated('metrics: a window was refused', 100, () => metrics.refused('overloaded', 'ring_full')),
  repeated('metrics: a request was answered', 100, () => metrics.answered('POST', '/infer', 200, 0.0015)),
  repeated('metrics: a frame went by', 100, () => metrics.framed('in', 'window')),
  repeated('log: a failure in a flood', 100, () => failures.windowFailed('overloaded', origin)),
  { name: 'metrics: a scrape', opsPerCall: 1, call: () => metrics.scrape('') },
]
