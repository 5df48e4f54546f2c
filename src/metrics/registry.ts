import { Counter, Gauge, type Metric, Registry } from 'prom-client'
import { type CounterRow, type HistogramRow, histogramOf } from '../tally.ts'

/** Metrics by name, told in both formats. */
export class MetricRegistry {
  readonly #text = new Registry()
  readonly #openMetrics = new Registry<typeof Registry.OPENMETRICS_CONTENT_TYPE>()

  constructor() {
    this.#openMetrics.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  }

  counter<Label extends string>(name: string, help: string, labelNames: Label[] = []): Counter<Label> {
    const counter = new Counter({ name, help, labelNames, registers: [] })
    this.#register(counter)
    return counter
  }

  /** @param read sets its values at a scrape */
  gauge<Label extends string>(
    name: string,
    help: string,
    labelNames: Label[] = [],
    read?: (gauge: Gauge<Label>) => void,
  ): Gauge<Label> {
    const gauge = new Gauge<Label>({
      name,
      help,
      labelNames,
      registers: [],
      collect() {
        read?.(this)
      },
    })
    this.#register(gauge)
    return gauge
  }

  /** A counter whose values are counted elsewhere and copied at a scrape. */
  derived<Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    copy: (counter: Counter<Label>) => void,
  ): void {
    const counter = new Counter<Label>({
      name,
      help,
      labelNames,
      registers: [],
      collect() {
        this.reset()
        copy(this)
      },
    })
    this.#register(counter)
  }

  /** A counter that is counted in rows. */
  counted(name: string, help: string, labelNames: string[], rows: () => CounterRow[]): void {
    this.derived(name, help, labelNames, counter => {
      for (const { labels, count } of rows()) counter.inc({ ...labels }, count)
    })
  }

  /** A histogram that is counted in rows. */
  histogram(
    name: string,
    help: string,
    edges: readonly number[],
    rows: () => Iterable<Pick<HistogramRow, 'labels' | 'counts' | 'sum'>>,
  ): void {
    this.#register(histogramOf(name, help, edges, rows))
  }

  /** @param accept decides between OpenMetrics and the older text format */
  async scrape(accept: string): Promise<{ contentType: string; text: string }> {
    const registry = accept.includes('application/openmetrics-text') ? this.#openMetrics : this.#text
    return { contentType: registry.contentType, text: await registry.metrics() }
  }

  #register(metric: Metric): void {
    this.#text.registerMetric(metric)
    this.#openMetrics.registerMetric(forOpenMetrics(metric))
  }
}

/**
 * OpenMetrics names a counter without `_total`. prom-client renames the metric itself when it prints
 * that format, and the text format would lose the suffix too: so it is given an object of its own.
 */
function forOpenMetrics(metric: Metric): Metric {
  const { name, type } = metric as unknown as { name: string; type: string }
  const familyName = type === 'counter' ? name.replace(/_total$/, '') : name
  const get = async () => ({ ...(await metric.get()), name: familyName })
  return { name: familyName, type, get } as unknown as Metric
}
