import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { type PanelJson, panelsOf, queriesOf, readDashboard, resolve, substitute } from './grafana.ts'
import { softDevice } from './hailo.ts'
import { buildNative, COMPILER } from './native.ts'
import { HAS_PROMETHEUS, Prometheus, rulesOf } from './prometheus.ts'
import { selectorsOf } from './promql.ts'
import { startServer, type TestServer } from './server.ts'
import { startTraffic } from './traffic.ts'

const FIXTURES = 'test/fixtures/dashboards'
const SHIPPED_DASHBOARDS = filesIn('compose/grafana/dashboards', '.json')
const SHIPPED_RULES = filesIn('compose/prometheus/rules', '.yml')

// Those of others: DASHBOARDS=/a.json:/b.json RULES=/c.yml npx vitest run test/dashboards.test.ts
const { DASHBOARDS = '', RULES = '' } = process.env
const DASHBOARD_FILES = [...SHIPPED_DASHBOARDS, ...filesIn(FIXTURES, '.json'), ...pathsIn(DASHBOARDS)]
const RULE_FILES = [...SHIPPED_RULES, join(FIXTURES, 'old-rules.yml'), ...pathsIn(RULES)]

/** What an expression names if it is about this engine: our metrics, those of any scrape, or recorded ones. */
const OURS = /\b(hailo_\w+|process_\w+|nodejs_\w+|up|scrape_\w+|[a-z_]\w*:\w+)\b/i
/** From the start of the traffic until the last figure must be there, ms. */
const PATIENCE_MS = 40_000
/** For a query that begins when that time is up, ms. */
const LAST_PATIENCE_MS = 5000

/** All is on that has a panel; of traces it is enough that nobody takes them. */
const SERVER = {
  LOG_LEVEL: 'fatal',
  OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9',
  GOLDEN_INTERVAL_S: '1',
  WORKERS: '2',
  RING_SLOTS: '8',
}
/** Slow enough to be overrun at times. */
const DEVICE_TIMING = 'fps=500,depth=2'

/** What each selector of our dashboards has. */
const ASKED = [
  { label: 'job', operator: '=', value: 'hailo-inference' },
  { label: 'instance', operator: '=~', value: '$instance' },
]

const needs = HAS_PROMETHEUS ? '' : ', which needs the package prometheus'
describe.skipIf(!HAS_PROMETHEUS)(`a Prometheus that scrapes a replay${needs}`, { retry: 0 }, () => {
  const telemetryFolder = join(tmpdir(), `dashboards-${process.pid}`)
  let server: TestServer
  let prometheus: Prometheus
  let stopTraffic = async () => {}
  let patientUntilMs = 0

  beforeAll(async () => {
    if (COMPILER !== null) await buildNative()
    mkdirSync(telemetryFolder, { recursive: true })
    const device = COMPILER !== null && { ...softDevice().env, SOFTHAILORT_TIMING: DEVICE_TIMING }
    server = await startServer({ ...SERVER, TELEMETRY_DIR: telemetryFolder, ...device })
    prometheus = await Prometheus.start({ port: server.port, ruleFiles: RULE_FILES })
    stopTraffic = startTraffic(server)
    patientUntilMs = performance.now() + PATIENCE_MS
  }, 180_000)
  afterAll(async () => {
    await stopTraffic()
    await prometheus?.stop()
    await server?.stop()
    rmSync(telemetryFolder, { recursive: true })
  })

  /** Tries again until it succeeds or there has been time enough. @throws what the last try has thrown */
  async function inTime(attempt: () => Promise<void>): Promise<void> {
    const lastMs = Math.max(patientUntilMs, performance.now() + LAST_PATIENCE_MS)
    while (true) {
      try {
        return await attempt()
      } catch (error) {
        if (performance.now() > lastMs) throw error
      }
      await sleep(50)
    }
  }

  /** @throws when a query finds no number, or Prometheus does not understand it */
  async function expectFigures(expression: string): Promise<void> {
    const samples = await prometheus.query(expression)
    if (samples.length === 0) throw new Error(`no data for ${expression}`)
    if (samples.every(({ value }) => Number.isNaN(value))) throw new Error(`only NaN for ${expression}`)
  }

  describe.each(DASHBOARD_FILES)('every panel has data: %s', file => {
    const dashboard = readDashboard(file)

    test.for(queriesOf(dashboard))('$title', async ({ expressions: all }, { skip }) => {
      const expressions = all.filter(isOurs)
      const reason = whyNot(expressions)
      if (reason !== null) skip(reason)
      await inTime(async () => {
        const values = await resolve(dashboard, prometheus)
        for (const expression of expressions) await expectFigures(substitute(expression, values))
      })
    })
  })

  describe.each(SHIPPED_DASHBOARDS)('nothing comes from other jobs: %s', file => {
    const dashboard = readDashboard(file)
    const expressions = queriesOf(dashboard).flatMap(({ expressions }) => expressions)

    test('what may be chosen are the instances of the engine alone', async () => {
      await inTime(() => expectFigures('hailo_build_info{job="others"}'))
      expect(await resolve(dashboard, prometheus)).toMatchObject({ instance: '(hailo-inference:9000)' })
    })

    test('no panel shows anything of any instance where there is no such job', async () => {
      const values = { ...(await resolve(dashboard, prometheus)), instance: '.*' }
      for (const expression of expressions) {
        const elsewhere = substitute(expression, values).replaceAll('job="hailo-inference"', 'job="none"')
        expect(await prometheus.query(elsewhere), expression).toEqual([])
      }
    })
  })

  test('no rule records anything of other jobs', async () => {
    await inTime(() => expectFigures('rate(hailo_inference_duration_seconds_count{job="others"}[5s]) > 0'))
    const recorded = SHIPPED_RULES.flatMap(file => rulesOf(file).filter(({ alerts }) => !alerts))
    for (const { name } of recorded) {
      const ofOthers = name.includes(':') ? '{job="others"}' : '{job="others",quantile!=""}'
      expect(await prometheus.query(`${name}${ofOthers}`)).toEqual([])
    }
    expect(await prometheus.query('{job="others",operation=~"hailo_sidecar.*"}')).toEqual([])
  })

  describe.each(RULE_FILES)('every recording rule has data, every alert is understood: %s', file => {
    test.for(rulesOf(file))('$name', async ({ alerts, expression }, { skip }) => {
      const reason = whyNot([expression].filter(isOurs))
      if (reason !== null) skip(reason)
      if (alerts) await prometheus.query(expression)
      else await inTime(() => expectFigures(expression))
    })
  })

  // Or panels of errors would have data that is all zeros.
  test.each([
    ['answers without a fault', 'hailo_http_requests_total{status_code="200"}'],
    ['bad windows', 'hailo_http_requests_total{status_code="400"}'],
    ['windows that were shed', 'hailo_http_requests_total{status_code="429"}'],
    ['streams that heed no credit', 'hailo_rejected_total{reason="no_credit"}'],
    ['windows that were taken back', 'hailo_ws_frames_total{type="cancel"}'],
    ['streams that are answered', 'hailo_ws_frames_total{type="result"}'],
    ['questions for its health', 'hailo_health_checks_total{status="healthy"}'],
  ])('the traffic has %s', (_, series) => inTime(() => expectFigures(`${series} > 0`)))

  test.each([
    ['nothing', 'hailo_queue_capacities', 'no data for hailo_queue_capacities'],
    ['only NaN', 'hailo_queue_capacity * 0 / 0', 'only NaN for hailo_queue_capacity * 0 / 0'],
    ['no sense', 'sum(hailo_queue_capacity', /parse error/],
  ])('a query that finds %s is told', async (_, expression, words) => {
    await expect(expectFigures(expression)).rejects.toThrow(words)
  })

  test('a query that uses a variable without values is told', async () => {
    const variable = { name: 'node', type: 'query', query: 'label_values(hailo_queue_capacity, node)' }
    const values = await resolve({ title: '', templating: { list: [variable] } }, prometheus)
    expect(() => substitute('up{node="$node"}', values)).toThrow('variable node has no values')
  })
})

function isOurs(expression: string): boolean {
  return OURS.test(expression.replace(/"[^"]*"/g, '""'))
}

/** Why queries cannot have data here; null when they must. @param expressions those that are about this engine */
function whyNot(expressions: readonly string[]): string | null {
  const naming = (start: string) =>
    expressions.some(expression => new RegExp(String.raw`\b${start}`).test(expression))
  if (expressions.length === 0) return 'names no metric of this engine'
  if (naming('hailo_tls_')) return 'this Prometheus scrapes no TLS'
  if (COMPILER === null && naming('hailo_device_')) return 'no C++ compiler, so no software device'
  return null
}

test('the dashboards begin with the data source that is provisioned, and lie where Grafana is told to look', () => {
  const { datasources } = provisioned('datasources/prometheus.yml')
  expect(datasources).toMatchObject([{ type: 'prometheus', uid: 'prometheus' }])
  for (const file of SHIPPED_DASHBOARDS) {
    const variable = readDashboard(file).templating!.list.find(({ type }) => type === 'datasource')
    expect(variable).toMatchObject({ name: 'datasource', current: { value: datasources[0].uid } })
  }
  const { providers } = provisioned('dashboards/hailo-inference.yml')
  const path = providers[0].options.path
  expect(readFileSync('compose/grafana/README.md', 'utf8')).toContain(`dashboards:${path}:ro`)
})

describe.each(SHIPPED_DASHBOARDS)('%s', file => {
  const dashboard = readDashboard(file)
  const panels = panelsOf(dashboard)

  test('has a uid of its own, and panels with ids and titles of their own', () => {
    const uids = SHIPPED_DASHBOARDS.map(file => readDashboard(file).uid)
    expect(new Set(uids).size).toBe(uids.length)
    expect(uids).not.toContain(undefined)
    const ids = dashboard.panels!.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    const titles = panels.map(({ title }) => title)
    expect(new Set(titles).size).toBe(titles.length)
  })

  test('has no panels of the types that Grafana 11 has given up', () => {
    const types = panels.map(({ type }) => type)
    expect(
      types.filter(type => ['graph', 'singlestat', 'table-old', 'grafana-worldmap-panel'].includes(type)),
    ).toEqual([])
  })

  test('lays its panels out on 24 columns, none over another', () => {
    const taken = new Map<string, string>()
    for (const { title = '', gridPos } of dashboard.panels!) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24)
      for (const cell of cellsOf(gridPos)) {
        expect(taken.get(cell), `${title} lies over another`).toBeUndefined()
        taken.set(cell, title)
      }
    }
  })

  test('says of each panel what it shows, in which unit', () => {
    for (const { title = '', description = '', fieldConfig } of panels) {
      expect(title).not.toBe('')
      expect(description, title).toMatch(/\w.*\.$/)
      expect(fieldConfig!.defaults.unit, title).toMatch(/^\w+$/)
    }
  })

  test('asks the data source and the instances that are chosen above, of the job of the engine', () => {
    for (const { title, datasource } of panels) {
      expect(datasource, title).toEqual({ type: 'prometheus', uid: `\${datasource}` })
    }
    for (const { title, expressions } of queriesOf(dashboard)) {
      for (const { name, matchers } of expressions.flatMap(selectorsOf)) {
        expect(matchers, `${title}: ${name}`).toEqual(expect.arrayContaining(ASKED))
      }
    }
  })

  test('counts of the names that rules record under too only what the engine itself tells', () => {
    for (const { title, expressions } of queriesOf(dashboard)) {
      const selectors = expressions.flatMap(expression => [
        ...expression.matchAll(/\bhailo_inference_(?:requests_total|duration_seconds\w*)\{([^}]*)\}/g),
      ])
      for (const [, labels] of selectors) expect(labels, title).toContain('operation="tcn_vae_inference"')
    }
  })

  test('draws the line at 45 ms into its latencies', () => {
    const latencies = panels.filter(({ title }) => /latency/i.test(title!))
    expect(latencies.length).toBeGreaterThan(0)
    for (const { title, fieldConfig } of latencies) {
      expect(
        fieldConfig!.defaults.thresholds!.steps.map(({ value }) => value),
        title,
      ).toContain(0.045)
    }
  })
})

function cellsOf({ x, y, w, h }: PanelJson['gridPos']): string[] {
  return Array.from({ length: w * h }, (_, cell) => `${x + (cell % w)},${y + Math.floor(cell / w)}`)
}

function provisioned(file: string) {
  return parse(readFileSync(join('compose/grafana/provisioning', file), 'utf8'))
}

function filesIn(folder: string, extension: string): string[] {
  return readdirSync(folder)
    .filter(name => name.endsWith(extension))
    .map(name => join(folder, name))
}

function pathsIn(list: string): string[] {
  return list.split(':').filter(path => path !== '')
}
