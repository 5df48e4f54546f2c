import type { MetricRegistry } from './registry.ts'

const RESULTS = ['done', 'failed'] as const

/** Of the certificate that clients are shown. */
export class TlsMetrics {
  readonly #notAfter
  readonly #renewals

  constructor(registry: MetricRegistry) {
    this.#notAfter = registry.gauge(
      'hailo_tls_certificate_expiry_seconds',
      'Unix time at which the certificate that is shown ends',
    )
    this.#renewals = registry.counter(
      'hailo_tls_renewals_total',
      'Other certificates that came while serving: done, or failed, and then the old one is still shown',
      ['result'],
    )
    for (const result of RESULTS) this.#renewals.inc({ result }, 0)
  }

  shown({ notAfterMs }: { readonly notAfterMs: number }): void {
    this.#notAfter.set(notAfterMs / 1000)
  }

  renewed(result: (typeof RESULTS)[number]): void {
    this.#renewals.inc({ result })
  }
}
