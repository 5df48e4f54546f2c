import { readdirSync, readFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Launched } from '../contenders/launch.ts'
import { fetchThrough } from '../http.ts'

/** What the server's process holds. */
export const RESOURCES = ['rss', 'heap', 'external', 'fds', 'threads'] as const
export type Resource = (typeof RESOURCES)[number]
/** Bytes, and numbers of file descriptors and threads. Heap and external are the main thread's. */
export type Sample = Readonly<Record<Resource, number>>

/** By the server's own account, `hailo_inference_requests_total` and `hailo_inference_errors_total`. */
export interface Counts {
  /** Windows with a result. */
  readonly answered: number
  /** Windows that got one of REFUSALS. */
  readonly refused: number
}

/** Why a server may answer a good window without a result. */
export const REFUSALS = ['overloaded', 'rate_limited', 'deadline_exceeded', 'model_unavailable'] as const

/** After a fault: a stuck worker alone takes 2 s to be noticed. */
const PATIENCE_MS = 30_000
const LOOK_INTERVAL_MS = 50

/** Looks at a server from outside, each time over a connection of its own. */
export class Observer {
  readonly #server: Pick<Launched, 'pid' | 'port'>
  readonly #fetch = fetchThrough(new Agent({ keepAlive: false }))

  constructor(server: Pick<Launched, 'pid' | 'port'>) {
    this.#server = server
  }

  /** Waits until the server is ready and has nothing in flight. @throws Error when that does not come */
  async quiet(): Promise<void> {
    const untilMs = performance.now() + PATIENCE_MS
    while (true) {
      const [readiness, metrics] = await Promise.all([this.#get('/readyz'), this.#get('/metrics')])
      if (readiness.status === 200 && metricIn(metrics.text, 'hailo_queue_depth') === 0) return
      if (performance.now() > untilMs)
        throw new Error(`the server did not come to rest within ${PATIENCE_MS} ms: ${readiness.text}`)
      await sleep(LOOK_INTERVAL_MS)
    }
  }

  /** The sum of a metric's rows, of those whose labels contain `labels`. */
  async metric(name: string, labels: string): Promise<number> {
    return metricIn((await this.#get('/metrics')).text, name, labels)
  }

  async look(): Promise<{ sample: Sample; counts: Counts }> {
    const { text } = await this.#get('/metrics')
    const { pid } = this.#server
    const errors = REFUSALS.map(code =>
      metricIn(text, 'hailo_inference_errors_total', `error_type="${code}"`),
    )
    return {
      counts: {
        answered: metricIn(text, 'hailo_inference_requests_total', 'status="success"'),
        refused: errors.reduce((sum, count) => sum + count, 0),
      },
      sample: {
        rss: residentBytes(pid),
        heap: metricIn(text, 'nodejs_heap_size_used_bytes'),
        external: metricIn(text, 'nodejs_external_memory_bytes'),
        fds: readdirSync(`/proc/${pid}/fd`).length,
        threads: readdirSync(`/proc/${pid}/task`).length,
      },
    }
  }

  async #get(path: string): Promise<{ status: number; text: string }> {
    const url = `http://127.0.0.1:${this.#server.port}${path}`
    const signal = AbortSignal.timeout(PATIENCE_MS)
    const { status, arrayBuffer } = await this.#fetch(url, { method: 'GET', headers: {}, signal })
    return { status, text: Buffer.from(await arrayBuffer()).toString() }
  }
}

/** What came to be since. */
export function since(before: Counts, now: Counts): Counts {
  return { answered: now.answered - before.answered, refused: now.refused - before.refused }
}

/** The sum of a metric's rows, of those whose labels contain `labels`. */
function metricIn(text: string, name: string, labels = ''): number {
  const rows = text.split('\n').filter(row => /^\w+/.exec(row)?.[0] === name && row.includes(labels))
  return rows.reduce((sum, row) => sum + Number(row.split(' ').at(-1)), 0)
}

function residentBytes(pid: number): number {
  // What the kernel calls kB are 1024 bytes.
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}
