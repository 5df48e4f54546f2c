import { loadConfig } from '../../../src/config.ts'
import { Ring } from '../../../src/core/ring.ts'
import { createLogger } from '../../../src/log.ts'
import { Metrics } from '../../../src/metrics.ts'
import { loadModel } from '../../../src/model.ts'
import { repeated } from '../case.ts'

const config = loadConfig({ INFER_MODE: 'stub' })
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
  createLogger('fatal'),
)
const slot = Ring.create({ capacity: 2, motifCount: 12 }).nextSlot!
slot.prepare(0, 0)
slot.take(0)
slot.finish('ok', 'stub', 0)

export const METRICS_CASES = [
  repeated('metrics: a window ended', 100, () => metrics.inferenceEnded('ok', 1.5, slot)),
  repeated('metrics: a window was refused', 100, () => metrics.refused('overloaded', 'ring_full')),
  repeated('metrics: a request was answered', 100, () => metrics.answered('POST', '/infer', 200, 0.0015)),
  repeated('metrics: a frame went by', 100, () => metrics.framed('in', 'window')),
]
