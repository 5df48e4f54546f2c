import { refusal, ServiceEstimate, type StreamLoad } from '../../../src/core/admission.ts'
import { repeated } from '../case.ts'

const estimate = new ServiceEstimate()
const load: StreamLoad = { inFlight: 12, capacity: 64, serviceMs: 0.05, overheadMs: 0.1, stalledMs: 0 }
const BUDGET_MS = 40

export const ADMISSION_CASES = [
  repeated('admission: admitted', 1000, () => {
    if (refusal(load, BUDGET_MS) !== null) throw new Error('refused')
  }),
  repeated('admission: refused', 1000, () => {
    if (refusal(load, 0) === null) throw new Error('admitted')
  }),
  repeated('admission: the estimate learns', 1000, index =>
    estimate.update({ count: 4, busyMs: 0.2 + (index % 10) / 100, latencyMs: 0.4, position: 4 }),
  ),
]
