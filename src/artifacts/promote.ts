import { closeSync, fsyncSync, openSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { ArtifactError, CURRENT, servedVersion, versionsIn } from './current.ts'
import { readHistory, remember, versionBefore } from './history.ts'
import { verify } from './verify.ts'

/** What was served and what is from now on. They are the same where nothing had to be done. */
export interface Promotion {
  readonly from: string | null
  readonly to: string
}

/**
 * Verifies a version and lets the link lead to it, at once for who follows it.
 * @throws ArtifactError when the version is not good or the folder cannot be written to; then nothing has changed
 */
export function promote(folder: string, version: string): Promise<Promotion> {
  return change(folder, version, 'promote')
}

/**
 * The same with the version that was served before the current one.
 * @throws ArtifactError as promote(), and when none is known
 */
export function rollback(folder: string): Promise<Promotion> {
  const current = servedVersion(folder)
  const version = versionBefore(current, readHistory(folder))
  if (version === null) {
    throw new ArtifactError(
      `Cannot roll back: nothing is known to have been served before ${current ?? 'now'}. Promote a version instead`,
    )
  }
  return change(folder, version, 'rollback')
}

async function change(folder: string, version: string, by: 'promote' | 'rollback'): Promise<Promotion> {
  const refused = `Cannot ${by === 'promote' ? 'promote' : 'roll back to'} ${version}, nothing has changed:`
  const { problems } = await verify(folder, version)
  if (problems.length > 0) {
    throw new ArtifactError(`${refused}\n${problems.join('\n')}`)
  }
  const from = servedVersion(folder) ?? onlyOther(folder, version)
  try {
    if (from !== version) remember(folder, { by, from, to: version })
    switchLink(folder, version)
  } catch (cause) {
    const { code, syscall } = cause as NodeJS.ErrnoException
    if (syscall === undefined) throw cause
    throw new ArtifactError(
      `${refused} ${folder} cannot be written to (${code} at ${syscall}). Run it as its owner, on a file system that is not mounted read-only`,
    )
  }
  return { from, to: version }
}

/** What was served without a link until `version` came to lie beside it. */
function onlyOther(folder: string, version: string): string | null {
  const [only, ...others] = versionsIn(folder).filter(name => name !== version)
  return only === undefined || others.length > 0 ? null : only
}

/** Whoever reads the link at any moment gets the old version or the new one, also when this process is killed. */
function switchLink(folder: string, version: string): void {
  const next = join(folder, `.${CURRENT}.${process.pid}`)
  rmSync(next, { force: true }) // of an earlier process with this id that was killed right here
  symlinkSync(version, next)
  try {
    renameSync(next, join(folder, CURRENT))
  } catch (error) {
    rmSync(next, { force: true })
    throw error
  }
  const file = openSync(folder, 'r')
  try {
    fsyncSync(file) // or a power cut may take the change back
  } finally {
    closeSync(file)
  }
}
