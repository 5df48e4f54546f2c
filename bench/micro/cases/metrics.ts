import { loadConfig } from '../../../src/config.ts'
import { createLogger } from '../../../src/log.ts'
import { Metrics } from '../../../src/metrics.ts'
import { loadModel } from '../../../src/model.ts'
import { ServedModels } from '../../../src/served-models.ts'
import { SLOT, STREAM, WINDOW } from '../answered.ts'
import { type Case, repeated } from '../case.ts'

const config = loadConfig({ INFER_MODE: 'stub' })
const log = createLogger('fatal')
const metrics = new Metrics(
  {
    config,
    models: new ServedModels(await loadModel(config), null),
    configOk: true,
    version: '0',
    errorCodes: [],
    frameTypes: { in: ['window'], out: ['result'] },
  },
  log,
)
metrics.watch({
  streams: [STREAM],
  backends: { answering: ['stub'], fallback: null, fault: null, device: null },
  level: 0,
  available: true,
})
/** So that values move between buckets as they do under load. */
const DURATIONS_MS = Float64Array.from({ length: 64 }, (_, n) => 2 * Math.exp(Math.sin(n * n) / 2))

export const METRICS_CASES: readonly Case[] = [
  repeated('metrics: a window ended', 100, n => metrics.inferenceEnded('ok', DURATIONS_MS[n % 64]!, SLOT)),
  repeated('metrics: a window was answered', 100, () => metrics.windowAnswered(WINDOW, SLOT, 1.6, 1.62)),
  repeated('metrics: a window was refused', 100, () => metrics.refused('overloaded', 'ring_full')),
  repeated('metrics: a request was answered', 100, () => metrics.answered('POST', '/infer', 200, 0.0015)),
  repeated('metrics: a frame went by', 100, () => metrics.framed('in', 'window')),
  { name: 'metrics: a scrape', opsPerCall: 1, call: () => metrics.scrape('') },
]
