import { fstatSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import process from 'node:process'
import { getHeapStatistics } from 'node:v8'
import { monotonicMs } from '../clock.ts'
import type { MetricRegistry } from './registry.ts'

const LAG_RESOLUTION_MS = 20
const LAG_INTERVAL_MS = 10_000

/** Counting open files takes as long as there are many: so seldom, where the kernel does not know their number. */
const COUNT_INTERVAL_MS = 10_000

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
  const resident = residentBytes()
  registry.gauge('process_resident_memory_bytes', 'Memory in use, of all threads', [], gauge =>
    gauge.set(resident()),
  )
  registry.gauge('nodejs_heap_size_used_bytes', 'In use of the heap of the main thread', [], gauge =>
    gauge.set(getHeapStatistics().used_heap_size),
  )
  registry.gauge('nodejs_heap_size_total_bytes', 'Heap of the main thread', [], gauge =>
    gauge.set(getHeapStatistics().total_heap_size),
  )
  registry.gauge('nodejs_external_memory_bytes', 'Held by the main thread outside of its heap', [], gauge =>
    gauge.set(getHeapStatistics().external_memory),
  )
  const max = maxFiles()
  const open = openFiles(max)
  registry.gauge('process_open_fds', 'Open file descriptors', [], gauge => gauge.set(open()))
  registry.gauge('process_max_fds', 'File descriptors that may be open').set(max)
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

// Both through descriptors that are kept: there may be none left just when they are asked.

function residentBytes(): () => number {
  const status = openSync('/proc/self/status', 'r')
  const text = Buffer.alloc(4096)
  return () => {
    const length = readSync(status, text, 0, text.length, 0)
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text.toString('latin1', 0, length))?.[1] ?? 0) * 1024
  }
}

/** @param max told where they cannot be counted, as then there is no descriptor left to do it with */
function openFiles(max: number): () => number {
  const folder = openSync('/proc/self/fd', 'r')
  let count = 0
  let countedMs = Number.NEGATIVE_INFINITY
  return () => {
    const known = fstatSync(folder).size // since Linux 6.2; 0 before
    if (known > 0) return known
    if (monotonicMs() - countedMs < COUNT_INTERVAL_MS) return count
    countedMs = monotonicMs()
    try {
      count = readdirSync('/proc/self/fd').length - 1 // without the one that it is read through
    } catch {
      count = max
    }
    return count
  }
}

function maxFiles(): number {
  const [, limit] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
  return limit === undefined ? Number.POSITIVE_INFINITY : Number(limit) // "unlimited"
}
