import { refusal, ServiceEstimate, type StreamLoad } from '../../../src/core/admission.ts'
import { repeated } from '../case.ts'

const estimate = new ServiceEstimate()
// Several, or the compiler would take the decision out of the loop.
const loads = Array.from(
  { length: 64 },
  (_, index): StreamLoad => ({
    inFlight: 1 + (index % 32),
    ahead: 1 + (index % 32),
    capacity: 64,
    serviceMs: 0.05,
    overheadMs: 0.1,
    stalledMs: 0,
  }),
)
const BUDGET_MS = 40

export const ADMISSION_CASES = [
  repeated('admission: admitted', 1000, index => {
    if (refusal(loads[index % loads.length]!, BUDGET_MS) !== null) throw new Error('refused')
  }),
  repeated('admission: refused', 1000, index => {
    if (refusal(loads[index % loads.length]!, 0) === null) throw new Error('admitted')
  }),
  repeated('admission: the estimate learns', 1000, index =>
    estimate.update({ count: 4, busyMs: 0.2 + (index % 10) / 100, latencyMs: 0.4, position: 4 }),
  ),
]
