import type { LifeRecord } from '../supervisor/life-record.ts'
import type { MetricRegistry } from './registry.ts'

/** How the last process on this address ended, and how many there were. */
export function addLifeMetrics(registry: MetricRegistry, record: LifeRecord): void {
  const { code, cause } = record.last
  registry
    .gauge('hailo_last_exit_info', 'Why the last process on this address ended', ['code', 'cause'])
    .set({ code: code ?? 'none', cause }, 1)
  registry.gauge(
    'hailo_starts_recent',
    'Starts on this address within the last hour, this one included',
    [],
    gauge => gauge.set(record.recentStarts),
  )
}
