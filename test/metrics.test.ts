import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { Stream } from '../src/engine/stream.ts'
import { addRings } from '../src/metrics/engine.ts'
import { MetricRegistry } from '../src/metrics/registry.ts'
import { ask, bytesOf, OCTET_STREAM, postWindow } from './http-client.ts'
import {
  Connection,
  expectIdle,
  metric,
  post,
  startFaultyServer,
  startServerForTest,
  until,
  untilInFlight,
} from './load.ts'
import { complaintsAbout, HAS_PROMTOOL } from './promtool.ts'
import { startServer, type TestServer } from './server.ts'
import { windowOf } from './windows.ts'

const MODEL = 'tcn-vae-motion-12'
const OPERATION = 'tcn_vae_inference'
/** What Prometheus 2 and 3 send. */
const PROMETHEUS =
  'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2'

interface Sample {
  readonly name: string
  readonly labels: Record<string, string>
  readonly value: number
}

let server: TestServer
let atStart: string
beforeAll(async () => {
  server = await startServer({
    WORKERS: '1',
    DEADLINE_MS: '2000',
    MAX_DEADLINE_MS: '2000',
    GOLDEN_INTERVAL_S: '0', // what is counted is what is sent
  })
  atStart = await scrape()
})
afterAll(() => server.stop())

test('after the start all counts are zero, whatever the start has inferred for itself', async () => {
  const types = typesOf(atStart)
  const counts = samplesOf(atStart).filter(({ name }) => {
    const family = name.replace(/_(bucket|sum|count)$/, '')
    return types.get(name) === 'counter' || types.get(family) === 'histogram'
  })
  const ours = counts.filter(({ name, labels }) => name.startsWith('hailo_') && !isSize(labels))
  expect(ours.length).toBeGreaterThan(40)
  expect(ours.filter(({ value }) => value !== 0)).toEqual([])
  // And yet it has inferred.
  expect(sumOf(atStart, 'hailo_golden_cosine')).toBeGreaterThanOrEqual(0.9999)
})

// Where the sidecar had them, and dashboards look for them.
test('the sizes of a result stand among the samples processed, however many there were', async () => {
  const sizes = (text: string) => samplesOf(text).filter(({ labels }) => isSize(labels))
  await postWindow(server, windowOf(1))
  expect(sizes(await scrape())).toEqual(sizes(atStart))
  expect(sizes(atStart).map(({ labels: { metric }, value }) => [metric, value])).toEqual([
    ['latent_dimensions', 64],
    ['motif_classes', 12],
  ])
})

test.each([
  ['hailo_inference_requests_total', 'counter', 'operation status model'],
  ['hailo_inference_duration_seconds', 'histogram', 'operation model'],
  ['hailo_inference_errors_total', 'counter', 'error_type'],
  ['hailo_samples_processed_total', 'counter', 'metric'],
  ['hailo_model_loaded', 'gauge', 'model version'],
  ['hailo_model_info', 'gauge', 'model hef_path motifs device'],
  ['hailo_build_info', 'gauge', 'version hef_sha config'],
  ['hailo_config_ok', 'gauge', 'expected actual'],
  ['hailo_sidecar_start_time_seconds', 'gauge', ''],
  ['hailo_health_checks_total', 'counter', 'status'],
  ['hailo_http_requests_total', 'counter', 'method endpoint status_code'],
  ['hailo_http_request_duration_seconds', 'histogram', 'method endpoint'],
  ['hailo_queue_depth', 'gauge', ''],
  ['hailo_queue_capacity', 'gauge', ''],
  ['hailo_queue_wait_seconds', 'histogram', ''],
  ['hailo_rejected_total', 'counter', 'reason'],
  ['hailo_cancelled_total', 'counter', ''],
  ['hailo_backpressure_level', 'gauge', ''],
  ['hailo_worker_heartbeat_age_seconds', 'gauge', 'worker'],
  ['hailo_worker_restarts_total', 'counter', 'worker cause'],
  ['hailo_inference_mode', 'gauge', 'mode'],
  ['hailo_golden_cosine', 'gauge', ''],
  ['hailo_golden_ok', 'gauge', ''],
  ['hailo_golden_checks_total', 'counter', 'result'],
  ['hailo_golden_windows_total', 'counter', ''],
  ['hailo_golden_check_seconds_total', 'counter', ''],
  ['hailo_trace_spans_total', 'counter', 'result'],
  ['hailo_batch_size', 'histogram', ''],
  ['hailo_event_loop_lag_seconds', 'gauge', ''],
  ['hailo_input_suspect_units_total', 'counter', 'sensor'],
  ['hailo_warmup_duration_seconds', 'gauge', ''],
  ['hailo_device_temperature_celsius', 'gauge', 'device_id'],
  ['hailo_device_utilization_percent', 'gauge', 'device_id'],
  ['hailo_device_throttled', 'gauge', 'device_id'],
  ['hailo_fallback_total', 'counter', 'from to cause'],
  ['hailo_stage_duration_seconds', 'histogram', 'stage'],
  ['hailo_worker_busy_seconds_total', 'counter', 'worker'],
  ['hailo_ring_in_flight', 'gauge', 'worker'],
  ['hailo_ring_capacity', 'gauge', 'worker'],
  ['hailo_ring_saturation_ratio', 'gauge', 'worker'],
  ['hailo_configured_mode', 'gauge', 'mode'],
  ['process_cpu_seconds_total', 'counter', ''],
  ['process_resident_memory_bytes', 'gauge', ''],
  ['process_open_fds', 'gauge', ''],
  ['process_max_fds', 'gauge', ''],
  ['process_start_time_seconds', 'gauge', ''],
  ['nodejs_heap_size_used_bytes', 'gauge', ''],
  ['nodejs_heap_size_total_bytes', 'gauge', ''],
  ['nodejs_external_memory_bytes', 'gauge', ''],
  ['nodejs_version_info', 'gauge', 'version major minor patch'],
  ['hailo_telemetry_lines_total', 'counter', ''],
  ['hailo_telemetry_kept_total', 'counter', 'reason'],
  ['hailo_telemetry_dropped_total', 'counter', 'reason'],
  ['hailo_telemetry_disk_bytes', 'gauge', ''],
  ['hailo_telemetry_disk_budget_bytes', 'gauge', ''],
  ['hailo_telemetry_removed_files_total', 'counter', ''],
])('GET /metrics has %s, a %s with the labels [%s]', async (name, type, labels) => {
  await ask(server, 'POST /infer')
  await ask(server, 'GET /healthz')
  const text = await scrape()
  expect(typesOf(text).get(name)).toBe(type)
  expect(text).toMatch(new RegExp(`^# HELP ${name} .`, 'm'))
  const samples = samplesOf(text).filter(sample => sample.name.replace(/_(bucket|sum|count)$/, '') === name)
  const isOfWhatThisServerHasNot = /device_|fallback/.test(name)
  if (!isOfWhatThisServerHasNot) expect(samples).not.toEqual([])
  for (const sample of samples) {
    const names = Object.keys(sample.labels).filter(label => label !== 'le')
    expect(names.sort()).toEqual(labels.split(' ').filter(Boolean).sort())
  }
})

test('the inference duration has the edges that the alerts are made for, 45 ms among them', async () => {
  const edges = samplesOf(await scrape())
    .filter(({ name }) => name === 'hailo_inference_duration_seconds_bucket')
    .map(({ labels: { le } }) => le)
  const expected =
    '0.001 0.0025 0.005 0.0075 0.01 0.015 0.02 0.025 0.03 0.04 0.045 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf'
  expect(edges).toEqual(expected.split(' '))
})

test('every counter moves by what was sent, and by nothing else', async () => {
  const [good, bad, lost, checks] = [7, 5, 3, 2]
  const moved = await movedBy(async () => {
    for (let n = 0; n < good; n++) {
      await postWindow(server, windowOf(n), n % 2 === 0 ? {} : { 'Content-Type': OCTET_STREAM })
    }
    for (let n = 0; n < bad; n++) await ask(server, 'POST /infer', { body: n % 2 === 0 ? '{}' : '[' })
    for (let n = 0; n < lost; n++) await ask(server, 'GET /nowhere')
    for (let n = 0; n < checks; n++) await ask(server, 'GET /healthz')
  })
  const inference = { operation: OPERATION, model: MODEL }
  const infer = { method: 'POST', endpoint: '/infer' }
  const unknown = { method: 'GET', endpoint: 'unknown' }
  const expected: [number, string, Record<string, string>?][] = [
    [good, 'hailo_inference_requests_total', { ...inference, status: 'success' }],
    [good, 'hailo_inference_requests_total'], // bad windows are no inference
    [good, 'hailo_inference_duration_seconds_count', inference],
    [good, 'hailo_inference_duration_seconds_bucket', { ...inference, le: '+Inf' }],
    [good, 'hailo_queue_wait_seconds_count'],
    [good * 5, 'hailo_stage_duration_seconds_count'],
    [good, 'hailo_stage_duration_seconds_count', { stage: 'admit' }],
    [good, 'hailo_stage_duration_seconds_count', { stage: 'encode' }],
    [bad, 'hailo_inference_errors_total', { error_type: 'invalid_window' }],
    [bad, 'hailo_inference_errors_total'], // an unknown path is no failed inference
    [good, 'hailo_http_requests_total', { ...infer, status_code: '200' }],
    [bad, 'hailo_http_requests_total', { ...infer, status_code: '400' }],
    [lost, 'hailo_http_requests_total', { ...unknown, status_code: '404' }],
    [good + bad, 'hailo_http_request_duration_seconds_count', infer],
    [lost, 'hailo_http_request_duration_seconds_count', unknown],
    [checks, 'hailo_health_checks_total', { status: 'healthy' }],
    [checks, 'hailo_health_checks_total'],
    [good * 100, 'hailo_samples_processed_total', { metric: 'samples_processed' }],
    [good, 'hailo_samples_processed_total', { metric: 'latent_vectors' }],
    [good, 'hailo_samples_processed_total', { metric: 'motif_predictions' }],
    [good, 'hailo_batch_size_sum'],
    [good, 'hailo_batch_size_count'], // one after the other: every batch held one window
    [0, 'hailo_rejected_total'],
    [0, 'hailo_cancelled_total'],
    [0, 'hailo_worker_restarts_total'],
    [0, 'hailo_input_suspect_units_total'],
  ]
  for (const [count, name, labels] of expected) {
    expect(moved(name, labels), `${name} ${JSON.stringify(labels)}`).toBe(count)
  }
})

test('each process metric is what the system says of the server', async () => {
  const { pid } = server.process
  let text = ''
  // Connections of the tests before may yet be closing.
  await until(async () => {
    text = await scrape()
    return sumOf(text, 'process_open_fds') === readdirSync(`/proc/${pid}/fd`).length
  })
  const residentKb = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1])
  const resident = sumOf(text, 'process_resident_memory_bytes')
  expect(resident / (residentKb * 1024)).toBeGreaterThan(0.9)
  expect(resident / (residentKb * 1024)).toBeLessThan(1.1)
  const limit = /^Max open files +(\d+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))![1]
  expect(sumOf(text, 'process_max_fds')).toBe(Number(limit))
  expect(sumOf(text, 'process_cpu_seconds_total')).toBeGreaterThan(0.05)
  const startedSeconds = sumOf(text, 'process_start_time_seconds')
  expect(startedSeconds).toBeLessThan(sumOf(text, 'hailo_sidecar_start_time_seconds'))
  expect(startedSeconds).toBeGreaterThan(Date.now() / 1000 - 600)
  expect(sumOf(text, 'nodejs_version_info', { version: process.version })).toBe(1)
})

test('a scrape needs no worker: while one is stuck it tells how full its ring is, and the fill is remembered', async () => {
  const faulty = await startFaultyServer({ RING_SLOTS: '8' })
  const { answer } = await faulty.hold()
  const waiting = [1, 2].map(n => post(faulty.port, windowOf(n)))
  await untilInFlight(faulty.port, 3)
  const ring = async () => {
    const names = ['hailo_ring_in_flight', 'hailo_ring_capacity', 'hailo_ring_saturation_ratio']
    return Promise.all(names.map(name => metric(faulty.port, name, 'worker="0"')))
  }
  expect(await ring()).toEqual([3, 8, 3 / 8])
  expect(await metric(faulty.port, 'hailo_worker_busy_seconds_total')).toBe(0)
  faulty.release()
  await Promise.all([answer, ...waiting])
  await expectIdle(faulty.port)
  expect(await ring()).toEqual([0, 8, 3 / 8])
  expect(await metric(faulty.port, 'hailo_worker_busy_seconds_total')).toBeGreaterThan(0)
})

test('a peak is told for ten seconds and more, then the next one', async () => {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  const observer = { inferenceEnded() {}, windowAnswered() {}, cancelled() {}, settled() {} }
  const stream = new Stream({ capacity: 8, motifCount: 12, observer })
  const registry = new MetricRegistry()
  addRings(registry, { streams: [stream], level: 0 })
  const told = async () => sumOf((await registry.scrape('')).text, 'hailo_ring_saturation_ratio')
  for (let n = 0; n < 6; n++) stream.publish({ arrivedMs: 0, deadlineMs: 0 }, { settle() {} })
  stream.ring.release(5) // all but one
  expect(await told()).toBe(6 / 8)
  vi.advanceTimersByTime(19_999)
  expect(await told()).toBe(6 / 8)
  vi.advanceTimersByTime(1)
  expect(await told()).toBe(1 / 8)
})

test('a window that comes after its deadline is an error and no inference', async () => {
  const moved = await movedBy(async () => {
    const { status } = await postWindow(server, windowOf(0), { 'X-Deadline-Ms': '0.0001' })
    expect(status).toBe(504)
  })
  expect(moved('hailo_inference_errors_total', { error_type: 'deadline_exceeded' })).toBe(1)
  expect(moved('hailo_http_requests_total', { endpoint: '/infer', status_code: '504' })).toBe(1)
  expect(moved('hailo_inference_requests_total')).toBe(0)
  expect(moved('hailo_inference_duration_seconds_count')).toBe(0)
})

test('a turn in degrees per second is answered, and counted as suspect units of the gyroscope', async () => {
  const slowTurn = windowOf(23).slice() // phone_turning_right, 2.3 rad/s on the mean
  for (let value = 0; value < slowTurn.length; value++) {
    // Ten times too much instead of 57 times: the rest of them would be out of range.
    if (value % 9 >= 3 && value % 9 < 6) slowTurn[value]! *= 10
  }
  const moved = await movedBy(async () => {
    for (const window of [slowTurn, windowOf(23), slowTurn]) {
      const headers = { 'Content-Type': OCTET_STREAM }
      expect((await ask(server, 'POST /infer', { headers, body: bytesOf(window) })).status).toBe(200)
    }
  })
  expect(moved('hailo_input_suspect_units_total', { sensor: 'gyroscope' })).toBe(2)
  expect(moved('hailo_input_suspect_units_total')).toBe(2)
})

test('no client can add a series', async () => {
  const attempts = (word: string) => [
    ask(server, `${word} /infer`),
    ask(server, `${word} /${word}`),
    ask(server, `GET /${word}?${word}=${word}`),
    ask(server, `POST /infer?${word}`, { headers: { 'X-Request-ID': word, 'X-Correlation-ID': word } }),
    ask(server, 'POST /infer', { headers: { 'Content-Type': `${word}/${word}`, Accept: word } }),
    ask(server, 'POST /infer', { headers: { 'X-Deadline-Ms': word, 'User-Agent': word, Origin: word } }),
    ask(server, 'POST /infer', { body: JSON.stringify({ [word]: word, model: word, operation: word }) }),
    ask(server, 'GET /healthz', { headers: { Host: word, 'X-Forwarded-For': word, 'X-API-Key': word } }),
  ]
  const seriesCount = async () => samplesOf(await scrape()).length
  await Promise.all(attempts('BREW'))
  const before = await seriesCount()
  for (const word of ['PROPFIND', 'success', 'A', '__proto__', 'constructor', 'x'.repeat(200)]) {
    await Promise.all(attempts(word))
  }
  expect(await seriesCount()).toBe(before)
  expect(await scrape()).not.toMatch(/PROPFIND|__proto__|constructor|xxx/)
})

test('GET /metrics is text of version 0.0.4, or OpenMetrics for those who ask, without harm to the text', async () => {
  const { headers, body } = await ask(server, 'GET /metrics')
  expect(headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/)
  expect(String(body)).not.toContain('# EOF')

  const openMetrics = await ask(server, 'GET /metrics', { headers: { Accept: PROMETHEUS } })
  expect(openMetrics.headers['content-type']).toMatch(/^application\/openmetrics-text; version=1\.0\.0/)

  const again = await ask(server, 'GET /metrics', { headers: { Accept: 'text/plain' } })
  expect(again.headers['content-type']).toBe(headers['content-type'])
  expect([...typesOf(String(again.body))]).toEqual([...typesOf(String(body))])
  expect(samplesOf(String(again.body)).map(({ name }) => name)).toContain('hailo_http_requests_total')
})

test.skipIf(!HAS_PROMTOOL)('promtool has nothing against the text (skipped without promtool)', async () => {
  await postWindow(server, windowOf(0))
  expect(complaintsAbout(await scrape())).toEqual([])
})

test('the OpenMetrics text is well formed: families in one piece, suffixes by type, buckets that add up, no series twice', async () => {
  const text = await scrape(PROMETHEUS)
  expect(text).toMatch(/\n# EOF\n$/)
  const lines = text.slice(0, -'# EOF\n'.length).trimEnd().split('\n')
  const suffixes: Record<string, RegExp> = {
    counter: /^_total$/,
    gauge: /^$/,
    histogram: /^_(bucket|sum|count)$/,
  }
  const families = new Map<string, string>()
  let family = ''
  for (const line of lines) {
    const [, keyword, name, rest] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? []
    if (keyword === 'HELP') {
      expect(families.has(name!), `${name} comes twice`).toBe(false)
      family = name!
    } else if (keyword === 'TYPE') {
      expect(name).toBe(family)
      expect(families.has(family), `${family} comes twice`).toBe(false)
      families.set(family, rest!)
    } else {
      const [sample] = samplesOf(line)
      expect(sample!.name.startsWith(family), `${line} in ${family}`).toBe(true)
      expect(sample!.name.slice(family.length), line).toMatch(suffixes[families.get(family)!]!)
    }
  }
  for (const [name, type] of families) if (type === 'histogram') expectBucketsToAddUp(text, name)
  // Both formats tell the same series.
  const names = (text: string) => new Set(samplesOf(text).map(({ name }) => name))
  expect(names(text)).toEqual(names(await scrape()))
})

/** In each row of the histogram the buckets only grow, and the open one has the count. */
function isSize({ metric = '' }: Record<string, string>): boolean {
  return ['latent_dimensions', 'motif_classes'].includes(metric)
}

function expectBucketsToAddUp(text: string, histogram: string): void {
  const samples = samplesOf(text)
  for (const count of samples.filter(({ name }) => name === `${histogram}_count`)) {
    const ofRow = ({ labels }: Sample) =>
      Object.entries(count.labels).every(([key, value]) => labels[key] === value)
    const buckets = samples.filter(sample => sample.name === `${histogram}_bucket` && ofRow(sample))
    const edges = buckets.map(({ labels: { le } }) => (le === '+Inf' ? Infinity : Number(le)))
    for (const values of [edges, buckets.map(({ value }) => value)]) {
      expect(values).toEqual(values.toSorted((a, b) => a - b))
    }
    expect(edges.at(-1)).toBe(Infinity)
    expect(buckets.at(-1)!.value).toBe(count.value)
  }
}

async function scrape(accept = ''): Promise<string> {
  return String((await ask(server, 'GET /metrics', { headers: { Accept: accept } })).body)
}

/** @throws on a line that is none, and on a series that comes twice */
function samplesOf(text: string): Sample[] {
  const seen = new Set<string>()
  return text
    .split('\n')
    .filter(line => line !== '' && !line.startsWith('#'))
    .map(line => {
      const [, name, labelText = '', value] =
        /^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\[\\"n])*",?)+)\})? (\S+)$/.exec(line) ?? []
      if (name === undefined || Number.isNaN(Number(value))) throw new Error(`not a sample: ${line}`)
      const pairs = labelText.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)
      const labels = Object.fromEntries(Array.from(pairs, ([, label, value]) => [label!, value!]))
      const series = name + JSON.stringify(Object.entries(labels).sort())
      if (seen.has(series)) throw new Error(`twice: ${series}`)
      seen.add(series)
      return { name, labels, value: Number(value) }
    })
}

function typesOf(text: string): Map<string, string> {
  return new Map(Array.from(text.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name, type]) => [name!, type!]))
}

/** The sum over all series of that name that have these labels among theirs. */
function sumOf(text: string, name: string, labels: Record<string, string> = {}): number {
  return samplesOf(text)
    .filter(sample => sample.name === name)
    .filter(sample => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
    .reduce((sum, { value }) => sum + value, 0)
}

/** By how much series move while something is done. */
async function movedBy(action: () => Promise<void>) {
  const before = await scrape()
  await action()
  const after = await scrape()
  return (name: string, labels?: Record<string, string>) =>
    sumOf(after, name, labels) - sumOf(before, name, labels)
}

test('with no file descriptor left, a scrape still tells so', async () => {
  const { port, process } = await startServerForTest({ INFER_MODE: 'stub', WORKERS: '1' })
  const connection = new Connection(port)
  const files = async () =>
    Number(/^process_open_fds (\d+)$/m.exec(String((await connection.get('/metrics')).body))![1])
  const open = await files()
  expect(open).toBeGreaterThan(10)
  // What is open stays so, and nothing more can be opened.
  spawnSync('prlimit', [`--pid=${process.pid}`, '--nofile=3'])
  const { status, body } = await connection.get('/metrics')
  expect(status).toBe(200)
  expect(await files()).toBeGreaterThanOrEqual(open)
  expect(Number(/^process_resident_memory_bytes (\d+)$/m.exec(String(body))![1])).toBeGreaterThan(1e7)
  connection.close()
})
