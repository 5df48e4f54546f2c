import type { Live, Tick } from '../../src/live/answer.ts'
import { byId, withText, write, writeFacts, writeInto } from './elements.ts'
import { failedOf, Latencies, LIMIT_MS, perSecond, shedOf } from './history.ts'

/** What the page says in words and numbers: the state, the figures, the texts of the charts, the tables. */

const LEVELS = [
  'there is room',
  'it fills up',
  'it is nearly full, bulk waits',
  'there is room for live windows alone',
  'nobody can connect anew',
] as const
const FIGURES_SECONDS = 10

export type State = 'connecting' | 'live' | 'pressed' | 'not ready' | 'lost'

/** Says how things are. A screen reader reads what changes here, so it says nothing that changes all the time. */
export function writeState(state: State, words: string): void {
  byId('state', HTMLElement).setAttribute('data-state', state)
  write('state', words)
}

export function stateOf({ now, provenance }: Live): [State, string] {
  if (!now.ready) return ['not ready', `Connected, but not ready: ${now.reasons.join(', ')}`]
  const who = {
    hailo: `${provenance.device} answers`,
    onnx: 'ONNX Runtime answers on the CPU',
    stub: 'the stub answers, with made-up results',
  }
  const answers = now.fallback ?? now.answering.map(backend => who[backend]).join(' and ')
  const asMeant = now.fallback === null && !now.answering.includes('stub') && now.level < 2
  return [asMeant ? 'live' : 'pressed', `Live: ${answers}, ${LEVELS[now.level]}`]
}

export function writeFigures(ticks: readonly Tick[], edgesMs: readonly number[]): void {
  const recent = ticks.slice(-FIGURES_SECONDS)
  const latencies = new Latencies(recent, edgesMs)
  write('figure-rate', count(perSecond(recent, tick => tick.answered)))
  write('figure-p50', milliseconds(latencies.percentile(0.5)))
  write('figure-p99', milliseconds(latencies.percentile(0.99)))
  write('figure-late', latencies.total === 0 ? '–' : (100 * latencies.above(LIMIT_MS)).toFixed(2))
  write('figure-shed', count(perSecond(recent, shedOf)))
}

export function writeSummaries(ticks: readonly Tick[], latencies: Latencies, { now }: Live): void {
  const { total } = latencies
  const sum = (of: (tick: Tick) => number) => ticks.reduce((all, tick) => all + of(tick), 0)
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map(share => milliseconds(latencies.percentile(share)))
  write(
    'latency-summary',
    total === 0
      ? 'No answers in the last two minutes.'
      : `Half of ${total.toLocaleString('en')} answers within ${p50} ms, 95 % within ${p95} ms, 99 % within ${p99} ms; ${(100 * latencies.above(LIMIT_MS)).toFixed(2)} % above ${LIMIT_MS} ms.`,
  )
  const most = Math.max(0, ...ticks.map(tick => perSecond([tick], ({ answered }) => answered)))
  write(
    'throughput-summary',
    `At most ${count(most)} windows in a second; ${sum(shedOf).toLocaleString('en')} shed, ${sum(failedOf).toLocaleString('en')} failed otherwise${codesOf(ticks)}.`,
  )
  const longest = Math.max(0, ...ticks.map(tick => tick.wait_ms))
  const depth = ticks.at(-1)?.depth ?? 0
  write(
    'queue-summary',
    `A window waited ${milliseconds(longest)} ms at most; ${depth} of ${now.capacity} slots are taken now.`,
  )
}

export function writeTables({ now, provenance }: Live): void {
  writeWorkers(now.workers)
  const { device } = now
  writeFacts(
    'device',
    device === null
      ? { Device: provenance.device }
      : {
          Device: device.name,
          Address: device.id,
          Temperature:
            device.temperature_celsius === null ? 'not told' : `${device.temperature_celsius.toFixed(1)} °C`,
          Throttled: device.throttled ? 'yes, it is slowed down' : 'no',
          Utilisation: `${device.utilization_percent.toFixed(0)} %`,
          Opened: device.generation === 1 ? 'once' : `${device.generation} times`,
        },
  )
  writeFacts('provenance', {
    Model: `${provenance.model} ${provenance.model_version}`,
    'SHA-256': shasOf(provenance.model_sha256),
    Expected: provenance.config_ok ? 'yes' : 'no: another model was expected',
    'Golden check': provenance.golden,
    Mode: provenance.mode,
    Configuration: provenance.config_version,
    Deadline: `${provenance.deadline_ms} ms`,
    Version: provenance.version,
    Up: duration(provenance.uptime_s),
  })
}

/** Keeps rows and cells that stay: what somebody selects or reads there must not be made anew each second. */
function writeWorkers(workers: Live['now']['workers']): void {
  const body = byId('workers', HTMLTableSectionElement)
  while (body.rows.length > workers.length) body.deleteRow(-1)
  while (body.rows.length < workers.length) addWorkerRow(body)
  for (const [index, worker] of workers.entries()) {
    const age = worker.heartbeat_age_s
    const texts = [
      worker.backend ?? 'nothing',
      `${worker.in_flight} of ${worker.slots}`,
      `${Math.round(worker.busy * 100)} %`,
      age === null ? 'none yet' : age < 1 ? 'just now' : `${age.toFixed(0)} s ago`,
    ]
    for (const [column, text] of texts.entries()) writeInto(body.rows[index]!.cells[column + 1]!, text)
  }
}

function addWorkerRow(body: HTMLTableSectionElement): void {
  const name = withText('th', String(body.rows.length))
  name.scope = 'row'
  const row = body.insertRow()
  row.append(name, ...Array.from({ length: 4 }, () => document.createElement('td')))
}

/** With its backend each, where there is more than one. */
function shasOf(byBackend: Live['provenance']['model_sha256']): string {
  const all = Object.entries(byBackend)
  return all.map(([backend, sha256]) => (all.length === 1 ? sha256 : `${backend} ${sha256}`)).join(', ')
}

/** Such as `: 3 invalid_window, 1 draining`. */
function codesOf(ticks: readonly Tick[]): string {
  const totals = new Map<string, number>()
  for (const { failed } of ticks) {
    for (const [code, windows] of Object.entries(failed)) totals.set(code, (totals.get(code) ?? 0) + windows)
  }
  totals.delete('overloaded')
  const words = [...totals].map(([code, windows]) => `${windows.toLocaleString('en')} ${code}`)
  return words.length === 0 ? '' : ` (${words.join(', ')})`
}

/** Three digits at least, as many as tell something. */
function count(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(value === 0 ? 0 : 1)
}

function milliseconds(value: number | null): string {
  if (value === null) return '–'
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2)
}

function duration(seconds: number): string {
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ]
  if (days > 0) return `${days} d ${hours} h`
  if (hours > 0) return `${hours} h ${minutes} min`
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`
}
