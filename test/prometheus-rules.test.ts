import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { PROJECT_FOLDER } from '../src/project.ts'
import { ask, postWindow } from './http-client.ts'
import { type Matcher, matchersOf, selectorsOf } from './promql.ts'
import { startServer, type TestServer } from './server.ts'
import { windowOf } from './windows.ts'

const FOLDER = join(PROJECT_FOLDER, 'compose', 'prometheus')
/** What a target can be labelled with, see targets/ */
const PROFILES = ['hailo-device', 'hailo-stub', 'onnx']
/** What a scrape of anything brings. */
const OF_PROMETHEUS = ['up']
interface Rule {
  readonly alert?: string
  readonly record?: string
  readonly expr: string
  readonly labels?: Record<string, string>
  readonly annotations?: Record<string, string>
}

interface RuleTests {
  readonly tests: readonly {
    readonly alert_rule_test?: readonly { alertname: string; exp_alerts: readonly object[] }[]
    readonly promql_expr_test?: readonly { expr: string; exp_samples: readonly { labels: string }[] }[]
  }[]
}

const RULES = yamlFilesIn('rules').flatMap(path =>
  (readYaml(path) as { groups: { rules: Rule[] }[] }).groups.flatMap(({ rules }) => rules),
)
const ALERTS = RULES.filter(({ alert }) => alert !== undefined)
const RECORDS = RULES.filter(({ record }) => record !== undefined)
const TESTS = yamlFilesIn('tests').flatMap(path => (readYaml(path) as RuleTests).tests)
const SELECTORS = RULES.flatMap(rule =>
  selectorsOf(rule.expr).map(selector => ({ rule: rule.alert ?? rule.record!, ...selector })),
)
const RUNBOOK = readFileSync(join(PROJECT_FOLDER, 'docs', 'runbook.md'), 'utf8')
const HEADINGS = [...RUNBOOK.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading!)

test.each(ALERTS.map(({ alert, ...rule }) => [alert!, rule] as const))(
  '%s has a severity, a summary and a section of the runbook that names it',
  (alert, rule) => {
    const { summary, runbook, runbook_url } = rule.annotations!
    const { severity } = rule.labels!
    expect(['critical', 'warning']).toContain(severity)
    expect(summary).toMatch(/\w/)
    const [, anchor] = /^docs\/runbook\.md#(.+)$/.exec(runbook!)!
    expect(HEADINGS.map(anchorOf)).toContain(anchor)
    expect(runbook_url).toBe(`{{ $externalLabels.docs_url }}/runbook.md#${anchor}`)
    expect(sectionOf(anchor!)).toContain(alert)
  },
)

test('the runbook has no section about an alert that there is not', () => {
  const anchors = new Set(ALERTS.map(({ annotations: { runbook } = {} }) => runbook!.split('#')[1]))
  const about = HEADINGS.filter(heading => heading.startsWith('Hailo'))
  expect(about.filter(heading => !anchors.has(anchorOf(heading)))).toEqual([])
  expect(about.length).toBe(anchors.size)
})

test('prometheus.yml tells where the links to the runbook begin', () => {
  expect(readYaml('prometheus.yml')).toMatchObject({
    global: { external_labels: { docs_url: expect.stringMatching(/^https?:\/\//) } },
  })
})

test('every alert has a test in which it fires, and one in which it stays quiet', () => {
  const alertsOf = (fires: boolean) =>
    new Set(
      TESTS.flatMap(({ alert_rule_test: looks = [] }) =>
        looks.some(({ exp_alerts }) => exp_alerts.length > 0) === fires
          ? looks.map(({ alertname }) => alertname)
          : [],
      ),
    )
  const names = ALERTS.map(({ alert }) => alert!)
  expect(new Set(names).size).toBe(names.length)
  expect(names.filter(name => !alertsOf(true).has(name))).toEqual([])
  expect(names.filter(name => !alertsOf(false).has(name))).toEqual([])
})

test('every series that is recorded has a test of its values', () => {
  const tested = TESTS.flatMap(({ promql_expr_test = [] }) => promql_expr_test).flatMap(each =>
    selectorsOf(each.expr).flatMap(({ name }) =>
      each.exp_samples.map(({ labels }) => ({ name, labels: matchersOf(labels) })),
    ),
  )
  const untested = RECORDS.filter(
    ({ record, labels = {} }) =>
      !tested.some(
        sample =>
          sample.name === record &&
          Object.entries(labels).every(([label, value]) =>
            sample.labels.some(each => each.label === label && each.value === value),
          ),
      ),
  )
  expect(RECORDS.length).toBeGreaterThan(15)
  expect(untested).toEqual([])
})

test('no alert that one cause makes beside others is kept back for one that there is not, or for itself', () => {
  interface Inhibition {
    readonly source_matchers: readonly string[]
    readonly target_matchers: readonly string[]
  }
  const { inhibit_rules } = readYaml('alertmanager.example.yml') as { inhibit_rules: Inhibition[] }
  const named = ([matcher]: readonly string[]) => {
    const [{ value }] = matchersOf(matcher!) as [Matcher]
    const alternatives = value.split(/\|(?![^(]*\))/).map(each => new RegExp(`^${each}$`))
    const names = alternatives.map(each => ALERTS.map(({ alert }) => alert!).filter(name => each.test(name)))
    expect(names, matcher).not.toContainEqual([])
    return names.flat()
  }
  for (const { source_matchers, target_matchers } of inhibit_rules) {
    const sources = named(source_matchers)
    expect(named(target_matchers).filter(name => sources.includes(name))).toEqual([])
  }
  expect(inhibit_rules.length).toBeGreaterThan(5)
})

const hasAmtool = spawnSync('amtool', ['--version']).status === 0
const hasPromtool = spawnSync('promtool', ['--version']).status === 0
const run = promisify(execFile)

describe('beside running servers', () => {
  let servers: { stub: TestServer; onnx: TestServer }
  let exported: Map<string, Map<string, Set<string>>>
  beforeAll(async () => {
    const [stub, onnx] = await Promise.all(
      ['stub', 'onnx'].map(INFER_MODE => startServer({ INFER_MODE, WORKERS: '1', DEADLINE_MS: '2000' })),
    )
    servers = { stub: stub!, onnx: onnx! }
    await ask(servers.onnx, 'GET /healthz')
    // The stub has no golden windows, and so no metrics of them; neither has a certificate.
    const scrapes = [scrape(servers.stub), scrape(servers.onnx), scrapeOfTls()]
    exported = labelsByName((await Promise.all(scrapes)).join(''))
  })
  afterAll(() => Promise.all(Object.values(servers).map(server => server.stop())))

  test('rules and runbook look at nothing that the server does not export and no rule records', () => {
    const recorded = RECORDS.map(({ record }) => record!)
    const known = new Set([...exported.keys(), ...recorded, ...OF_PROMETHEUS])
    const inRunbook = RUNBOOK.match(/(?<!")\b((hailo|process|nodejs)_|instance\w*:)[\w:]+/g)!
    expect(exported.size).toBeGreaterThan(40)
    expect(SELECTORS.length).toBeGreaterThan(50)
    expect(inRunbook.length).toBeGreaterThan(30)
    expect(SELECTORS.filter(({ name }) => !known.has(name))).toEqual([])
    // These are there with TLS alone, and test/runbook.test.ts looks for them.
    const ofTls = /^hailo_tls_/
    expect(inRunbook.filter(name => !known.has(name) && !ofTls.test(name))).toEqual([])
  })

  test('rules look at the job of the engine alone', () => {
    const exportedOnes = SELECTORS.filter(({ name }) => !name.includes(':'))
    const ofAnyJob = exportedOnes.filter(
      ({ matchers }) => !matchers.some(({ label, value }) => label === 'job' && value === 'hailo-inference'),
    )
    expect(exportedOnes.length).toBeGreaterThan(50)
    expect(ofAnyJob).toEqual([])
  })

  test('rules ask for no label, and for no value of it, that there is not', () => {
    const jobs = (readYaml('prometheus.yml') as { scrape_configs: { job_name: string }[] }).scrape_configs
    const ofTargets = new Map([
      ['job', new Set(jobs.map(({ job_name }) => job_name))],
      ['profile', new Set(PROFILES)],
    ])
    const wrong = SELECTORS.flatMap(({ rule, name, matchers }) =>
      matchers.flatMap(({ label, operator, value }) => {
        const labels = exported.get(name)
        // What has no rows here, such as a device's temperature, or comes from elsewhere, cannot be checked.
        const values = ofTargets.get(label) ?? (labels?.size ? (labels.get(label) ?? new Set()) : null)
        const wanted = operator.endsWith('~') ? value.split('|') : [value]
        return wanted.filter(each => values?.has(each) === false).map(each => [rule, name, label, each])
      }),
    )
    expect(wrong).toEqual([])
    const targets = readYaml('targets/hailo-inference.yml') as { labels: { profile: string } }[]
    for (const { labels } of targets) expect(PROFILES).toContain(labels.profile)
  })

  test.skipIf(!hasPromtool).each(['stub', 'onnx'] as const)(
    'promtool finds no alert on a server in %s mode that is fresh and well',
    async mode => {
      const server = servers[mode]
      const atStart = samplesOf(await scrape(server))
      await postWindow(server, windowOf(1))
      await ask(server, 'GET /healthz')
      const later = new Map(samplesOf(await scrape(server)).map(({ series, value }) => [series, value]))

      const target = `job="hailo-inference",instance="pi:9000",profile="${mode === 'stub' ? 'hailo-stub' : mode}"`
      const series = atStart.map(({ series, name, labels, value }) => ({
        series: `${name}{${[labels, target].filter(Boolean).join(',')}}`,
        // How late the main thread is says here how busy the machine of the test is.
        values: name === 'hailo_event_loop_lag_seconds' ? '0.001x31' : `${value} ${later.get(series)}x30`,
      }))
      expect(series.length).toBeGreaterThan(150)
      const folder = copyOfFolder()
      const file = join(folder, `${mode}.json`) // which is YAML too
      writeFileSync(
        file,
        JSON.stringify({
          rule_files: ['rules/*.yml'],
          evaluation_interval: '1m',
          tests: [
            {
              interval: '1m',
              input_series: [{ series: `up{${target}}`, values: '1x31' }, ...series],
              alert_rule_test: ALERTS.flatMap(({ alert }) =>
                ['0m', '3m', '30m'].map(eval_time => ({ alertname: alert, eval_time, exp_alerts: [] })),
              ),
            },
          ],
        }),
      )
      await run('promtool', ['test', 'rules', file])
    },
  )
})

describe.skipIf(!hasPromtool)('promtool (skipped where it is not installed: apt install prometheus)', () => {
  test('takes the configuration and its rules, wherever the folder is mounted', async () => {
    const { stdout } = await run('promtool', ['check', 'config', join(copyOfFolder(), 'prometheus.yml')])
    const counts = [...stdout.matchAll(/SUCCESS: (\d+) rules found/g)].map(([, count]) => Number(count))
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(RULES.length)
  })

  test('finds that every rule records and fires what its tests expect', async () => {
    const files = yamlFilesIn('tests').map(path => join(FOLDER, path))
    await Promise.all(files.map(file => run('promtool', ['test', 'rules', file])))
  }, 60_000)
})

test.skipIf(!hasAmtool)('amtool takes the example for an Alertmanager', async () => {
  await run('amtool', ['check-config', join(FOLDER, 'alertmanager.example.yml')])
})

/** Somewhere else, for the length of the test. */
function copyOfFolder(): string {
  const copy = mkdtempSync(join(tmpdir(), 'prometheus-'))
  onTestFinished(() => rmSync(copy, { recursive: true }))
  cpSync(FOLDER, copy, { recursive: true })
  return copy
}

interface Sample {
  /** With its labels, as it was exported. */
  readonly series: string
  readonly name: string
  /** What stands between the braces. */
  readonly labels: string
  readonly value: string
}

async function scrape(server: TestServer): Promise<string> {
  return (await ask(server, 'GET /metrics')).body.toString()
}

async function scrapeOfTls(): Promise<string> {
  const tls = { TLS_CERT: 'test/fixtures/tls/old.pem', TLS_KEY: 'test/fixtures/tls/old.key' }
  const server = await startServer({ INFER_MODE: 'stub', WORKERS: '1', ...tls })
  const [answer] = await once(get(`${server.url}/metrics`, { rejectUnauthorized: false }), 'response')
  const metrics = await text(answer)
  await server.stop()
  return metrics
}

function samplesOf(text: string): Sample[] {
  return [...text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)].map(([line, name, labels = '', value]) => ({
    series: line.slice(0, line.lastIndexOf(' ')),
    name: name!,
    labels,
    value: value!,
  }))
}

/** Which labels the series of each name have, and with which values. Names without a series have none. */
function labelsByName(text: string): Map<string, Map<string, Set<string>>> {
  const names = [...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name!)
  const found = new Map(names.map(name => [name, new Map<string, Set<string>>()]))
  for (const { name, labels } of samplesOf(text)) {
    const ofName = found.get(name) ?? new Map<string, Set<string>>()
    found.set(name, ofName)
    for (const { label, value } of matchersOf(labels)) {
      ofName.set(label, (ofName.get(label) ?? new Set()).add(value))
    }
  }
  return found
}

function yamlFilesIn(folder: string): string[] {
  const files = readdirSync(join(FOLDER, folder)).map(name => join(folder, name))
  expect(files).not.toEqual([])
  return files
}

function readYaml(path: string): unknown {
  return parse(readFileSync(join(FOLDER, path), 'utf8'))
}

/** As GitHub and GitLab make it of a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-')
}

/** The text below the heading with this anchor, down to the next one. */
function sectionOf(anchor: string): string {
  const sections = RUNBOOK.split(/^#+ (?=.+$)/m)
  return sections.find(section => anchorOf(section.slice(0, section.indexOf('\n'))) === anchor)!
}
