import { type Certificate, certificateOf, readCertificateFiles } from '../certificate.ts'
import type { TlsConfig } from '../config.ts'
import type { Logger } from '../log.ts'

const LOOK_INTERVAL_MS = 1000

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

  constructor(options: Options) {
    this.#options = options
    this.#sha256 = options.sha256
  }

  watch(): void {
    setTimeout(() => void this.#look().finally(() => this.watch()), LOOK_INTERVAL_MS).unref()
  }

  /** Looks now, and tells what comes of it, also when nothing has changed. */
  async reload(): Promise<void> {
    this.#sha256 = ''
    await this.#look()
  }

  async #look(): Promise<void> {
    const { tls, show, tally, log } = this.#options
    try {
      const files = await readCertificateFiles(tls).catch(({ code }) => {
        throw new Error(`TLS_CERT and TLS_KEY cannot be read: ${code}`)
      })
      if (files.sha256 === this.#sha256) return
      this.#sha256 = files.sha256
      const certificate = certificateOf(files)
      show()
      tally.shown(certificate)
      tally.renewed('done')
      log.info({ ...certificate }, 'another certificate is shown from here on')
    } catch (error) {
      const { message } = error as Error
      if (this.#sha256 === message) return
      // Where the files cannot be read there is nothing else to know the same fault by.
      if (message.includes('cannot be read')) this.#sha256 = message
      tally.renewed('failed')
      log.error({ cause: message }, 'the new certificate is not shown, the old one is')
    }
  }
}
