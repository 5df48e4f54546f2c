import { type Certificate, certificateOf, readCertificateFiles } from '../certificate.ts'
import type { TlsConfig } from '../config.ts'
import type { Logger } from '../log.ts'

const LOOK_INTERVAL_MS = 1000
/** Each keeps up to 0.2 MB for as long as the process lives: uWebSockets gives nothing of an app back, closed or not. */
const RENEWALS_WORTH_A_RESTART = 100

/** Counts what comes of another certificate. */
export interface CertificateTally {
  shown(certificate: Certificate): void
  renewed(result: 'done' | 'failed'): void
}

interface Options {
  readonly tls: TlsConfig
  /** Of the files that are shown now. */
  readonly sha256: string
  /** Shows what lies in the files now to those who connect from here on. @throws when it cannot */
  readonly show: () => void
  readonly tally: CertificateTally
  readonly log: Logger
}

/** Looks whether other certificates have come into the files. A bad one changes nothing, and is told once. */
export class CertificateWatch {
  readonly #options: Options
  /** Of the files as they were last looked at, good or bad. */
  #sha256: string
  /** Of the files that are shown. */
  #shownSha256: string
  #renewals = 0
  /** Why the files could not be read when last looked at. Null: they could. */
  #unreadable: string | null = null

  constructor(options: Options) {
    this.#options = options
    this.#sha256 = options.sha256
    this.#shownSha256 = options.sha256
  }

  watch(): void {
    setTimeout(() => void this.#look().finally(() => this.watch()), LOOK_INTERVAL_MS).unref()
  }

  /** Looks now, and tells what comes of it, also when nothing has changed. */
  async reload(): Promise<void> {
    this.#sha256 = ''
    this.#unreadable = null
    await this.#look()
  }

  async #look(): Promise<void> {
    const { tls, show, tally, log } = this.#options
    const files = await readCertificateFiles(tls).catch(({ code }) => String(code))
    if (typeof files === 'string') return this.#tellUnreadable(files)
    this.#unreadable = null
    if (files.sha256 === this.#sha256) return
    this.#sha256 = files.sha256
    if (files.sha256 === this.#shownSha256) {
      log.info('the certificate is unchanged')
      return
    }
    try {
      const certificate = certificateOf(files)
      show()
      this.#shownSha256 = files.sha256
      tally.shown(certificate)
      tally.renewed('done')
      log.info({ ...certificate }, 'another certificate is shown from here on')
      this.#renewals++
      if (this.#renewals % RENEWALS_WORTH_A_RESTART === 0) this.#tellMemory()
    } catch (error) {
      this.#tellFailed((error as Error).message)
    }
  }

  #tellMemory(): void {
    const { log } = this.#options
    log.warn({ renewals: this.#renewals }, 'each certificate keeps some memory, restart at a quiet time')
  }

  #tellUnreadable(code: string): void {
    if (this.#unreadable === code) return
    this.#unreadable = code
    this.#tellFailed(`TLS_CERT and TLS_KEY cannot be read: ${code}`)
  }

  #tellFailed(cause: string): void {
    const { tally, log } = this.#options
    tally.renewed('failed')
    log.error({ cause }, 'the new certificate is not shown, the old one is')
  }
}
