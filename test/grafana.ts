import { readFileSync } from 'node:fs'
import type { Prometheus } from './prometheus.ts'

/** As much of a dashboard's JSON as is read here; of the fields of other layouts none is relied on. */
export interface DashboardJson {
  readonly uid?: string
  readonly title: string
  readonly panels?: readonly PanelJson[]
  /** Before Grafana 5. */
  readonly rows?: readonly { readonly panels: readonly PanelJson[] }[]
  readonly templating?: { readonly list: readonly Variable[] }
  readonly annotations?: { readonly list: readonly { readonly name: string; readonly expr?: string }[] }
}

export interface PanelJson {
  readonly id: number
  readonly type: string
  readonly title?: string
  readonly description?: string
  readonly datasource?: unknown
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly { readonly expr?: string; readonly datasource?: unknown }[]
  /** Of a row that is folded. */
  readonly panels?: readonly PanelJson[]
  readonly fieldConfig?: {
    readonly defaults: {
      readonly unit?: string
      readonly thresholds?: { readonly steps: readonly { readonly value: number | null }[] }
    }
  }
}

export interface Variable {
  readonly name: string
  readonly type: string
  readonly query?: string | { readonly query: string }
  readonly regex?: string
  readonly multi?: boolean
  readonly includeAll?: boolean
  readonly allValue?: string | null
  readonly current?: { readonly value?: string | readonly string[] }
}

/** What Grafana would put for its own variables where half a minute is shown. */
const BUILT_IN: Readonly<Record<string, string>> = {
  __interval: '1s',
  __interval_ms: '1000',
  __rate_interval: '5s',
  __range: '30s',
  __range_s: '30',
  __range_ms: '30000',
}

/** Not `$1`, which is the group of a regular expression. */
const VARIABLE = /\$([a-z_]\w*)|\$\{([a-z_]\w*)(?::\w+)?\}|\[\[([a-z_]\w*)(?::\w+)?\]\]/gi

/** Reads a dashboard as it is exported, provisioned, or sent to Grafana's API, where it is wrapped. */
export function readDashboard(file: string): DashboardJson {
  const json = JSON.parse(readFileSync(file, 'utf8'))
  return json.dashboard ?? json
}

/** All panels, whatever rows they are in; rows are not among them. */
export function panelsOf({ panels = [], rows = [] }: DashboardJson): PanelJson[] {
  const unfold = (panel: PanelJson): PanelJson[] => [panel, ...(panel.panels ?? []).flatMap(unfold)]
  return [...panels, ...rows.flatMap(row => row.panels)].flatMap(unfold).filter(({ type }) => type !== 'row')
}

/** What is asked of Prometheus, by the title of who asks. Panels without a query are not among them. */
export function queriesOf(dashboard: DashboardJson): { title: string; expressions: string[] }[] {
  const marks = dashboard.annotations?.list ?? []
  return [
    ...panelsOf(dashboard).map(({ id, title, targets = [], datasource: ofPanel }) => ({
      title: title || `panel ${id}`,
      expressions: targets.flatMap(({ expr, datasource = ofPanel }) =>
        expr && isPrometheus(datasource) ? [expr] : [],
      ),
    })),
    ...marks.map(({ name, expr }) => ({ title: `annotation ${name}`, expressions: expr ? [expr] : [] })),
  ].filter(({ expressions }) => expressions.length > 0)
}

/** Others have expressions too, in languages of their own. */
function isPrometheus(datasource: unknown): boolean {
  const { type = 'prometheus' } = (datasource ?? {}) as { type?: string }
  return type === 'prometheus'
}

/** What stands for each variable of a dashboard; those whose query finds no values are left out. */
export async function resolve(
  { templating }: DashboardJson,
  prometheus: Prometheus,
): Promise<Record<string, string>> {
  const resolved: Record<string, string> = { ...BUILT_IN }
  for (const variable of templating?.list ?? []) {
    const values = await valuesOf(variable, resolved, prometheus)
    if (values.length > 0) resolved[variable.name] = choiceOf(variable, values)
  }
  return resolved
}

/**
 * Puts values in the place of `$name`, `${name}`, `${name:format}` and `[[name]]`.
 * @throws when one is missing
 */
export function substitute(text: string, values: Readonly<Record<string, string>>): string {
  return text.replace(VARIABLE, (_, ...names: (string | undefined)[]) => {
    const name = names.find(name => name !== undefined)!
    const value = values[name]
    if (value === undefined) throw new Error(`variable ${name} has no values, in ${text}`)
    return value
  })
}

async function valuesOf(
  { type, query = '', regex = '', current }: Variable,
  resolved: Readonly<Record<string, string>>,
  prometheus: Prometheus,
): Promise<readonly string[]> {
  const words = substitute(typeof query === 'string' ? query : query.query, resolved)
  switch (type) {
    case 'query':
      return matching(regex, await queriedValues(words, prometheus))
    case 'custom':
    case 'interval':
      // Each may be written as "name : value".
      return words.split(',').map(option => option.split(' : ').at(-1)!.trim())
    case 'datasource':
      return ['prometheus']
    case 'adhoc':
      return ['']
    default:
      return [words || [current?.value ?? ''].flat().join('|')]
  }
}

async function queriedValues(words: string, prometheus: Prometheus): Promise<string[]> {
  const [, name, inside = ''] = /^\s*(\w+)\((.*)\)\s*$/s.exec(words) ?? []
  if (name === 'label_values') {
    const [, selector, label] = /^(?:(.*),)?\s*(\w+)\s*$/s.exec(inside)!
    return prometheus.labelValues(label!, selector)
  }
  if (name === 'query_result') {
    const samples = await prometheus.query(inside)
    return samples.map(({ labels: { __name__ = '', ...labels }, value }) => {
      const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
      return `${__name__}{${pairs}} ${value}`
    })
  }
  if (name === 'metrics') return matching(`/${inside}/`, await prometheus.labelValues('__name__'))
  throw new Error(`a variable asks for ${words}, expected label_values, query_result or metrics`)
}

/** Those that the regex of a variable lets through, as far as its group goes. */
function matching(regex: string, values: string[]): string[] {
  const pattern = new RegExp(regex.replace(/^\/(.*)\/\w*$/s, '$1'))
  return values.flatMap(value => {
    const match = pattern.exec(value)
    return match === null ? [] : [match[1] ?? value]
  })
}

/** All values, where a variable takes several; else the one that was chosen when it was saved, or the first. */
function choiceOf({ multi, includeAll, allValue, current }: Variable, values: readonly string[]): string {
  if (includeAll && allValue) return allValue
  if (multi || includeAll) return `(${values.map(escaped).join('|')})`
  return values.find(value => value === current?.value) ?? values[0]!
}

/** For a regular expression inside a string of PromQL. */
function escaped(value: string): string {
  return value.replace(/[\\^$*+?.()|[\]{}]/g, String.raw`\\$&`)
}
