import { execFileSync } from 'node:child_process'
import { PROJECT_FOLDER } from '../src/project.ts'
import { RefusedError } from './version.ts'

/** The first npm with `npm sbom`. Debian 13 has 9. */
const FIRST_NPM = 10

/**
 * To be asked before anything is written.
 * @throws RefusedError
 */
export function requireNpmForSbom(): void {
  const version = execFileSync('npm', ['--version'], { encoding: 'utf8' }).trim()
  if (Number.parseInt(version, 10) >= FIRST_NPM) return
  throw new RefusedError(
    `the SBOM takes npm ${FIRST_NPM} or newer, this is ${version}: sudo npm install --global npm@11 brings one, and npm run package:npm makes the npm package alone with any`,
  )
}

/**
 * CycloneDX, without the number and the time that npm gives each one.
 * @param made when the version was
 */
export function sbom(made: Date): string {
  const told = execFileSync('npm', ['run', '--silent', 'sbom:print'], {
    cwd: PROJECT_FOLDER,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 64 * 1024 * 1024,
  })
  const { serialNumber: _, ...rest } = JSON.parse(told)
  const metadata = { ...rest.metadata, timestamp: made.toISOString() }
  return `${JSON.stringify({ ...rest, metadata }, null, 2)}\n`
}
