import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Slot } from '../src/core/slot.ts'
import type { InFlight } from '../src/engine/stream.ts'
import type { Logger } from '../src/log.ts'
import { PROJECT_FOLDER } from '../src/project.ts'
import { Complaints } from '../src/tracing/complaints.ts'
import { Tracing } from '../src/tracing/tracing.ts'
import { ask, bytesOf, OCTET_STREAM, postWindow } from './http-client.ts'
import { metric, startServerForTest, until } from './load.ts'
import { ORIGIN } from './origin.ts'
import { inferBinary } from './v2.ts'
import { GOLDEN, windowOf } from './windows.ts'
import { greet, IN_BINARY, WebSocketClient } from './ws-client.ts'

const STAGES = ['admit', 'queue', 'infer', 'settle', 'encode']
const SERVER_KIND = 2
const ERROR_STATUS = 2
const PACKAGES = { NODE_OPTIONS: `--import=${join(PROJECT_FOLDER, 'dist/test/programs/tell-packages.js')}` }

/** As OTLP has it in JSON. */
interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: { key: string; value: { stringValue?: string; intValue?: number } }[]
  readonly status: { code: number }
}

/** What one export brings. */
interface Export {
  readonly resourceSpans: { resource: Pick<Span, 'attributes'>; scopeSpans: { spans: Span[] }[] }[]
}

test('a traced window brings its spans below that of its caller: the server, and in it one stage after the other', async () => {
  const { spans, heads, resources, url } = await startCollector()
  const server = await startTraced(url, {
    OTEL_SERVICE_NAME: 'collar',
    ...PACKAGES,
    OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Bearer%20token',
  })
  const beganMs = Date.now()
  const caller = callerOf('01')
  const answer = await postWindow(server, windowOf(0), {
    traceparent: caller.traceparent,
    'X-Request-ID': 'walk-7',
  })
  expect(answer.status).toBe(200)
  const untraced = callerOf('00')
  await postWindow(server, windowOf(0), { traceparent: untraced.traceparent })
  const invalid = callerOf('01')
  await postWindow(server, windowOf(0), { traceparent: `${invalid.traceparent}-more` })
  const failing = callerOf('01')
  await ask(server, 'POST /infer', { headers: { traceparent: failing.traceparent }, body: '{}' })
  const streaming = callerOf('01')
  const client = await WebSocketClient.open(server, { headers: { traceparent: streaming.traceparent } })
  await greet(client, IN_BINARY)
  client.send(IN_BINARY.window(5, windowOf(0), 5000), IN_BINARY.window(6, windowOf(1), 5000))
  await client.answers(2)

  await until(() => spans.filter(({ kind }) => kind === SERVER_KIND).length === 5)
  const [root] = serversOf(caller.traceId)
  expect(root).toMatchObject({ name: '/infer', parentSpanId: caller.spanId, status: { code: 0 } })
  expect(attributesOf(root!)).toEqual({
    'http.route': '/infer',
    'http.response.status_code': 200,
    'hailo.request_id': 'walk-7',
    'hailo.sequence': 0,
    'hailo.backend': 'onnx',
    'hailo.model_sha256': answer.headers['x-model-sha256'],
    'hailo.config_version': '1',
  })
  expectStagesOf(root!)
  expect(Number(root!.startTimeUnixNano) / 1e6).toBeGreaterThan(beganMs - 2)
  expect(Number(root!.endTimeUnixNano) / 1e6).toBeLessThan(Date.now() + 2)

  expect(spans.filter(({ traceId }) => traceId === untraced.traceId)).toEqual([])
  expect(spans.filter(({ traceId }) => traceId === invalid.traceId)).toEqual([])
  expect(spans.filter(({ kind, parentSpanId }) => kind === SERVER_KIND && !parentSpanId)).toHaveLength(1)

  const [failed] = serversOf(failing.traceId)
  expect(failed).toMatchObject({ parentSpanId: failing.spanId, status: { code: ERROR_STATUS } })
  expect(attributesOf(failed!)).toMatchObject({
    'http.response.status_code': 400,
    'error.type': 'invalid_window',
  })
  const streamed = serversOf(streaming.traceId)
  expect(streamed.map(span => attributesOf(span)['hailo.sequence'])).toEqual([5, 6])
  for (const span of streamed) {
    expect(span).toMatchObject({ name: '/stream', parentSpanId: streaming.spanId })
    expect(attributesOf(span)['hailo.stream']).toBe(1)
    expectStagesOf(span)
  }
  expect(heads[0]).toMatchObject({ url: '/v1/traces', authorization: 'Bearer token' })
  expect(resources[0]).toMatchObject({ 'service.name': 'collar' })
  await until(async () => (await metric(server.port, 'hailo_trace_spans_total', 'exported')) === 25)
  expect(await metric(server.port, 'hailo_trace_spans_total', 'dropped')).toBe(0)

  // What still waits reaches the collector before the server ends.
  expect((await postWindow(server, windowOf(0))).status).toBe(200)
  expect([25, 31]).toContain(spans.length) // all 31 only where the answer took longer than spans wait
  expect(await server.stop()).toBe(0)
  expect(spans).toHaveLength(31)
  expect(server.stderr).toContain('OpenTelemetry: loaded')

  function serversOf(trace: string): Span[] {
    return spans.filter(({ traceId, kind }) => traceId === trace && kind === SERVER_KIND)
  }

  function expectStagesOf(parent: Span): void {
    const stages = spans.filter(({ parentSpanId }) => parentSpanId === parent.spanId)
    expect(stages.map(({ name }) => name)).toEqual(STAGES)
    const edges = stages.flatMap(stage => [stage.startTimeUnixNano, stage.endTimeUnixNano])
    // Each begins where the one before has ended, and together they are the whole.
    expect(edges.slice(1, -1).filter((_, n) => n % 2 === 0)).toEqual(
      edges.slice(1, -1).filter((_, n) => n % 2 === 1),
    )
    expect([edges.at(0), edges.at(-1)]).toEqual([parent.startTimeUnixNano, parent.endTimeUnixNano])
    expect(edges).toEqual(edges.toSorted())
  }
})

test('all windows of a request that names no trace are in one that begins with it, and the log names that one', async () => {
  const { spans, url } = await startCollector()
  const server = await startTraced(url, { INFER_MODE: 'stub', LOG_LEVEL: 'info' })
  const headers = { 'Content-Type': OCTET_STREAM }
  const body = Buffer.concat([0, 1, 2, 3].map(n => bytesOf(windowOf(n))))
  await ask(server, 'POST /infer', { headers: { ...headers, 'X-Request-ID': 'bulk' }, body })
  await inferBinary(server, [windowOf(0), windowOf(1)], { headers: { 'X-Request-ID': 'v2' } })
  const client = await WebSocketClient.open(server, { headers: { 'X-Request-ID': 'stream' } })
  await greet(client, IN_BINARY)
  client.send(IN_BINARY.window(5, windowOf(0), 5000), IN_BINARY.window(6, windowOf(1), 5000))
  await client.answers(2)
  const notValid = `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`
  await ask(server, 'POST /infer', {
    headers: { traceparent: notValid, 'X-Request-ID': 'bad' },
    body: '{}',
  })

  await until(() => spans.length === (4 + 2 + 2) * 6 + 1)
  const roots = spans.filter(({ parentSpanId }) => !parentSpanId)
  const idsOf = (name: string) =>
    roots.filter(root => attributesOf(root)['hailo.request_id'] === name).map(({ traceId }) => traceId)
  for (const [name, windows] of Object.entries({ bulk: 4, v2: 2, stream: 2, bad: 1 })) {
    expect(idsOf(name)).toHaveLength(windows)
    expect(new Set(idsOf(name)).size).toBe(1)
  }
  expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(4)
  const logged = new RegExp(`"code":"invalid_window".*"request_id":"bad","trace_id":"${idsOf('bad')[0]}"`)
  await until(() => logged.test(server.stderr))
})

describe('Tracing', () => {
  const answerTo = (tracing: Tracing) => {
    const origin = { ...ORIGIN, trace: tracing.begin('') }
    const window = { arrivedMs: 0, waiter: { origin } } as unknown as InFlight
    const slot = { backend: 'stub', publishedMs: 0, queueWaitMs: 0, inferenceMs: 0 } as Slot
    tracing.windowAnswered(window, slot, 0, 0)
  }

  test('makes spans of so many windows a second that they cost little', async () => {
    const { tracing, dropped } = await tracingOf(1)
    for (let n = 0; n < 150; n++) tracing.windowFailed('draining', { ...ORIGIN, trace: tracing.begin('') })
    expect(dropped()).toBe(50)
    vi.advanceTimersByTime(1000)
    for (let n = 0; n < 100; n++) tracing.windowFailed('draining', { ...ORIGIN, trace: tracing.begin('') })
    expect(dropped()).toBe(50)
  })

  test('makes none beyond the 2,048 that wait for a collector that does not answer', async () => {
    const { tracing, dropped } = await tracingOf(1)
    for (let n = 0; n < 400; n++, vi.advanceTimersByTime(11)) answerTo(tracing)
    expect(dropped()).toBe((400 - Math.floor(2048 / 6)) * 6)
  })

  test('begins a trace for as many requests as it was told to, and leaves it to a caller where there is one', async () => {
    const { tracing } = await tracingOf(0.25)
    const chance = vi.spyOn(Math, 'random')
    expect(chance.mockReturnValue(0.25) && tracing.begin('')).toBeNull()
    expect(chance.mockReturnValue(0.24) && tracing.begin('')).toMatchObject({
      parentSpanId: '',
      sampled: true,
    })
    const { traceId: id, spanId: parentSpanId, traceparent } = callerOf('00')
    expect(tracing.begin(traceparent)).toEqual({ id, parentSpanId, sampled: false })
    for (const notValid of [traceparent.replace('00', 'ff'), `00-${'0'.repeat(32)}-${parentSpanId}-01`]) {
      expect(tracing.begin(notValid)!.id).not.toBe(notValid.split('-')[1])
    }
    chance.mockRestore()
  })

  test('tells in its own words what a collector did not take', async () => {
    const partialSuccess = { rejectedSpans: 5, errorMessage: 'too old' }
    const { tracing, lines } = await tracingOf(1, (_, response) => {
      response.setHeader('Content-Type', 'application/json').end(JSON.stringify({ partialSuccess }))
    })
    for (let n = 0; n < 2; n++) {
      answerTo(tracing)
      await tracing.flush(1000)
    }
    const reason = expect.stringMatching(/Partial Success.*rejectedSpans.*5.*too old/)
    expect(lines).toEqual([['warn', { reason }, 'OpenTelemetry warns']])
  })

  /** Its clock stands still. */
  async function tracingOf(sampleRatio: number, collector: RequestListener = () => {}) {
    vi.useFakeTimers({ toFake: ['hrtime'] })
    onTestFinished(() => void vi.useRealTimers())
    const { url } = await startCollector(collector)
    const traceSpans = vi.fn<(result: string, count: number) => void>()
    const { log, lines } = logForTest()
    const tracing = new Tracing({
      config: { url, headers: {}, serviceName: 'test', sampleRatio },
      configVersion: '1',
      version: '1',
      modelSha256: () => '',
      httpStatus: {},
      tally: { traceSpans },
      log,
    })
    const dropped = () =>
      traceSpans.mock.calls.reduce((sum, [result, count]) => sum + (result === 'dropped' ? count : 0), 0)
    return { tracing, dropped, lines }
  }
})

test('a collector that never answers costs answers nothing: spans it has no room for are dropped and counted', async () => {
  const { url } = await startCollector(() => {})
  const server = await startTraced(url, { INFER_MODE: 'stub' })
  const body = Buffer.concat(Array.from({ length: 600 }, (_, n) => bytesOf(windowOf(n % GOLDEN.count))))
  const headers = { 'Content-Type': OCTET_STREAM, Accept: OCTET_STREAM }
  const { status, body: results } = await ask(server, 'POST /infer', { headers, body })
  expect(status).toBe(200)
  expect(results.length).toBe(600 * 304)
  expect(await metric(server.port, 'hailo_trace_spans_total', 'dropped')).toBeGreaterThan(0)
  expect((await postWindow(server, windowOf(0))).status).toBe(200)
  expect(await server.stop()).toBe(0)
})

test('a collector that is not there is told in one line, and what was meant for it is dropped', async () => {
  const server = await startTraced('http://127.0.0.1:1', { INFER_MODE: 'stub', LOG_LEVEL: 'info' })
  expect((await postWindow(server, windowOf(0))).status).toBe(200)
  await until(async () => (await metric(server.port, 'hailo_trace_spans_total', 'dropped')) === 6)
  expect(await metric(server.port, 'hailo_trace_spans_total', 'exported')).toBe(0)
  const told = /"reason":".*ECONNREFUSED.*","times":1,"msg":"traces are not exported"/g
  await until(() => told.test(server.stderr))
  expect(server.stderr.match(told)).toHaveLength(1)
})

test('without a collector OpenTelemetry is not even loaded', async () => {
  const server = await startServerForTest({ INFER_MODE: 'stub', ...PACKAGES })
  expect((await postWindow(server, windowOf(0), callerOf('01'))).status).toBe(200)
  expect(await server.stop()).toBe(0)
  expect(server.stderr).toContain('OpenTelemetry: not loaded')
})

describe('Complaints', () => {
  test('tells the first failure, counts those of the next minute, and tells when it is over', () => {
    const { complaints, lines } = complaintsOf()
    complaints.over()
    for (let n = 0; n < 3; n++) complaints.tell(new Error('gone'))
    expect(lines).toEqual([['warn', { reason: 'gone', times: 1 }, 'traces are not exported']])
    complaints.over()
    complaints.over()
    expect(lines.slice(1)).toEqual([['info', { times: 2 }, 'traces are exported again']])
  })

  test('tells of a collector that comes and goes twice a minute, and at last that it works', () => {
    const { complaints, lines } = complaintsOf()
    for (let second = 0; second < 120; second++, vi.advanceTimersByTime(1000)) {
      if (second % 2 === 0) complaints.tell(new Error('gone'))
      else complaints.over()
    }
    expect(lines.map(([level]) => level)).toEqual(['warn', 'info', 'warn', 'info'])
    vi.advanceTimersByTime(60_000)
    complaints.over()
    expect(lines.slice(4)).toMatchObject([
      ['info', { times: expect.any(Number) }, 'traces are exported again'],
    ])
  })

  test('passes on what OpenTelemetry says once a minute, which is no failure', () => {
    const { complaints, lines } = complaintsOf()
    for (let second = 0; second < 60; second++, vi.advanceTimersByTime(1000)) {
      complaints.warn('rejected 5')
      complaints.over()
    }
    expect(lines).toEqual([['warn', { reason: 'rejected 5' }, 'OpenTelemetry warns']])
  })

  /** Its clock stands still. */
  function complaintsOf() {
    vi.useFakeTimers({ toFake: ['hrtime'] })
    onTestFinished(() => void vi.useRealTimers())
    const { log, lines } = logForTest()
    return { complaints: new Complaints(log), lines }
  }
})

function logForTest() {
  const lines: [level: string, fields: object, text: string][] = []
  const at = (level: string) => (fields: object, text: string) => void lines.push([level, fields, text])
  return { log: { warn: at('warn'), info: at('info') } as unknown as Logger, lines }
}

let traces = 0

/** What a caller sends that traces, or does not. */
function callerOf(flags: '00' | '01') {
  const traceId = String(++traces).padStart(32, 'a')
  const spanId = String(traces).padStart(16, 'b')
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-${flags}` }
}

function startTraced(url: string, env: Record<string, string> = {}) {
  return startServerForTest({ WORKERS: '1', DEADLINE_MS: '5000', OTEL_EXPORTER_OTLP_ENDPOINT: url, ...env })
}

/** Takes what OTLP/HTTP brings, in JSON. @param answer in place of that */
async function startCollector(answer?: RequestListener) {
  const spans: Span[] = []
  const heads: object[] = []
  const resources: object[] = []
  const server = createServer(
    answer ??
      (async (request, response) => {
        const { resourceSpans } = (await json(request)) as Export
        heads.push({ url: request.url, ...request.headers })
        for (const { resource, scopeSpans } of resourceSpans) {
          resources.push(attributesOf(resource))
          for (const scope of scopeSpans) spans.push(...scope.spans)
        }
        response.setHeader('Content-Type', 'application/json').end('{}')
      }),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { spans, heads, resources, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

function attributesOf({ attributes }: Pick<Span, 'attributes'>): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? value.intValue]))
}
