import { DROP_REASONS, KEPT_REASONS, type TelemetryCounters } from '../telemetry/counters.ts'
import type { MetricRegistry } from './registry.ts'

/** Adds what the thread of telemetry counts. Its rows are there without telemetry too: nothing was lost then. */
export function watchTelemetry(registry: MetricRegistry, counters: TelemetryCounters): void {
  registry.derived('hailo_telemetry_lines_total', 'Lines of telemetry written', [], counter =>
    counter.inc(counters.lines),
  )
  registry.derived(
    'hailo_telemetry_kept_total',
    'Windows kept with their samples, by what makes them worth a label; of several reasons each counts',
    ['reason'],
    counter => {
      for (const reason of KEPT_REASONS) counter.inc({ reason }, counters.kept(reason))
    },
  )
  registry.derived(
    'hailo_telemetry_dropped_total',
    'Lines and windows of telemetry lost: their queue was full, the disk did not take them, or (sampled) one line of ten is enough under load',
    ['reason'],
    counter => {
      for (const reason of DROP_REASONS) counter.inc({ reason }, counters.dropped(reason))
    },
  )
  registry.gauge('hailo_telemetry_disk_bytes', 'Of all files of telemetry', [], gauge =>
    gauge.set(counters.diskBytes),
  )
  registry.gauge('hailo_telemetry_disk_budget_bytes', 'What they may have; 0 without telemetry', [], gauge =>
    gauge.set(counters.budgetBytes),
  )
  registry.derived(
    'hailo_telemetry_removed_files_total',
    'Files of telemetry removed to stay within the budget',
    [],
    counter => counter.inc(counters.removedFiles),
  )
}
