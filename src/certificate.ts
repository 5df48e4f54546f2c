import { createHash, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import type { TlsConfig } from './config.ts'

/** The certificate that clients are shown, and its key, as they lie in their files. */
export interface CertificateFiles {
  readonly certPem: string
  readonly keyPem: string
  /** Of both. */
  readonly sha256: string
}

export interface Certificate {
  /** Common name, or what else it is issued to. Not checked: printable or not. */
  readonly subject: string
  /** Unix time, ms. */
  readonly notAfterMs: number
}

/** BoringSSL, which uWebSockets brings along, knows fewer kinds of keys than Node's OpenSSL: ed448 is none of them. */
export class UnusableKeyError extends Error {
  constructor() {
    super('uWebSockets cannot use this kind of key, expected RSA or P-256')
  }
}

/** @throws when one of them cannot be read */
export async function readCertificateFiles({ certPath, keyPath }: TlsConfig): Promise<CertificateFiles> {
  const [certPem, keyPem] = await Promise.all([readFile(certPath, 'utf8'), readFile(keyPath, 'utf8')])
  return { certPem, keyPem, sha256: createHash('sha256').update(`${certPem}\0${keyPem}`).digest('hex') }
}

/** @throws Error in words when they are no certificate and key that fit together. Says nothing of the key itself. */
export function certificateOf({
  certPem,
  keyPem,
}: Pick<CertificateFiles, 'certPem' | 'keyPem'>): Certificate {
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(certPem)
  } catch {
    throw new Error('TLS_CERT holds no certificate in PEM')
  }
  try {
    createSecureContext({ cert: certPem, key: keyPem })
  } catch {
    throw new Error('TLS_KEY holds no key in PEM, without a passphrase, that fits the certificate')
  }
  return { subject: certificate.subject.replaceAll('\n', ', '), notAfterMs: Date.parse(certificate.validTo) }
}
