import { readdirSync, readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import process from 'node:process'
import type { MetricRegistry } from './registry.ts'

const LAG_RESOLUTION_MS = 20
const LAG_INTERVAL_MS = 10_000

const MEMORY = [
  ['process_resident_memory_bytes', 'rss', 'Memory in use, of all threads'],
  ['nodejs_heap_size_used_bytes', 'heapUsed', 'In use of the heap of the main thread'],
  ['nodejs_heap_size_total_bytes', 'heapTotal', 'Heap of the main thread'],
  ['nodejs_external_memory_bytes', 'external', 'Held by the main thread outside of its heap'],
] as const

/**
 * What the process takes of the machine, under the names that Prometheus' client libraries give. prom-client's own
 * come with an observer of every garbage collection and a second sampling of the event loop.
 */
export function addProcessMetrics(registry: MetricRegistry): void {
  registry.derived('process_cpu_seconds_total', 'Processor time of all threads', [], counter => {
    const { user, system } = process.cpuUsage()
    counter.inc((user + system) / 1e6)
  })
  registry
    .gauge('process_start_time_seconds', 'Unix time at which the process began')
    .set(Date.now() / 1000 - process.uptime())
  for (const [name, part, help] of MEMORY) {
    registry.gauge(name, help, [], gauge => gauge.set(process.memoryUsage()[part]))
  }
  registry.gauge('process_open_fds', 'Open file descriptors', [], gauge => gauge.set(openFiles()))
  registry.gauge('process_max_fds', 'File descriptors that may be open').set(maxFiles())
  const [major, minor, patch] = process.versions.node.split('.')
  registry
    .gauge('nodejs_version_info', 'The Node.js that runs', ['version', 'major', 'minor', 'patch'])
    .set({ version: process.version, major: major!, minor: minor!, patch: patch! }, 1)
  addEventLoopLag(registry)
}

function addEventLoopLag(registry: MetricRegistry): void {
  const delay = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS })
  let lagSeconds = 0
  delay.enable()
  setInterval(() => {
    lagSeconds = Math.max(0, delay.percentile(99) / 1e9 - LAG_RESOLUTION_MS / 1000)
    delay.reset()
  }, LAG_INTERVAL_MS).unref()
  registry.gauge('hailo_event_loop_lag_seconds', 'Main thread, 99th percentile of 10 s', [], gauge =>
    gauge.set(lagSeconds),
  )
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length - 1 // without the one that it is read through
}

function maxFiles(): number {
  const [, limit] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
  return limit === undefined ? Number.POSITIVE_INFINITY : Number(limit) // "unlimited"
}
