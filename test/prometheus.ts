import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parse, stringify } from 'yaml'
import { freePort } from './server.ts'

/** Whether Prometheus is installed: Debian's package `prometheus`. */
export const HAS_PROMETHEUS = spawnSync('prometheus', ['--version']).status === 0

/** Often enough that a rate over some seconds has something to go by. */
const SCRAPE_INTERVAL = '200ms'
/** Bounds every answer, so that a Prometheus that stays silent fails the test with a reason. */
const PATIENCE_MS = 30_000

export interface Rule {
  readonly name: string
  /** False: it records. */
  readonly alerts: boolean
  readonly expression: string
}

/** One row of an answer. */
export interface Sample {
  readonly labels: Record<string, string>
  readonly value: number
}

type Value = [timeSeconds: number, value: string]
type InstantAnswer =
  | { resultType: 'scalar'; result: Value }
  | { resultType: 'vector'; result: { metric: Record<string, string>; value: Value }[] }

/**
 * A real Prometheus that scrapes one server, under the names that it has in the shipped configuration. Beside it there are
 * jobs that are not to be taken for it: itself, and one that exports the same names.
 */
export class Prometheus {
  readonly #url: string
  readonly #end: () => Promise<void>

  private constructor(url: string, end: () => Promise<void>) {
    this.#url = url
    this.#end = end
  }

  /** @param ruleFiles evaluated as often as it scrapes, whatever interval they ask for */
  static async start({ port, ruleFiles }: { port: number; ruleFiles: readonly string[] }) {
    const folder = mkdtempSync(join(tmpdir(), 'prometheus-'))
    const address = `127.0.0.1:${await freePort()}`
    const config = {
      global: { scrape_interval: SCRAPE_INTERVAL, evaluation_interval: SCRAPE_INTERVAL },
      rule_files: ruleFiles.map((file, index) => copyWithoutIntervals(file, folder, index)),
      scrape_configs: [
        {
          job_name: 'hailo-inference',
          static_configs: [{ targets: [`127.0.0.1:${port}`], labels: { instance: 'hailo-inference:9000' } }],
        },
        { job_name: 'prometheus', static_configs: [{ targets: [address] }] },
        {
          job_name: 'others',
          static_configs: [{ targets: [`127.0.0.1:${port}`], labels: { instance: 'others:8080' } }],
        },
      ],
    }
    writeFileSync(join(folder, 'prometheus.yml'), stringify(config))
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(folder, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=${address}`,
        '--log.level=error',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    )
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', text => (stderr += text))
    const ended = once(child, 'exit')
    const prometheus = new Prometheus(`http://${address}`, async () => {
      child.kill('SIGKILL')
      await ended
      rmSync(folder, { recursive: true })
    })
    while (!(await prometheus.#ready())) {
      if (child.exitCode !== null) {
        await prometheus.stop()
        throw new Error(`Prometheus ended with ${child.exitCode}:\n${stderr}`)
      }
      await sleep(20)
    }
    return prometheus
  }

  /** @throws what Prometheus says of an expression that it does not understand or cannot evaluate */
  async query(expression: string): Promise<Sample[]> {
    const answer = await this.#ask<InstantAnswer>('query', { query: expression })
    const rows = answer.resultType === 'scalar' ? [{ metric: {}, value: answer.result }] : answer.result
    return rows.map(({ metric, value: [, value] }) => ({ labels: metric, value: Number(value) }))
  }

  /** @param selector of the series that count; without it all do */
  labelValues(label: string, selector?: string): Promise<string[]> {
    return this.#ask(`label/${label}/values`, selector === undefined ? {} : { 'match[]': selector })
  }

  stop(): Promise<void> {
    return this.#end()
  }

  #ready(): Promise<boolean> {
    return fetch(`${this.#url}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    )
  }

  async #ask<Data>(path: string, parameters: Record<string, string>): Promise<Data> {
    const answer = await fetch(`${this.#url}/api/v1/${path}?${new URLSearchParams(parameters)}`, {
      signal: AbortSignal.timeout(PATIENCE_MS),
    })
    const { data, error } = (await answer.json()) as { data: Data; error?: string }
    if (error !== undefined) throw new Error(error)
    return data
  }
}

/** Recording rules and alerts of a file, in order. */
export function rulesOf(file: string): Rule[] {
  const rules = groupsOf(file).flatMap(({ rules }) => rules)
  return rules.map(({ record, alert = '', expr }) => {
    return { name: record ?? alert, alerts: record === undefined, expression: expr }
  })
}

interface Group {
  interval?: string
  readonly rules: { readonly record?: string; readonly alert?: string; readonly expr: string }[]
}

function groupsOf(file: string): Group[] {
  return parse(readFileSync(file, 'utf8')).groups
}

function copyWithoutIntervals(file: string, folder: string, index: number): string {
  const groups = groupsOf(file)
  for (const group of groups) delete group.interval
  const copy = join(folder, `${index}-${basename(file)}`)
  writeFileSync(copy, stringify({ groups }))
  return copy
}
